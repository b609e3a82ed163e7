// Attention of one tile whose keys lie in several memories: each run of blocks is attended where it
// lies, and the parts are merged by log-sum-exp (kernels/partial_attention.h).
//
//   sequence   [ 0 1 2 3 4 5 6 | 7 8 9 ... ]        blocks, in order
//   parts        host arena      device arena       runs that lie in one arena
//   pieces     [0..15] [16..31] ...                 cut again at the kernels' splits of 256 keys
//
// Exact: where parts meet at a split border (a multiple of 256 positions) the result is bit for bit
// that of all keys in one arena, because pieces are then the splits of KernelTable::attention,
// merged in its order. Where they meet inside a split, that split is two pieces: the same up to
// rounding (kernels/partial_attention.h has the bound), and still a function of the sequence and
// its cut alone, whatever else is in the step.
//
// Thread: any, each call with its own workspace. Allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernel_table.h"

namespace holdfast {

// KV blocks of one memory, by number.
struct KvArena {
  const std::byte* data = nullptr;
  size_t block_stride = 0;  // bytes from block to block, at least KvLayout::block_bytes()
  int32_t num_blocks = 0;
};

// A run of a sequence's blocks that lie in one arena.
struct KvPart {
  int32_t arena = 0;                // index of its arena
  int32_t first_block = 0;          // of the sequence
  int32_t num_blocks = 0;           // > 0
  const int32_t* blocks = nullptr;  // num_blocks numbers in that arena
};

size_t PartialAttentionWorkspaceFloats(int32_t num_rows, int32_t num_heads, int32_t head_dim);

// Fills queries.out (and lse, where it is wanted) over all that `parts` hold of the keys that each
// row sees. `queries` is the tile without its KV: kv_base, kv_block_stride and block_table are not
// read; its workspace has PartialAttentionWorkspaceFloats. Parts ascend, do not overlap, and each
// lies in arenas[part.arena] at head_offset (of layer and KV head) inside a block. A query that
// sees no key of any part gets out 0 and lse minus infinity.
void AttendParts(const KernelTable& kernels, const AttentionTile& queries,
                 std::span<const KvPart> parts, std::span<const KvArena> arenas,
                 size_t head_offset);

}  // namespace holdfast
