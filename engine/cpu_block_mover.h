// The CPU engine's side of a move. Its KV arena is this process's memory, where blocks lie one
// after the other (kvstore/kv_layout.h), so tiers read and write them in place.
//
// Thread: any; the arena's owner is the engine, which outlives it. What is written by a restore is
// seen by the step that reads it because the store plans that step after the move's MoveDone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvstore/block_mover.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

class CpuBlockMover final : public BlockMover {
 public:
  // `arena` holds `num_blocks` blocks of `layout`.
  CpuBlockMover(std::byte* arena, const KvLayout& layout, int32_t num_blocks);

  std::span<std::byte> HostView(BlockId block) override;
  absl::Status CopyOut(BlockId block, std::span<std::byte> out) override;
  absl::Status CopyIn(BlockId block, std::span<const std::byte> in) override;

 private:
  std::byte* const arena_;
  const size_t block_bytes_;
  const int32_t num_blocks_;
};

}  // namespace holdfast
