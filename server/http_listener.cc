#include "server/http_listener.h"

#include <openssl/ssl.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/base/clock.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"
#include "server/answer_head.h"
#include "server/http_head.h"
#include "server/session_headers.h"
#include "server/tracer.h"

namespace holdfast {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Parser = http::request_parser<http::string_body>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kUploadPartBytes = 8 << 20;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }
absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

Conn::TimePoint After(absl::Duration duration) {
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(duration);
}

size_t BodyBytesMax(const HttpServerOptions& options, const Route* route) {
  return route != nullptr && route->is_upload ? options.upload_bytes_max : options.body_bytes_max;
}

OpenAiError OfParseError(error_code error, const HttpServerOptions& options,
                         const Route* route = nullptr) {
  if (error == http::error::header_limit) {
    return HttpError(
        431, "header_too_large",
        absl::StrCat("the request's header is larger than ", options.header_bytes_max, " bytes"));
  }
  if (error == http::error::body_limit) {
    return HttpError(413, "body_too_large",
                     absl::StrCat("the request's body is larger than ",
                                  BodyBytesMax(options, route), " bytes; send less"));
  }
  if (error == http::error::bad_version) {
    return HttpError(505, "http_version_not_supported", "use HTTP/1.1");
  }
  return MalformedRequest(absl::StrCat("the request is not HTTP/1.1: ", error.message()));
}

OpenAiError TooSlow(const char* what, absl::Duration timeout) {
  return HttpError(408, "request_timeout",
                   absl::StrCat("the request's ", what, " did not arrive within ",
                                absl::FormatDuration(timeout)));
}

}  // namespace

// A share of bodies_bytes_max, given back at the end of the request.
class HttpListener::BodyLease final {
 public:
  explicit BodyLease(HttpListener& listener) : listener_(listener) {}
  ~BodyLease() { listener_.body_bytes_held_ -= bytes_; }
  BodyLease(const BodyLease&) = delete;

  [[nodiscard]] bool GrowTo(size_t bytes) {
    if (bytes <= bytes_) return true;
    const size_t more = bytes - bytes_;
    if (listener_.body_bytes_held_ + more > listener_.options_.bodies_bytes_max) return false;
    listener_.body_bytes_held_ += more;
    bytes_ = bytes;
    return true;
  }

 private:
  HttpListener& listener_;
  size_t bytes_ = 0;
};

// One request in progress; over however its task ends, or a drain would wait for it for ever.
class HttpListener::InFlight final {
 public:
  explicit InFlight(HttpListener& listener) : listener_(listener) {
    listener_.hooks_.on_in_flight(+1);
  }
  ~InFlight() { listener_.hooks_.on_in_flight(-1); }
  InFlight(const InFlight&) = delete;

 private:
  HttpListener& listener_;
};

// The requests of one connection, in order. Lives in Serve's frame.
class HttpListener::Connection final {
 public:
  Connection(HttpListener& listener, Conn& conn) : listener_(listener), conn_(conn) {}

  // True: answered, and the next request may follow. False: close; with `graceful()` politely.
  asio::awaitable<bool> ServeOne();
  bool graceful() const { return graceful_; }

 private:
  const HttpServerOptions& options() const { return listener_.options_; }
  bool first() const { return num_requests_ == 0; }

  asio::awaitable<std::optional<OpenAiError>> ReadHeader(Parser& parser, bool& closed);
  asio::awaitable<std::optional<OpenAiError>> ReadBody(Parser& parser, BodyLease& lease,
                                                       HttpExchange& exchange, bool& closed);
  asio::awaitable<IoEnd> Fill(Conn::TimePoint deadline);
  error_code Feed(Parser& parser);
  std::optional<OpenAiError> Admit(const Parser& parser, HttpExchange& exchange);
  asio::awaitable<void> Answer(Parser& parser, HttpExchange& exchange, bool& closed);

  HttpListener& listener_;
  Conn& conn_;
  std::string in_;  // read and not yet parsed
  std::optional<TenantIndex> tenant_;
  int64_t num_requests_ = 0;
  bool graceful_ = true;
  bool is_options_ = false;
  bool distrusted_ = false;  // where this request ends is in doubt: read no other after it
};

asio::awaitable<IoEnd> HttpListener::Connection::Fill(Conn::TimePoint deadline) {
  const size_t before = in_.size();
  in_.resize(before + kReadBytes);
  const IoResult read = co_await conn_.Read({in_.data() + before, kReadBytes}, deadline);
  in_.resize(before + (read.ok() ? read.bytes : 0));
  co_return read.end;
}

