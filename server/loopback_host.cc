#include "server/loopback_host.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "config/base/concat.h"
#include "config/endpoint.h"

namespace holdfast {

bool IsLoopbackHost(std::string_view host) {
  // The port, whatever it is: a tunnel or a container may have changed it.
  if (const size_t colon = host.rfind(':');
      colon != host.npos && host.find(']', colon) == host.npos &&
      std::all_of(host.begin() + static_cast<std::ptrdiff_t>(colon) + 1, host.end(),
                  [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); })) {
    host = host.substr(0, colon);
  }
  if (const auto endpoint = ParseEndpoint(Concat(host, ":0")); endpoint.ok()) {
    return endpoint->is_loopback;
  }
  if (host.ends_with('.')) host.remove_suffix(1);  // the name's absolute form
  return absl::EqualsIgnoreCase(AbslView(host), "localhost") ||
         absl::EndsWithIgnoreCase(AbslView(host), ".localhost");
}

bool IsLoopbackOrigin(std::string_view origin) {
  constexpr std::string_view kMark = "://";
  const size_t mark = origin.find(kMark);
  return mark != origin.npos && IsLoopbackHost(origin.substr(mark + kMark.size()));
}

}  // namespace holdfast
