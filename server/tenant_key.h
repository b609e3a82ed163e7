// Tenants' keys: made once, shown once, kept only as a hash. A key is "hf-" and 32 random bytes as
// base64url, so it cannot be guessed and one plain SHA-256 is enough to store it by: there is no
// dictionary to try, and a slow hash would let anyone with wrong keys spend the server's time.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace holdfast {

using KeyDigest = std::array<uint8_t, 32>;

KeyDigest HashTenantKey(std::string_view key);

// 64 hex digits, as in KeyHash. kInvalidArgument: not that.
absl::StatusOr<KeyDigest> DigestFromHex(std::string_view hex);

struct NewTenantKey {
  std::string key;          // to be given to the tenant
  std::string stored_hash;  // "sha256:...", for the configuration file
};

// From the system's random source. kUnavailable: there is no randomness to be had.
absl::StatusOr<NewTenantKey> MakeTenantKey();

}  // namespace holdfast
