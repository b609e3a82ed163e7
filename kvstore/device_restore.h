// Brings fetched blocks into the device's memory: in place where this process can address it, else
// through staging. What the movers (tier_mover.h, remote_mover.h) have in common.
//
// Thread: one mover thread's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "config/base/page_buffer.h"
#include "kvstore/block_mover.h"
#include "kvstore/move.h"
#include "kvstore/tier.h"

namespace holdfast {

// Room for some blocks on their way, in whole pages; taken when first asked for.
class BlockStaging final {
 public:
  BlockStaging(size_t block_bytes, int32_t num_blocks);  // both > 0

  std::span<std::byte> Place(size_t i);  // i < num_blocks; empty: the system has no memory for it

  static absl::Status NoMemory();  // what to answer then

 private:
  const size_t block_bytes_;
  const size_t num_blocks_;
  PageBuffer memory_;
};

// Restores of `jobs`, at most as many as `staging` has places where there is no host view: `fetch`
// fills the transfers it is given and their statuses, and `statuses`, one a job, say what came of
// each. On a status that is not ok the block's bytes are undefined.
void RestoreToDevice(std::span<const MoveJob> jobs, BlockMover& device, BlockStaging& staging,
                     absl::FunctionRef<void(std::span<TierTransfer>)> fetch,
                     std::span<absl::Status> statuses);

}  // namespace holdfast
