#include "kvstore/device_restore.h"

#include <optional>
#include <utility>
#include <vector>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr size_t kPageBytes = 4096;

}  // namespace

BlockStaging::BlockStaging(size_t block_bytes, int32_t num_blocks)
    : block_bytes_(block_bytes), num_blocks_(static_cast<size_t>(num_blocks)) {
  CHECK(block_bytes > 0 && num_blocks > 0);
}

std::span<std::byte> BlockStaging::Place(size_t i) {
  CHECK(i < num_blocks_);
  const size_t stride = (block_bytes_ + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (memory_.bytes() == 0) {
    std::optional<PageBuffer> memory = PageBuffer::Map(stride * num_blocks_);
    if (!memory.has_value()) return {};
    memory_ = *std::move(memory);
  }
  return {memory_.data() + i * stride, block_bytes_};
}

absl::Status BlockStaging::NoMemory() {
  return absl::ResourceExhaustedError("no memory to stage a block on its way between tiers");
}

void RestoreToDevice(std::span<const MoveJob> jobs, BlockMover& device, BlockStaging& staging,
                     absl::FunctionRef<void(std::span<TierTransfer>)> fetch,
                     std::span<absl::Status> statuses) {
  CHECK(statuses.size() == jobs.size());
  std::vector<TierTransfer> transfers;
  std::vector<size_t> whose;
  std::vector<bool> is_staged;
  for (size_t i = 0; i < jobs.size(); ++i) {
    std::span<std::byte> bytes = device.HostView(jobs[i].block);
    const bool staged = bytes.empty();
    if (staged) bytes = staging.Place(i);
    if (bytes.empty()) {
      statuses[i] = BlockStaging::NoMemory();
      continue;
    }
    transfers.push_back({.slot = jobs[i].slot, .identity = &jobs[i].identity, .bytes = bytes});
    whose.push_back(i);
    is_staged.push_back(staged);
  }
  if (!transfers.empty()) fetch(transfers);
  for (size_t k = 0; k < whose.size(); ++k) {
    absl::Status& status = statuses[whose[k]];
    status = std::move(transfers[k].status);
    if (status.ok() && is_staged[k]) {
      status = device.CopyIn(jobs[whose[k]].block, transfers[k].bytes);
    }
  }
}

}  // namespace holdfast
