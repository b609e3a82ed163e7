#include "server/health_check.h"

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <array>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"

namespace holdfast {
namespace {

constexpr int kSeconds = 5;
constexpr unsigned kPollMilliseconds = 10;
constexpr size_t kAnswerBytesMax = 4096;
constexpr std::string_view kRequest =
    "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
};
struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Connection = std::unique_ptr<BIO, FreeBio>;
using TlsContext = std::unique_ptr<SSL_CTX, FreeContext>;

// "127.0.0.1:8080" of "0.0.0.0:8080".
absl::StatusOr<std::string> AddressOf(const std::string& listen) {
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(listen));
  if (endpoint.port == 0) {
    return absl::InvalidArgumentError(
        "`listen.http` has port 0, by which a daemon is not found; name its port: --http "
        "ADDR:PORT");
  }
  std::string host = endpoint.host;
  if (host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  const bool is_v6 = host.find(':') != std::string::npos;
  return Concat(is_v6 ? "[" : "", host, is_v6 ? "]" : "", ":", endpoint.port);
}

// After a call that could not be done at once: whether it is to be tried again.
bool WaitFor(BIO* connection, time_t deadline) {
  return BIO_should_retry(connection) != 0 &&
         BIO_wait(connection, deadline, kPollMilliseconds) == 1;
}

// With the TLS handshake, where there is one.
bool Connect(BIO* connection, time_t deadline) {
  BIO_set_nbio(connection, 1);
  while (BIO_do_connect(connection) != 1) {
    if (!WaitFor(connection, deadline)) return false;
  }
  return true;
}

// All that comes until the daemon closes, or a part of it.
std::string Ask(BIO* connection, time_t deadline) {
  const int size = static_cast<int>(kRequest.size());  // fits into any socket's buffer
  while (BIO_write(connection, kRequest.data(), size) != size) {
    if (!WaitFor(connection, deadline)) return "";
  }
  std::string answer;
  std::array<char, 1024> part{};
  while (answer.size() < kAnswerBytesMax) {
    const int count = BIO_read(connection, part.data(), static_cast<int>(part.size()));
    if (count > 0) {
      answer.append(part.data(), static_cast<size_t>(count));
    } else if (!WaitFor(connection, deadline)) {
      break;
    }
  }
  return answer;
}

}  // namespace

absl::StatusOr<std::string> CheckHealth(const DaemonConfig& config) {
  ASSIGN_OR_RETURN(const std::string address, AddressOf(config.listen.http));
  const TlsContext tls(config.listen.tls ? SSL_CTX_new(TLS_client_method()) : nullptr);
  const Connection connection(tls == nullptr ? BIO_new_connect(address.c_str())
                                             : BIO_new_ssl_connect(tls.get()));
  if (connection == nullptr) return absl::InternalError("OpenSSL has no memory for a connection");
  if (tls != nullptr) BIO_set_conn_hostname(connection.get(), address.c_str());
  const time_t deadline = std::time(nullptr) + kSeconds;
  if (!Connect(connection.get(), deadline)) {
    return absl::UnavailableError(
        Concat("nobody answers at ", address, "; is holdfast serve running, with these settings?"));
  }
  const std::string answer = Ask(connection.get(), deadline);
  const size_t blank = answer.find("\r\n\r\n");
  const std::string body = blank == std::string::npos ? "" : answer.substr(blank + 4);
  if (answer.starts_with("HTTP/1.1 200 ")) return body;
  if (answer.empty()) return absl::UnavailableError(Concat(address, " says nothing"));
  return absl::UnavailableError(Concat("the daemon at ", address, " is not ready: ",
                                       body.empty() ? answer.substr(0, answer.find('\r')) : body));
}

}  // namespace holdfast
