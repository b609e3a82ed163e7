#include "config/remote_endpoint.h"

#include <charconv>
#include <system_error>

#include "config/base/concat.h"

namespace holdfast {

absl::StatusOr<RemoteEndpoint> ParseRemoteEndpoint(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  RemoteEndpoint endpoint;
  if (text.starts_with(kUnix) && text.size() > kUnix.size()) {
    endpoint.socket_path = text.substr(kUnix.size());
    return endpoint;
  }
  std::string_view rest = text;
  for (const std::string_view scheme : {"redis://", "valkey://"}) {
    if (rest.starts_with(scheme)) rest.remove_prefix(scheme.size());
  }
  const size_t colon = rest.rfind(':');
  std::string_view host = rest.substr(0, colon == std::string_view::npos ? 0 : colon);
  if (host.starts_with('[')) {
    host = host.ends_with(']') ? host.substr(1, host.size() - 2) : std::string_view();
  } else if (host.find_first_of(":/@ ") != std::string_view::npos) {
    host = {};
  }
  const std::string_view port = colon == std::string_view::npos ? "" : rest.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (host.empty() || error != std::errc() || end != port.data() + port.size() ||
      endpoint.port < 1 || endpoint.port > 65535) {
    return absl::InvalidArgumentError(
        Concat("wanted a server as host:port, [IPv6 address]:port or unix:PATH, found `",
               text.substr(0, 80), "`"));
  }
  endpoint.host = host;
  return endpoint;
}

}  // namespace holdfast
