// The scheduler and the KV cache of a running daemon, as its /admin/v1 tells them, for `holdfast
// top`.
//
// Thread: any; pure. Bound: the answers'.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace holdfast {

inline constexpr std::array<const char*, 3> kTopTiers = {"device", "host", "disk"};

struct TopState {
  using Blocks = std::array<int64_t, kTopTiers.size()>;
  struct Whole {  // what only those are told who may see all
    int64_t running = 0, running_max = 0, waiting = 0;
    int64_t free = 0, held = 0, pinned = 0, evictable = 0, moving = 0;  // blocks of the device
    Blocks capacity{};
  };
  struct Tenant {
    std::string name, why;  // why: "blocks 2, turn 1", of those who wait
    int64_t running = 0, waiting = 0, pinned = 0;
    Blocks blocks{};
    int64_t programs = 0, programs_paused = 0;
  };
  struct Sequence {
    std::string request, tenant, session, priority;
    std::string stage;  // of one that runs; of one that waits, why
    int64_t prompt_tokens = 0, completion_tokens = 0, blocks = 0;
    absl::Duration age;
  };
  struct Pin {
    std::string tenant, session, why;
    int64_t blocks = 0;
    absl::Duration left;
  };
  std::string policy, order;
  int64_t block_bytes = 0;
  std::optional<Whole> whole;
  std::vector<Tenant> tenants;  // who has most to do first
  std::vector<Sequence> running, waiting;
  std::vector<Pin> pins;                                         // the next to expire first
  int64_t running_total = 0, waiting_total = 0, pins_total = 0;  // with those not listed
};

// Of the answers to GET /admin/v1/queue, kv and pins. kDataLoss: they are something else.
absl::StatusOr<TopState> ReadTopState(std::string_view queue, std::string_view kv,
                                      std::string_view pins);

// The message of an answer that is an error; empty: it has none.
std::string ReadTopError(std::string_view answer);

}  // namespace holdfast