// Gives the parser what is there. need_more is no error here: the caller reads on. Beast waits for
// a whole chunk header or trailer before it takes any of it, hence the bound.
error_code HttpListener::Connection::Feed(Parser& parser) {
  error_code error;
  const size_t taken = parser.put(asio::buffer(in_), error);
  in_.erase(0, taken);
  if (error != http::error::need_more) return error;
  if (parser.is_header_done() && in_.size() > options().header_bytes_max) {
    return http::error::header_limit;
  }
  return {};
}

asio::awaitable<std::optional<OpenAiError>> HttpListener::Connection::ReadHeader(Parser& parser,
                                                                                 bool& closed) {
  // Until the first byte the connection is idle; a new one has no longer than a header may take.
  Conn::TimePoint deadline = After(first() ? options().header_timeout : options().idle_timeout);
  bool begun = false;
  while (!parser.is_header_done()) {
    if (!begun) {  // empty lines before a request are skipped (RFC 9112, 2.2)
      in_.erase(0, std::min(in_.find_first_not_of("\r\n"), in_.size()));
      if (!in_.empty()) {
        begun = true;
        if (!first()) deadline = After(options().header_timeout);
      }
    }
    if (begun) {
      if (const error_code error = Feed(parser)) co_return OfParseError(error, options());
      if (parser.is_header_done()) break;
    }
    const IoEnd end = co_await Fill(deadline);
    if (end == IoEnd::kOk) continue;
    if (end == IoEnd::kTimeout && begun) co_return TooSlow("header", options().header_timeout);
    closed = true;
    graceful_ = end != IoEnd::kError;
    co_return std::nullopt;
  }
  co_return std::nullopt;
}

std::optional<OpenAiError> HttpListener::Connection::Admit(const Parser& parser,
                                                           HttpExchange& exchange) {
  const auto& message = parser.get();
  HttpRequest& request = exchange.request;
  request.http_1_0 = message.version() < 11;
  if (const auto id = message.find("X-Request-Id");
      id != message.end() && IsGoodRequestId(View(id->value()))) {
    request.request_id = std::string(View(id->value()));
  }
  if (const auto type = message.find(http::field::content_type); type != message.end()) {
    request.content_type = std::string(View(type->value()));
  }
  const auto value_of = [&message](const char* name) {
    const auto found = message.find(name);
    return found == message.end() ? std::string_view() : View(found->value());
  };
  request.session = std::string(SessionOfHeaders(value_of));
  if (options().tracer != nullptr) {
    const bool is_one = message.count("traceparent") == 1;
    request.trace = options().tracer->Begin(is_one ? value_of("traceparent") : "");
    request.trace_parent = std::exchange(request.trace->span, options().tracer->NewSpan());
    request.trace->is_callers = false;
  }
  request.resume = std::string(value_of("X-Holdfast-Resume"));
  request.last_event_id = std::string(value_of("Last-Event-ID"));
  request.accept_encoding = std::string(value_of("Accept-Encoding"));
  request.if_none_match = std::string(value_of("If-None-Match"));
  request.door = listener_.door_;
  distrusted_ = true;
  if (message.version() != 10 && message.version() != 11) {
    return OfParseError(http::error::bad_version, options());
  }
  if (auto fault = CheckFraming(message)) return fault;
  distrusted_ = false;

  const std::string_view method = View(message.method_string());
  const std::string_view target = View(message.target());
  request.head = method == "HEAD";
  is_options_ = method == "OPTIONS";
  if (is_options_ && target == "*") return std::nullopt;
  const std::string_view path = PathOf(target);
  if (path.empty()) return MalformedRequest("the request's target must be a path");
  RouteMatch match = MatchRoute(listener_.door_, method, path);
  if (match.route == nullptr) {
    return HttpError(404, "unknown_url",
                     absl::StrCat("Unknown request URL: ", AbslView(method.substr(0, 16)), " ",
                                  AbslView(path.substr(0, 128)), "; see /openapi.json"));
  }
  request.route = match.route;
  request.param = std::move(match.param);
  request.query = std::string(QueryOf(target));
  if (is_options_) return std::nullopt;
  if (!match.method_allowed) {
    return HttpError(405, "method_not_allowed",
                     absl::StrCat("method ", AbslView(method.substr(0, 16)),
                                  " is not allowed here; use ", AllowedMethods(*match.route)));
  }
  const bool is_open = match.route->key == KeyNeed::kNever ||
                       (match.route->key == KeyNeed::kNeverOnLoopback && options().metrics_for_all);
  if (options().loopback_names_only && !is_open) {
    if (auto fault = CheckLoopbackNames(message)) return fault;
  }
  const bool sees_metrics = conn_.peer_is_loopback() || options().metrics_for_all;
  if (match.route->key == KeyNeed::kNeverOnLoopback && !sees_metrics) {
    return ToOpenAiError(absl::PermissionDeniedError(
        absl::StrCat(match.route->path,
                     " counts every tenant and is answered on loopback only, whatever the key; the "
                     "operator's setting listen.metrics: all opens it to other addresses")));
  }
  if (match.route->endpoint == HttpEndpoint::kUiPort) {
    request.needs_key = !listener_.authenticator_.Authenticate({}).ok();
    request.sees_metrics = sees_metrics;
  }
  if (match.route->key == KeyNeed::kAlways) {
    absl::StatusOr<Authenticated> who = listener_.authenticator_.Authenticate(KeyOf(message));
    if (!who.ok()) return ToOpenAiError(who.status());
    tenant_ = request.tenant = who->tenant;
    request.key = who->key;
  }
  if (match.route->needs_ready) {
    switch (listener_.hooks_.readiness()) {
      case Readiness::kReady:
      case Readiness::kLeaving:
        break;
      case Readiness::kLoading:
        return HttpError(503, "not_ready", "the model is being loaded; try again shortly");
      case Readiness::kFailing:
        return HttpError(503, "engine_failing",
                         "the engine has failed again and again; ask another server, or try again "
                         "in some seconds");
      case Readiness::kDraining:
        return HttpError(503, "draining", "the server is shutting down; ask another one");
    }
  }
  if (const auto expect = message.find(http::field::expect);
      expect != message.end() &&
      !absl::EqualsIgnoreCase(AbslView(View(expect->value())), "100-continue")) {
    return HttpError(417, "expectation_failed", "the only supported Expect is 100-continue");
  }
  if (parser.content_length().value_or(0) > BodyBytesMax(options(), match.route)) {
    return OfParseError(http::error::body_limit, options(), match.route);
  }
  return std::nullopt;
}

