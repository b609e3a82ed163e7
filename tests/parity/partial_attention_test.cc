// Attention over parts of the keys, merged: bit for bit that over all of them where parts are the
// kernels' splits, near a naive double reference wherever blocks are cut (tolerances of
// attention_test.cc), equal on all paths.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/parity/attention_sequence.h"

namespace holdfast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kSplitBlocks = 16;

bool IsEmpty(const NaturalLse& lse) { return lse.value == -kInfinity; }

// Each run one part, merged in their order.
Sequence::Result MergeOfRuns(Sequence& sequence, const KernelTable& kernels,
                             const std::vector<BlockRun>& runs, int32_t tile_rows,
                             int32_t tile_heads) {
  return sequence.RunWith(
      tile_rows, tile_heads, AttentionWorkspaceFloats, [&](const AttentionTile& tile) {
        const auto queries = static_cast<size_t>(tile.num_rows) * tile.num_heads;
        const int32_t row_floats = tile.num_heads * tile.head_dim;
        std::vector<float> out(queries * static_cast<size_t>(tile.head_dim));
        std::vector<NaturalLse> lse(queries);
        for (size_t i = 0; i < queries; ++i) tile.lse[i] = {-kInfinity};
        for (const BlockRun& run : runs) {
          AttentionPart part{
              .tile = tile, .first_block = run.first_block, .num_blocks = run.num_blocks};
          part.tile.kv_base = sequence.ArenaData(run.arena) + Sequence::kHeadOffset;
          part.tile.kv_block_stride = sequence.block_stride();
          part.tile.block_table = sequence.table().data() + run.first_block;
          part.tile.out = out.data();
          part.tile.out_row_stride = row_floats;
          part.tile.lse = lse.data();
          kernels.attention_part(part);
          for (size_t i = 0; i < queries; ++i) {
            if (!IsEmpty(lse[i])) continue;
            for (int32_t d = 0; d < tile.head_dim; ++d) {
              EXPECT_EQ(out[i * static_cast<size_t>(tile.head_dim) + d], 0.0f);
            }
          }
          kernels.merge_attention({.num_rows = tile.num_rows,
                                   .num_heads = tile.num_heads,
                                   .head_dim = tile.head_dim,
                                   .out = tile.out,
                                   .out_row_stride = tile.out_row_stride,
                                   .lse = tile.lse,
                                   .part_out = out.data(),
                                   .part_row_stride = row_floats,
                                   .part_lse = lse.data()});
        }
      });
}

// Runs cut again at split borders.
std::vector<BlockRun> CutAtSplits(const std::vector<BlockRun>& runs) {
  std::vector<BlockRun> pieces;
  for (const BlockRun& run : runs) {
    const int32_t end = run.first_block + run.num_blocks;
    for (int32_t begin = run.first_block; begin < end;) {
      const int32_t piece_end = std::min(end, (begin / kSplitBlocks + 1) * kSplitBlocks);
      pieces.push_back({run.arena, begin, piece_end - begin});
      begin = piece_end;
    }
  }
  return pieces;
}

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (const KvElement kv : kElements) {
    shapes.push_back({.context = 1300, .rows = 1, .kv = kv});
    shapes.push_back({.context = 1025, .rows = 19, .heads = 2, .kv = kv});
    shapes.push_back({.context = 530, .rows = 300, .heads = 2, .head_dim = 16, .kv = kv});
    shapes.push_back({.context = 900, .rows = 5, .head_dim = 24, .window = 300, .kv = kv});
  }
  return shapes;
}

TEST(PartialAttentionTest, SplitsAttendedWhereTheyLieAndMergedAreTheWholeBitForBit) {
  for (const Shape& shape : Shapes()) {
    for (uint32_t seed = 0; seed < 4; ++seed) {
      SCOPED_TRACE(testing::Message() << shape << " seed " << seed);
      Sequence together(shape, seed);
      const Sequence::Result wanted =
          together.Run(KernelsOf(Isa::kScalar), shape.rows, shape.heads);
      std::mt19937 rng(seed);
      Sequence apart(shape, seed, RandomRuns(together.num_blocks(), kSplitBlocks, rng));
      const std::vector<BlockRun> pieces = CutAtSplits(apart.runs());
      for (const KernelTable* path : AllPaths()) {
        ExpectSame(MergeOfRuns(apart, *path, pieces, shape.rows, shape.heads), wanted, shape,
                   path->name);
        ExpectSame(MergeOfRuns(apart, *path, pieces, 7, 1), wanted, shape, path->name);
      }
    }
  }
}

