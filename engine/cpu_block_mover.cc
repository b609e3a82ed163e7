#include "engine/cpu_block_mover.h"

#include <cstring>

#include "config/base/check.h"

namespace holdfast {

CpuBlockMover::CpuBlockMover(std::byte* arena, const KvLayout& layout, int32_t num_blocks)
    : arena_(arena), block_bytes_(layout.block_bytes()), num_blocks_(num_blocks) {}

std::span<std::byte> CpuBlockMover::HostView(BlockId block) {
  CHECK(Number(block) >= 0 && Number(block) < num_blocks_);
  return {arena_ + static_cast<size_t>(Number(block)) * block_bytes_, block_bytes_};
}

absl::Status CpuBlockMover::CopyOut(BlockId block, std::span<std::byte> out) {
  CHECK(out.size() == block_bytes_);
  std::memcpy(out.data(), HostView(block).data(), block_bytes_);
  return absl::OkStatus();
}

absl::Status CpuBlockMover::CopyIn(BlockId block, std::span<const std::byte> in) {
  CHECK(in.size() == block_bytes_);
  std::memcpy(HostView(block).data(), in.data(), block_bytes_);
  return absl::OkStatus();
}

}  // namespace holdfast