asio::awaitable<std::optional<OpenAiError>> HttpListener::Connection::ReadBody(
    Parser& parser, BodyLease& lease, HttpExchange& exchange, bool& closed) {
  const OpenAiError full =
      HttpError(503, "overloaded", "too many large requests are being read; try again shortly");
  Conn::TimePoint deadline = After(options().body_timeout);
  // An upload is counted as it comes: a few that are announced and never sent would else leave no
  // room for anybody's requests. Each part of it has as long as another body has in all.
  const bool is_upload = exchange.request.route != nullptr && exchange.request.route->is_upload;
  size_t renew_at = kUploadPartBytes;
  if (!is_upload && !lease.GrowTo(parser.content_length().value_or(0))) co_return full;
  if (!exchange.request.http_1_0 && in_.empty() && parser.get().count(http::field::expect) > 0) {
    if (!(co_await conn_.Write({"HTTP/1.1 100 Continue\r\n\r\n", {}, {}}, deadline)).ok()) {
      closed = true;
      co_return std::nullopt;
    }
  }
  parser.eager(true);
  while (true) {
    if (!in_.empty()) {
      if (const error_code error = Feed(parser)) {
        co_return OfParseError(error, options(), exchange.request.route);
      }
      const size_t arrived = parser.get().body().size();
      if (!lease.GrowTo(arrived)) co_return full;
      if (is_upload && arrived >= renew_at) {
        renew_at = arrived + kUploadPartBytes;
        deadline = After(options().body_timeout);
      }
    }
    if (parser.is_done()) break;
    const IoEnd end = co_await Fill(deadline);
    if (end == IoEnd::kOk) continue;
    if (end == IoEnd::kTimeout) co_return TooSlow("body", options().body_timeout);
    closed = true;
    co_return std::nullopt;
  }
  exchange.request.body = std::move(parser.get().body());
  exchange.request.body_bytes = static_cast<int64_t>(exchange.request.body.size());
  co_return std::nullopt;
}

