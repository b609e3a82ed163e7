// The cache by tenant and tier, and its pins, as an operator sees them. Made by the scheduler when
// asked, between steps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/kv_store.h"

namespace holdfast {

// More are counted and not listed.
inline constexpr size_t kPinsReportedMax = 1000;

struct CacheReport {
  struct Tenant {
    std::array<int32_t, kNumPlaceTiers> blocks{};  // by tier; on the device held ones too
    TierTokens hit_tokens{};                       // found by all its sequences since start
    int32_t pinned_blocks = 0;
  };
  struct PinEntry {
    TenantIndex tenant{};
    std::string session;
    PinState state = PinState::kAsked;
    int32_t priority = 0;
    absl::Time created, deadline;
    int32_t num_blocks = 0;
  };
  std::vector<Tenant> tenants;                     // by TenantIndex
  std::array<int32_t, kNumPlaceTiers> capacity{};  // blocks
  BlockCounts device;
  size_t block_bytes = 0;
  int32_t num_moves = 0;
  int32_t num_pins = 0;        // of those asked about
  std::vector<PinEntry> pins;  // the next to expire first
};

}  // namespace holdfast
