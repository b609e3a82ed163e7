#include "server/health_check.h"

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/endpoint.h"
#include "server/http_client.h"

namespace holdfast {

absl::StatusOr<std::string> CheckHealth(const DaemonConfig& config) {
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(config.listen.http));
  if (endpoint.port == 0) {
    return absl::InvalidArgumentError(
        "`listen.http` has port 0, by which a daemon is not found; name its port: --http "
        "ADDR:PORT");
  }
  HttpQuestion question{.host = endpoint.host, .port = endpoint.port, .target = "/health/ready"};
  if (question.host == "0.0.0.0") question.host = "127.0.0.1";
  if (question.host == "::") question.host = "::1";
  if (config.listen.tls) question.tls = HttpQuestion::Tls::kUnchecked;
  const absl::StatusOr<HttpAnswer> answer = AskHttp(question);
  if (!answer.ok()) {
    return absl::UnavailableError(
        Concat(answer.status().message(), "; is holdfast serve running, with these settings?"));
  }
  if (answer->status == 200) return answer->body;
  return absl::UnavailableError(Concat(
      "the daemon at ", config.listen.http,
      " is not ready: ", answer->body.empty() ? Concat("status ", answer->status) : answer->body));
}

}  // namespace holdfast
