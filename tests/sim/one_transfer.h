// Moves of one block at a time, for movers that have no threads.
#pragma once

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "kvstore/move.h"
#include "kvstore/tier.h"

namespace holdfast {

// A single block's transfer, and what came of it.
inline absl::Status PutOne(Tier& tier, TierSlot slot, const MoveJob& job,
                           std::span<std::byte> bytes) {
  TierTransfer transfer{.slot = slot, .identity = &job.identity, .bytes = bytes};
  tier.Put({&transfer, 1});
  return transfer.status;
}
inline absl::Status FetchOne(Tier& tier, TierSlot slot, const MoveJob& job,
                             std::span<std::byte> bytes) {
  TierTransfer transfer{.slot = slot, .identity = &job.identity, .bytes = bytes};
  tier.Fetch({&transfer, 1});
  return transfer.status;
}

}  // namespace holdfast
