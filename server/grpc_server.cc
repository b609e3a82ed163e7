#include "server/grpc_server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/grpc_admin.h"
#include "server/grpc_batches.h"
#include "server/grpc_service.h"

namespace holdfast {
namespace {

// After our own calls have ended, for what merely watches: health watchers and reflection.
constexpr absl::Duration kWatchersGrace = absl::Milliseconds(50);

// What all connections together may hold in messages on their way, keys known or not.
constexpr size_t kTransportBytesMax = 256 << 20;

absl::StatusOr<std::string> ReadPem(const std::string& path, const char* what) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad() || text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read the TLS ", what, " ", path, "; give a PEM file"));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(
    const std::optional<TlsConfig>& tls) {
  if (!tls.has_value()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options;
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  ASSIGN_OR_RETURN(pair.cert_chain, ReadPem(tls->certificate_path, "certificate"));
  ASSIGN_OR_RETURN(pair.private_key, ReadPem(tls->key_path, "key"));
  options.pem_key_cert_pairs.push_back(std::move(pair));
  return grpc::SslServerCredentials(options);
}

class GrpcServerImpl final : public GrpcServer {
 public:
  GrpcServerImpl(const GrpcServerOptions& options, GenerationService& service,
                 const Authenticator& authenticator, std::function<Readiness()> readiness)
      : service_(service, authenticator, std::move(readiness), options.calls_max,
                 options.write_timeout, options.tracer),
        batches_(options.background, authenticator, service_.calls(), options.files) {
    if (options.kv_admin != nullptr) {
      admin_.emplace(*options.kv_admin, authenticator, options.write_timeout);
    }
  }
  ~GrpcServerImpl() override { Shutdown(absl::InfinitePast()); }

  absl::Status Listen(const std::string& address,
                      const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    grpc::ServerBuilder builder;
    grpc::ResourceQuota quota("holdfast");
    builder.SetResourceQuota(quota.Resize(kTransportBytesMax));
    builder.AddListeningPort(address, credentials, &port_);
    builder.RegisterService(&service_);
    builder.RegisterService(&batches_);
    if (admin_.has_value()) builder.RegisterService(&*admin_);
    builder.SetMaxReceiveMessageSize(static_cast<int>(kRequestBodyBytesMax));
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                               static_cast<int>(kRequestHeaderBytesMax));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kGrpcStreamsMax);
    // Else a second daemon would quietly share the port and take half of the calls.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ <= 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot serve gRPC on ", address,
                       ": the address is taken or not ours, or certificate and key do not match"));
    }
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void SetReadiness(Readiness readiness) override {
    if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) {
      const bool serving = readiness == Readiness::kReady;
      health->SetServingStatus(serving);  // all services, "" among them
      health->SetServingStatus(v1::Generation::service_full_name(), serving);
    }
  }

  void BeginDrain() override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    BeginDrainLocked();
  }

  void Shutdown(absl::Time deadline) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (server_ == nullptr || stopped_) return;
    stopped_ = true;
    BeginDrainLocked();
    service_.calls().WaitNone(deadline);
    // The health service's watchers never end by themselves. Again and again, as the other thread
    // may not have begun, and a call may just have come.
    while (!ended_.WaitForNotificationWithTimeout(kWatchersGrace)) {
      grpc_server_cancel_all_calls(server_->c_server());
    }
    closer_.join();
  }

 private:
  // GOAWAY on each connection: calls that run go on, the next finds another server, if the address
  // has another. gRPC's Shutdown closes the port, sends it, and waits for the calls.
  void BeginDrainLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (server_ == nullptr || closer_.joinable() || ended_.HasBeenNotified()) return;
    SetReadiness(Readiness::kDraining);
    closer_ = std::thread([this] {
      server_->Shutdown();
      ended_.Notify();
    });
  }

  GrpcService service_;
  GrpcBatches batches_;
  std::optional<GrpcAdmin> admin_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Notification ended_;  // all calls
  std::thread closer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Create(
    GrpcServerOptions options, GenerationService& service, const Authenticator& authenticator,
    std::function<Readiness()> readiness) {
  ASSIGN_OR_RETURN(const auto credentials, MakeCredentials(options.tls));
  // Of the process: they take effect on servers built after them.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  const Readiness now = readiness();
  auto server =
      std::make_unique<GrpcServerImpl>(options, service, authenticator, std::move(readiness));
  RETURN_IF_ERROR(server->Listen(options.address, credentials));
  server->SetReadiness(now);
  return server;
}

}  // namespace holdfast
