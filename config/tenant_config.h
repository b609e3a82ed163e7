// Who may use the daemon and how much: one entry per tenant of the configuration file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/ids.h"

namespace holdfast {

// A key as it is stored: SHA-256 over the key's text. In the file with "sha256:" before it.
struct KeyHash {
  std::string sha256_hex;  // 64 lower-case digits
};

struct TenantConfig {
  std::string name;
  std::vector<KeyHash> keys;
  std::optional<std::string> sharing_group;  // tenants of one group share KV; default: alone
  int32_t running_max = 0;                   // concurrent requests; 0: no bound of its own
  int32_t waiting_max = 0;                   // queued requests; 0: no bound of its own
};

}  // namespace holdfast
