// Who may use the daemon and how much: one entry per tenant of the configuration file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/ids.h"

namespace holdfast {

// Of which a process has ever been told: their numbers are not given out again.
inline constexpr size_t kTenantsMax = 4096;

// A key as it is stored: SHA-256 over the key's text. In the file with "sha256:" before it.
struct KeyHash {
  std::string sha256_hex;  // 64 lower-case digits
  bool operator==(const KeyHash&) const = default;
};

// Of a tier of the KV cache: a share of its capacity, or bytes.
struct TierAmount {
  double share = 0.0;  // 0 to 1; where `bytes` says nothing
  std::optional<int64_t> bytes;
  bool operator==(const TierAmount&) const = default;
};

// What a tenant may keep of the KV cache, beyond what its running requests hold.
struct TenantKvConfig {
  struct Tier {
    std::optional<TierAmount> floor;    // others take nothing of this; default: none
    std::optional<TierAmount> ceiling;  // with more, it makes room at its own cost; default: none
  };
  Tier device, host, disk;
  // Of the device, for its pins; default: an equal part of what all pins may have.
  std::optional<TierAmount> pinned_max;
};

struct TenantConfig {
  std::string name;
  std::vector<KeyHash> keys;
  std::optional<std::string> sharing_group;  // tenants of one group share KV; default: alone
  int32_t running_max = 0;                   // concurrent requests; 0: no bound of its own
  int32_t waiting_max = 0;                   // queued requests; 0: no bound of its own
  double weight = 1.0;                       // its part of the machine beside the others'; > 0
  int32_t priority_max = 0;  // the most important that its requests may claim; lower is more
  // Token buckets; 0: no bound. A body with several prompts is one request; its tokens are those of
  // the prompts and what may be drawn, and what was cached or not drawn is given back at the end.
  double requests_per_second = 0.0;
  int32_t requests_burst = 0;  // at once after a pause; 0: of one second, 1 at least
  int64_t tokens_per_minute = 0;
  int64_t tokens_burst = 0;  // also the most of one body; 0: of one minute
  bool admin = false;        // sees every tenant's part of the KV cache, and may drop its pins
  TenantKvConfig kv;
};

// Without tenants there is the one that everybody is.
std::vector<TenantConfig> TenantsOrDefault(std::vector<TenantConfig> tenants);
std::vector<std::string> NamesOf(const std::vector<TenantConfig>& tenants);  // never empty

}  // namespace holdfast
