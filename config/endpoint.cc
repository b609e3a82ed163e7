#include "config/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

absl::Status Wrong(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      Concat("`", text, "` is not an address and port (", why, "); write 127.0.0.1:8080"));
}

}  // namespace

absl::StatusOr<Endpoint> ParseEndpoint(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Wrong(text, "there is no colon");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  uint32_t number = 0;
  if (port.empty() || port.size() > 5 ||
      !std::all_of(port.begin(), port.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(AbslView(port), &number) || number > 65535) {
    return Wrong(text, "the port must be a number from 0 to 65535");
  }
  Endpoint endpoint;
  endpoint.port = static_cast<uint16_t>(number);
  if (host == "localhost") host = "127.0.0.1";
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  endpoint.host = std::string(bracketed ? host.substr(1, host.size() - 2) : host);
  if (bracketed) {
    in6_addr address{};
    if (inet_pton(AF_INET6, endpoint.host.c_str(), &address) != 1) {
      return Wrong(text, "what is in brackets is no IPv6 address");
    }
    endpoint.is_loopback = IN6_IS_ADDR_LOOPBACK(&address);
    if (IN6_IS_ADDR_V4MAPPED(&address)) endpoint.is_loopback = address.s6_addr[12] == 127;
  } else {
    in_addr address{};
    if (inet_pton(AF_INET, endpoint.host.c_str(), &address) != 1) {
      return Wrong(text, host.find(':') != std::string_view::npos
                             ? "an IPv6 address needs brackets"
                             : "the address must be in numbers, or localhost");
    }
    endpoint.is_loopback = (ntohl(address.s_addr) >> 24) == 127;
  }
  return endpoint;
}

}  // namespace holdfast
