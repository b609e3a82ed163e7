// Who is asking: turns the key that came with a request into a tenant. The seam between the front
// ends (HTTP and gRPC), which take the key off the wire, and the configured tenants.
//
// Thread: any; never blocks.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "config/ids.h"

namespace holdfast {

// Who comes with a key of the daemon's own administration: no tenant.
inline constexpr TenantIndex kAdministrator{-1};

struct Authenticated {
  TenantIndex tenant{};
  uint32_t key = 0;  // the first bytes of its hash: by them an audit tells keys apart
};

class Authenticator {
 public:
  virtual ~Authenticator() = default;

  // `bearer_key` is the key's text without the "Bearer " before it; empty when the request has
  // none, which is answered with the tenant `default` where the daemon runs without keys.
  // kUnauthenticated: unknown or missing key. The time taken tells nothing about how near a wrong
  // key was to a right one.
  virtual absl::StatusOr<Authenticated> Authenticate(std::string_view bearer_key) const = 0;
};

}  // namespace holdfast
