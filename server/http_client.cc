#include "server/http_client.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <tuple>

#include "absl/status/status.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Message = http::request<http::string_body>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

absl::Status Failed(const HttpQuestion& question, const char* what, const error_code& error) {
  return absl::UnavailableError(
      Concat(question.host, ":", question.port, " ", what, ": ", error.message()));
}

template <typename Stream>
asio::awaitable<absl::StatusOr<HttpAnswer>> Talk(const HttpQuestion& question,
                                                 const Message& message, Stream& stream) {
  if (const auto [error, bytes] = co_await http::async_write(stream, message, kAwait); error) {
    co_return Failed(question, "does not take a request", error);
  }
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(question.answer_bytes_max);
  if (const auto [error, bytes] = co_await http::async_read(stream, buffer, parser, kAwait);
      error) {
    co_return Failed(question, "gives no answer", error);
  }
  co_return HttpAnswer{.status = static_cast<int>(parser.get().result_int()),
                       .body = parser.get().body()};
}

// Whom to trust: of `question.tls`.
error_code Trust(const HttpQuestion& question, asio::ssl::context& context) {
  error_code error;
  if (question.tls != HttpQuestion::Tls::kChecked) return error;
  context.set_verify_mode(asio::ssl::verify_peer);
  context.set_verify_callback(asio::ssl::host_name_verification(question.host));
  if (question.tls_ca.empty()) {
    context.set_default_verify_paths(error);
  } else {
    context.load_verify_file(question.tls_ca, error);
  }
  return error;
}

asio::awaitable<absl::StatusOr<HttpAnswer>> Ask(const HttpQuestion& question,
                                                const Message& message) {
  const auto executor = co_await asio::this_coro::executor;
  asio::ip::tcp::resolver resolver(executor);
  const auto [unknown, found] =
      co_await resolver.async_resolve(question.host, Concat(question.port), kAwait);
  if (unknown) co_return Failed(question, "is not known", unknown);
  beast::tcp_stream tcp(executor);
  tcp.expires_after(absl::ToChronoNanoseconds(question.timeout));
  if (const auto [error, end] = co_await tcp.async_connect(found, kAwait); error) {
    co_return Failed(question, "does not answer", error);
  }
  if (question.tls == HttpQuestion::Tls::kNone) co_return co_await Talk(question, message, tcp);
  asio::ssl::context context(asio::ssl::context::tls_client);
  if (const error_code error = Trust(question, context); error) {
    co_return absl::UnavailableError(
        Concat(question.tls_ca.empty() ? "the system's authorities" : question.tls_ca,
               ": cannot be read as certificates: ", error.message()));
  }
  beast::ssl_stream<beast::tcp_stream&> tls(tcp, context);
  error_code is_name;
  asio::ip::make_address(question.host, is_name);
  if (is_name) SSL_set_tlsext_host_name(tls.native_handle(), question.host.c_str());
  const auto [error] = co_await tls.async_handshake(asio::ssl::stream_base::client, kAwait);
  if (error) co_return Failed(question, "does not agree on TLS", error);
  co_return co_await Talk(question, message, tls);
}

}  // namespace

asio::awaitable<absl::StatusOr<HttpAnswer>> AskHttpAsync(HttpQuestion question) {
  const bool is_v6 = question.host.find(':') != std::string::npos;
  Message message;
  message.method_string(question.method);
  message.target(question.target);
  message.version(11);
  message.set(http::field::host,
              Concat(is_v6 ? "[" : "", question.host, is_v6 ? "]" : "", ":", question.port));
  message.set(http::field::connection, "close");
  for (const auto& [name, value] : question.headers) message.set(name, value);
  message.body() = question.body;
  message.prepare_payload();
  co_return co_await Ask(question, message);
}

absl::StatusOr<HttpAnswer> AskHttp(const HttpQuestion& question) {
  absl::StatusOr<HttpAnswer> answer = absl::InternalError("not asked");
  asio::io_context io(1);
  asio::co_spawn(
      io, [&]() -> asio::awaitable<void> { answer = co_await AskHttpAsync(question); },
      asio::detached);
  io.run();
  return answer;
}

}  // namespace holdfast