TEST(PartialAttentionTest, AnyCutAtBlockBordersIsTheWholeUpToRounding) {
  for (const Shape& shape : Shapes()) {
    for (uint32_t seed = 0; seed < 4; ++seed) {
      SCOPED_TRACE(testing::Message() << shape << " seed " << seed);
      std::mt19937 rng(seed + 50);
      const int32_t num_blocks = (shape.context + kPlaces - 1) / kPlaces;
      Sequence sequence(shape, seed, RandomRuns(num_blocks, 1 + seed, rng));
      const Sequence::Result scalar =
          MergeOfRuns(sequence, KernelsOf(Isa::kScalar), sequence.runs(), shape.rows, shape.heads);
      sequence.ExpectNear(scalar, sequence.Naive());
      for (const KernelTable* path : VectorPaths()) {
        ExpectSame(MergeOfRuns(sequence, *path, sequence.runs(), 16, shape.heads), scalar, shape,
                   path->name);
      }
      // The order of the merges is free, too, up to rounding.
      std::vector<BlockRun> shuffled = sequence.runs();
      std::shuffle(shuffled.begin(), shuffled.end(), rng);
      sequence.ExpectNear(MergeOfRuns(sequence, KernelsOf(BestIsa()), shuffled, 16, shape.heads),
                          sequence.Naive());
    }
  }
}

TEST(PartialAttentionTest, AnEmptyPartWeighsNothing) {
  constexpr int32_t kHeads = 3, kDim = 24;
  const std::vector<float> some = RandomFloats(kHeads * kDim, 3);
  const std::vector<float> garbage(kHeads * kDim, std::nanf(""));
  const std::vector<NaturalLse> lse = {{-3.0f}, {0.5f}, {700.0f}};
  const std::vector<NaturalLse> none(kHeads, NaturalLse{-kInfinity});
  for (const KernelTable* path : AllPaths()) {
    const auto merge = [&](std::vector<float> out, std::vector<NaturalLse> out_lse,
                           const std::vector<float>& part,
                           const std::vector<NaturalLse>& part_lse) {
      path->merge_attention({.num_rows = 1,
                             .num_heads = kHeads,
                             .head_dim = kDim,
                             .out = out.data(),
                             .out_row_stride = kHeads * kDim,
                             .lse = out_lse.data(),
                             .part_out = part.data(),
                             .part_row_stride = kHeads * kDim,
                             .part_lse = part_lse.data()});
      for (const NaturalLse& l : out_lse) out.push_back(l.value);
      return out;
    };
    std::vector<float> wanted = some;
    for (const NaturalLse& l : lse) wanted.push_back(l.value);
    EXPECT_TRUE(SameBits(merge(some, lse, garbage, none), wanted)) << path->name;
    EXPECT_TRUE(SameBits(merge(garbage, none, some, lse), wanted)) << path->name;
    // Both empty: stays empty.
    EXPECT_EQ(merge(some, none, garbage, none).back(), -kInfinity) << path->name;
  }
}

TEST(PartialAttentionTest, PartsOfVeryUnequalMassDoNotOverflow) {
  constexpr int32_t kDim = 16;
  for (const float difference : {60.0f, 200.0f, 1e30f}) {
    for (const KernelTable* path : AllPaths()) {
      std::vector<float> out(kDim, 1.0f), part(kDim, 2.0f);
      NaturalLse lse{-difference}, part_lse{difference};
      path->merge_attention({.num_rows = 1,
                             .num_heads = 1,
                             .head_dim = kDim,
                             .out = out.data(),
                             .out_row_stride = kDim,
                             .lse = &lse,
                             .part_out = part.data(),
                             .part_row_stride = kDim,
                             .part_lse = &part_lse});
      EXPECT_EQ(out, part) << path->name;
      EXPECT_EQ(lse.value, difference) << path->name;
    }
  }
}

}  // namespace
}  // namespace holdfast