asio::awaitable<void> HttpListener::Connection::Answer(Parser& parser, HttpExchange& exchange,
                                                       bool& closed) {
  if (std::optional<OpenAiError> fault = Admit(parser, exchange)) {
    if (exchange.request.request_id.empty()) {
      exchange.request.request_id = listener_.MakeRequestId();
    }
    co_await exchange.Fail(*fault);
    co_return;
  }
  if (exchange.request.request_id.empty()) exchange.request.request_id = listener_.MakeRequestId();
  BodyLease lease(listener_);
  if (!parser.is_done()) {
    parser.body_limit(BodyBytesMax(options(), exchange.request.route));
    std::optional<OpenAiError> fault = co_await ReadBody(parser, lease, exchange, closed);
    if (closed) co_return;
    if (fault.has_value()) {
      co_await exchange.Fail(*fault);
      co_return;
    }
  }
  if (is_options_) {
    HttpReply reply{.status = 204};
    reply.headers.emplace_back("Allow", exchange.request.route == nullptr
                                            ? "GET, HEAD, POST, OPTIONS"
                                            : AllowedMethods(*exchange.request.route));
    co_await exchange.Reply(reply);
    co_return;
  }
  co_await listener_.hooks_.endpoints(exchange);
  conn_.StopWatching();
}

asio::awaitable<bool> HttpListener::Connection::ServeOne() {
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(options().header_bytes_max));
  parser.body_limit(boost::none);  // its length is looked at in Admit, where the path is known
  bool closed = false;
  tenant_.reset();
  HttpExchange exchange(conn_, options().write_timeout, [this, &parser] {
    const Readiness readiness = listener_.hooks_.readiness();
    return parser.is_done() && !distrusted_ && parser.get().keep_alive() &&
           readiness != Readiness::kLeaving && readiness != Readiness::kDraining;
  });
  const std::optional<OpenAiError> fault = co_await ReadHeader(parser, closed);
  if (closed) co_return false;
  ++num_requests_;
  const absl::Time start = SteadyNow();
  const InFlight in_flight(listener_);
  if (fault.has_value()) {
    exchange.request.request_id = listener_.MakeRequestId();
    co_await exchange.Fail(*fault);
  } else {
    co_await Answer(parser, exchange, closed);
  }
  if (closed) graceful_ = false;
  const int code = closed ? 499 : exchange.status();
  listener_.metrics_.CountRequest(exchange.request.route, code);
  if (options().on_access) {
    const Route* route = exchange.request.route;
    const auto& message = parser.get();
    options().on_access(
        HttpAccess{.method = message.method() == http::verb::unknown || fault.has_value()
                                 ? "other"
                                 : http::to_string(message.method()).data(),
                   .route = route == nullptr ? "other" : route->path,
                   .code = code,
                   .request_id = exchange.request.request_id,
                   .tenant = tenant_,
                   .begin = start,
                   .elapsed = SteadyNow() - start,
                   .body_bytes = exchange.request.body_bytes,
                   .trace = exchange.request.trace,
                   .trace_parent = exchange.request.trace_parent});
  }
  co_return exchange.complete() && exchange.keeps_alive();
}

HttpListener::HttpListener(asio::io_context& io, HttpDoor door, const HttpServerOptions& options,
                           const Authenticator& authenticator, HttpMetrics& metrics, Hooks hooks)
    : io_(io),
      door_(door),
      options_(options),
      authenticator_(authenticator),
      metrics_(metrics),
      hooks_(std::move(hooks)),
      acceptor_(io),
      accept_pause_(io) {}

absl::Status HttpListener::LoadTls() {
  tls_.emplace(asio::ssl::context::tls_server);
  error_code error;
  const auto failed = [&](const std::string& path) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot use '", path, "' for TLS: ", error.message()));
  };
  SSL_CTX_set_min_proto_version(tls_->native_handle(), TLS1_2_VERSION);
  // Idle connections are many; their TLS buffers need not be kept.
  SSL_CTX_set_mode(tls_->native_handle(), SSL_MODE_RELEASE_BUFFERS);
  tls_->use_certificate_chain_file(options_.tls->certificate_path, error);
  if (error) return failed(options_.tls->certificate_path);
  tls_->use_private_key_file(options_.tls->key_path, asio::ssl::context::pem, error);
  if (error) return failed(options_.tls->key_path);
  return absl::OkStatus();
}

