// Where to listen: ADDR:PORT as it stands in settings and flags. A numeric address or `localhost`;
// names are not looked up, since a listener on whatever a name means today is a surprise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace holdfast {

struct Endpoint {
  std::string host;   // IPv4 or IPv6 in numbers without brackets; `localhost` is 127.0.0.1
  uint16_t port = 0;  // 0: the system picks
  bool is_loopback = false;
};

// "127.0.0.1:8080", "[::1]:8080", "localhost:0". The message says what was wanted and found.
absl::StatusOr<Endpoint> ParseEndpoint(std::string_view text);

}  // namespace holdfast
