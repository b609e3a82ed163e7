// Attention over a part of the keys, and the merge that makes the whole of the parts. The one idea
// behind blocks that are attended where they lie: on the device, in host memory, on another
// machine.
//
//   visible keys = part 0 + part 1 + ...     any partition, each key in one part
//   (o_i, lse_i) = attention over part i     o_i normalised over its own part; an empty part's lse
//                                            is minus infinity
//   lse = ln sum_i exp(lse_i),   o = sum_i exp(lse_i - lse) o_i
//
// The CPU twins (attention.inl) are the oracle of a device's. Limits of exactness, for the CPU's:
// - Each part within one split of 256 absolute positions and the splits whole, merged in ascending
//   order: bit for bit what KernelTable::attention gives over all keys at once.
// - Any other partition at block borders: the same up to rounding; against double, on standard
//   normal values and scores of deviation 1.5, 4e-6 of max|V| for out and 1e-5 for lse.
#pragma once

#include <cstdint>

#include "kernels/paged_attention.h"

namespace holdfast {

// Attends blocks [first_block, first_block + num_blocks) of the sequence: of each row's visible
// keys, those among the part's places. first_block >= 0, num_blocks >= 0.
struct AttentionPart {
  // As for the whole, but block_table[0] names block first_block (num_blocks entries), and lse is
  // wanted. A query that sees nothing of the part gets out 0 and lse minus infinity. A part of
  // several splits is merged over them, ascending.
  AttentionTile tile;
  int32_t first_block = 0;
  int32_t num_blocks = 0;
  // Further entries of the block table, of the same memory: this thread attends them next, so that
  // their keys are asked for ahead. Changes no bit.
  int32_t num_blocks_next = 0;
  // out and lse hold the result over the parts before, in ascending order, and this part's splits
  // are merged into it one by one. Whole splits before: the same bits as over all keys at once.
  bool continues = false;
};

// (out, lse) <- (out, lse) merged with (part_out, part_lse), query by query: where either has lse
// minus infinity, the other stays as it is, bit for bit. No alias between the two.
struct AttentionMerge {
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  float* out = nullptr;  // row r, head h at out + r * out_row_stride + h * head_dim
  int64_t out_row_stride = 0;
  NaturalLse* lse = nullptr;        // lse[r * num_heads + h]
  const float* part_out = nullptr;  // as out
  int64_t part_row_stride = 0;
  const NaturalLse* part_lse = nullptr;
};

}  // namespace holdfast
