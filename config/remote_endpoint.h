// Where a Valkey or Redis server is, as it stands in settings and flags. Unlike what we listen on
// (endpoint.h) it may be a name, which the system looks up.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace holdfast {

// "unix:/path/of/socket" or "host:port", the host in brackets if it is an IPv6 address; "redis://"
// and "valkey://" may stand before the latter.
struct RemoteEndpoint {
  std::string socket_path;  // if not empty, the other two say nothing
  std::string host;
  int port = 0;
};
absl::StatusOr<RemoteEndpoint> ParseRemoteEndpoint(std::string_view text);

}  // namespace holdfast
