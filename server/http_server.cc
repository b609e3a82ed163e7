#include "server/http_server.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "config/base/status_macros.h"
#include "server/http_listener.h"
#include "server/http_metrics.h"
#include "server/http_streams.h"
#include "server/openai_api.h"
#include "server/ready_signal.h"

namespace holdfast {
namespace {

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(HttpServerOptions options, GenerationService& service,
                 const Authenticator& authenticator, MetricsRegistry& metrics,
                 std::function<Readiness()> readiness)
      : options_(std::move(options)),
        readiness_(std::move(readiness)),
        http_metrics_(metrics),
        gate_(std::make_shared<IoGate>()),
        streams_(options_.kept_streams, service, metrics, gate_,
                 {.timeout = options_.request_timeout, .keep_alive = options_.stream_keep_alive},
                 [this](int change) { CountInFlight(change); }),
        api_(
            {.version = options_.version,
             .system_fingerprint = options_.system_fingerprint,
             .request_timeout = options_.request_timeout,
             .stream_keep_alive = options_.stream_keep_alive,
             .kv_admin = options_.kv_admin,
             .background = options_.background,
             .ui = options_.ui},
            service, streams_, metrics, [this] { return ReadinessNow(); }, gate_),
        admin_options_(OptionsOfAdmin(options_)),
        listener_(io_, options_.admin ? HttpDoor::kTenants : HttpDoor::kOnly, options_,
                  authenticator, http_metrics_, Hooks()) {
    if (!options_.admin) return;
    admin_listener_.emplace(io_, HttpDoor::kAdministrators, admin_options_,
                            *options_.admin->authenticator, http_metrics_, Hooks());
  }

  ~AsioHttpServer() override { Stop(); }

  absl::Status Begin() {
    RETURN_IF_ERROR(listener_.Listen());
    if (admin_listener_) RETURN_IF_ERROR(admin_listener_->Listen());
    RETURN_IF_ERROR(gate_->Begin(io_));
    port_ = listener_.port();
    admin_port_ = admin_listener_ ? admin_listener_->port() : 0;
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  int port() const override { return port_; }
  int admin_port() const override { return admin_port_; }
  void BeginDrain() override {
    draining_.store(true);
    gate_->Post([this] { streams_.BeginDrain(); });
  }

  bool WaitIdle(absl::Time deadline) override {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithDeadline(absl::Condition(this, &AsioHttpServer::Idle), deadline);
  }

  void Stop() override {
    absl::MutexLock lock(&stop_mutex_);
    if (!thread_.joinable()) return;
    draining_.store(true);
    asio::post(io_, [this] {
      streams_.Close();
      listener_.Close();
      if (admin_listener_) admin_listener_->Close();
    });
    thread_.join();  // its tasks all end: every wait of theirs has just been cut
  }

 private:
  static HttpServerOptions OptionsOfAdmin(HttpServerOptions options) {
    if (options.admin) options.address = options.admin->address;
    options.loopback_names_only = false;  // there is no way in without a key
    return options;
  }
  HttpListener::Hooks Hooks() {
    return {.endpoints = [this](HttpExchange& exchange) { return api_.Handle(exchange); },
            .readiness = [this] { return ReadinessNow(); },
            .on_in_flight = [this](int change) { CountInFlight(change); },
            .on_all_gone = [this] { OnListenerGone(); }};
  }
  // On the I/O thread, of each.
  void OnListenerGone() {
    if (++num_gone_ == (admin_listener_ ? 2 : 1)) gate_->Shut();
  }
  void Run() {
    try {
      io_.run();
    } catch (const std::exception& thrown) {
      // Each connection's task has its own net; what comes here is a bug of the loop itself.
      std::fprintf(stderr, "HTTP thread: %s\n", thrown.what());
      std::abort();
    }
  }
  Readiness ReadinessNow() const { return draining_.load() ? Readiness::kDraining : readiness_(); }
  void CountInFlight(int change) {
    http_metrics_.AddInFlight(change);
    absl::MutexLock lock(&mutex_);
    num_in_flight_ += change;
  }
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return num_in_flight_ == 0; }

  const HttpServerOptions options_;
  const std::function<Readiness()> readiness_;
  std::atomic<bool> draining_{false};
  HttpMetrics http_metrics_;
  asio::io_context io_{1};  // one thread: no locks inside
  const std::shared_ptr<IoGate> gate_;
  HttpStreams streams_;
  OpenAiApi api_;
  const HttpServerOptions admin_options_;
  HttpListener listener_;
  std::optional<HttpListener> admin_listener_;
  int num_gone_ = 0;
  int port_ = 0, admin_port_ = 0;
  absl::Mutex mutex_;
  int num_in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Mutex stop_mutex_;  // two stops at once: the second waits for the first
  std::thread thread_ ABSL_GUARDED_BY(stop_mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(
    HttpServerOptions options, GenerationService& service, const Authenticator& authenticator,
    MetricsRegistry& metrics, std::function<Readiness()> readiness) {
  auto server = std::make_unique<AsioHttpServer>(std::move(options), service, authenticator,
                                                 metrics, std::move(readiness));
  RETURN_IF_ERROR(server->Begin());
  return server;
}

}  // namespace holdfast