absl::Status HttpListener::Listen() {
  if (options_.tls.has_value()) RETURN_IF_ERROR(LoadTls());
  ASSIGN_OR_RETURN(const Endpoint where, ParseEndpoint(options_.address));
  error_code error;
  const asio::ip::address address = asio::ip::make_address(where.host, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("HTTP address '", options_.address, "': ", error.message()));
  }
  const tcp::endpoint endpoint(address, where.port);
  const auto failed = [&](const char* what) {
    const bool taken = error == boost::system::errc::address_in_use;
    return absl::UnavailableError(absl::StrCat(
        "cannot ", what, " on ", options_.address, ": ", error.message(),
        taken ? "; stop what holds the port, or give another with --http ADDR:PORT (listen.http)"
              : ""));
  };
  acceptor_.open(endpoint.protocol(), error);
  if (error) return failed("open a socket");
  acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (error) return failed("set up the socket");
  acceptor_.bind(endpoint, error);
  if (error) return failed("listen");
  acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed("listen");
  port_ = acceptor_.local_endpoint(error).port();
  if (error) return failed("listen");
  Spawn(Accept(), nullptr);
  return absl::OkStatus();
}

// Nothing of ours throws; what a library throws in a connection's task ends that connection alone.
void HttpListener::Spawn(asio::awaitable<void> task, std::shared_ptr<Conn> conn) {
  asio::co_spawn(io_, std::move(task), [this, conn = std::move(conn)](std::exception_ptr thrown) {
    if (conn == nullptr) return;
    if (thrown != nullptr) conn->Abort();
    conns_.erase(conn);
    metrics_.AddConnections(-1);
    TellIfAllGone();
  });
}

void HttpListener::TellIfAllGone() {
  if (closed_ && conns_.empty()) hooks_.on_all_gone();
}

// Goes on whatever happens: a daemon that accepts no more must not look ready.
asio::awaitable<void> HttpListener::Accept() {
  bool pause = false;
  while (!closed_) {
    try {
      if (std::exchange(pause, false)) {
        accept_pause_.expires_after(kAcceptPause);
        co_await accept_pause_.async_wait(kAwait);
        if (closed_) break;
      }
      auto [error, socket] = co_await acceptor_.async_accept(kAwait);
      if (closed_) break;
      if (error) {
        // Out of file descriptors, or the peer gave up meanwhile. The former lasts: do not spin.
        pause = true;
      } else {
        Take(std::move(socket));
      }
    } catch (const std::exception&) {  // out of memory, most likely: that lasts, too
      pause = true;
    }
  }
}

void HttpListener::Take(tcp::socket socket) {
  if (static_cast<int32_t>(conns_.size()) >= options_.connections_max) {
    return RefuseConnection(std::move(socket));
  }
  auto conn =
      tls_.has_value() ? Conn::MakeTls(std::move(socket), *tls_) : Conn::MakeTcp(std::move(socket));
  conns_.insert(conn);
  metrics_.AddConnections(+1);
  try {
    Spawn(Serve(conn), conn);
  } catch (const std::exception&) {
    conns_.erase(conn);
    metrics_.AddConnections(-1);
    metrics_.CountRefusedConnection();
    throw;
  }
}

// One answer that fits into any socket's empty buffer, without waiting; under TLS none can be
// given.
void HttpListener::RefuseConnection(tcp::socket socket) {
  metrics_.CountRefusedConnection();
  error_code ignored;
  if (!tls_.has_value()) {
    const std::string body =
        ErrorBody(HttpError(503, "too_many_connections", "too many connections; try again later"));
    socket.non_blocking(true, ignored);
    socket.send(asio::buffer(absl::StrCat(
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                    "Retry-After: 1\r\nConnection: close\r\nContent-Length: ",
                    body.size(), "\r\n\r\n", body)),
                0, ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }
  socket.close(ignored);
}

asio::awaitable<void> HttpListener::Serve(std::shared_ptr<Conn> conn) {
  const IoResult shaken = co_await conn->Handshake(After(options_.header_timeout));
  if (shaken.ok()) {
    Connection connection(*this, *conn);
    while (co_await connection.ServeOne()) {
    }
    if (connection.graceful()) co_await conn->Close();
  }
  conn->Abort();
}

std::string HttpListener::MakeRequestId() { return DrawId("req_", random_); }

void HttpListener::Close() {
  closed_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  accept_pause_.cancel();
  for (const auto& conn : std::vector(conns_.begin(), conns_.end())) conn->Abort();
  TellIfAllGone();
}

}  // namespace holdfast
