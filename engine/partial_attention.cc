#include "engine/partial_attention.h"

#include <algorithm>
#include <limits>

#include "config/limits.h"

namespace holdfast {
namespace {

constexpr int32_t kPieceBlocks = kAttentionSplitTokens / kBlockTokens;

size_t Padded(size_t floats) { return (floats + 15) / 16 * 16; }

// Blocks that the tile's rows see any key of: first of the first row's to last of the last row's.
struct BlockRange {
  int32_t begin, end;
};
BlockRange SeenBlocks(const AttentionTile& queries) {
  const int32_t first_key =
      queries.window > 0 ? std::max(0, queries.first_position + 1 - queries.window) : 0;
  const int32_t last_key = queries.first_position + queries.num_rows - 1;
  return {first_key / kBlockTokens, last_key / kBlockTokens + 1};
}

// Where a tile's pieces go before they are merged; parts of AttentionTile::workspace.
struct PieceScratch {
  float* attention;  // the kernel's own
  float* out;        // [row][head][head_dim]
  NaturalLse* lse;   // [row][head], of a piece
  NaturalLse* all;   // merged, for a caller who does not want it
};

PieceScratch Carve(const AttentionTile& queries) {
  const auto count = static_cast<size_t>(queries.num_rows) * static_cast<size_t>(queries.num_heads);
  PieceScratch scratch{};
  scratch.attention = queries.workspace;
  scratch.out = scratch.attention + Padded(AttentionWorkspaceFloats(
                                        queries.num_rows, queries.num_heads, queries.head_dim));
  float* const lse = scratch.out + Padded(count * static_cast<size_t>(queries.head_dim));
  scratch.lse = reinterpret_cast<NaturalLse*>(lse);
  scratch.all = reinterpret_cast<NaturalLse*>(lse + Padded(count));
  return scratch;
}

void SeeNothing(const AttentionTile& queries, NaturalLse* lse) {
  for (int32_t r = 0; r < queries.num_rows; ++r) {
    std::fill_n(queries.out + r * queries.out_row_stride,
                int64_t{queries.num_heads} * queries.head_dim, 0.0f);
  }
  std::fill_n(lse, int64_t{queries.num_rows} * queries.num_heads,
              NaturalLse{-std::numeric_limits<float>::infinity()});
}

}  // namespace

size_t PartialAttentionWorkspaceFloats(int32_t num_rows, int32_t num_heads, int32_t head_dim) {
  const auto count = static_cast<size_t>(num_rows) * static_cast<size_t>(num_heads);
  return Padded(AttentionWorkspaceFloats(num_rows, num_heads, head_dim)) +
         Padded(count * static_cast<size_t>(head_dim)) + 2 * Padded(count);
}

void AttendParts(const KernelTable& kernels, const AttentionTile& queries,
                 std::span<const KvPart> parts, std::span<const KvArena> arenas,
                 size_t head_offset) {
  const PieceScratch scratch = Carve(queries);
  const BlockRange seen = SeenBlocks(queries);
  const int32_t row_floats = queries.num_heads * queries.head_dim;
  NaturalLse* const lse = queries.lse != nullptr ? queries.lse : scratch.all;
  bool first = true;  // the first piece goes straight to where all are merged
  for (const KvPart& part : parts) {
    const KvArena& arena = arenas[part.arena];
    const int32_t end = std::min(part.first_block + part.num_blocks, seen.end);
    for (int32_t begin = std::max(part.first_block, seen.begin); begin < end;) {
      const int32_t piece_end = std::min(end, (begin / kPieceBlocks + 1) * kPieceBlocks);
      AttentionPart piece{.tile = queries, .first_block = begin, .num_blocks = piece_end - begin};
      piece.tile.kv_base = arena.data + head_offset;
      piece.tile.kv_block_stride = arena.block_stride;
      piece.tile.block_table = part.blocks + (begin - part.first_block);
      piece.tile.workspace = scratch.attention;
      piece.tile.lse = first ? lse : scratch.lse;
      if (!first) {
        piece.tile.out = scratch.out;
        piece.tile.out_row_stride = row_floats;
      }
      kernels.attention_part(piece);
      if (!first) {
        kernels.merge_attention({.num_rows = queries.num_rows,
                                 .num_heads = queries.num_heads,
                                 .head_dim = queries.head_dim,
                                 .out = queries.out,
                                 .out_row_stride = queries.out_row_stride,
                                 .lse = lse,
                                 .part_out = scratch.out,
                                 .part_row_stride = row_floats,
                                 .part_lse = scratch.lse});
      }
      first = false;
      begin = piece_end;
    }
  }
  if (first) SeeNothing(queries, lse);
}

}  // namespace holdfast
