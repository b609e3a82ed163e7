// Attention over a paged view: near a naive double reference (tolerance: 4e-6 of the largest |V|
// for out, 1e-5 absolute for lse, with scores of standard deviation around 1.5), equal bit for bit
// on all paths, and a row's bits depend on nothing but the row.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/parity/attention_sequence.h"

namespace holdfast {
namespace {

constexpr int32_t kContexts[] = {1, 15, 16, 17, 255, 256, 257, 700};

void CheckPaths(const Shape& shape, uint32_t seed) {
  Sequence sequence(shape, seed);
  const auto scalar = sequence.Run(KernelsOf(Isa::kScalar), shape.rows, shape.heads);
  sequence.ExpectNear(scalar, sequence.Naive());
  for (const KernelTable* path : VectorPaths()) {
    ExpectSame(sequence.Run(*path, shape.rows, shape.heads), scalar, shape, path->name);
  }
}

TEST(AttentionTest, DecodeOfOneRowAtEveryContext) {
  for (const int32_t context : kContexts) {
    for (const int32_t heads : {1, 3, 7}) {
      for (const KvElement kv : kElements) {
        CheckPaths({.context = context, .rows = 1, .heads = heads, .kv = kv}, 1);
      }
    }
  }
}

TEST(AttentionTest, PrefillOfWholePromptsAndOfChunksBehindAContext) {
  for (const int32_t context : kContexts) {
    for (const int32_t rows : {7, 64, context}) {
      if (rows > context) continue;
      for (const KvElement kv : kElements) {
        CheckPaths({.context = context, .rows = rows, .heads = 2, .kv = kv}, 2);
      }
    }
  }
}

TEST(AttentionTest, HeadSizesThatAreNoMultipleOfTheLanes) {
  for (const int32_t head_dim : {4, 8, 16, 24, 80, 96, 128, 256}) {
    for (const KvElement kv : kElements) {
      CheckPaths({.context = 33, .rows = 5, .heads = 3, .head_dim = head_dim, .kv = kv}, 3);
    }
  }
}

TEST(AttentionTest, WindowsOfEverySizeAgainstBlocksAndSplits) {
  for (const int32_t window : {1, 2, 15, 16, 17, 100, 256, 257, 1000}) {
    for (const int32_t rows : {1, 40, 300}) {
      for (const KvElement kv : {KvElement::kF16, KvElement::kI8}) {
        CheckPaths({.context = 600, .rows = rows, .heads = 1, .window = window, .kv = kv}, 4);
      }
    }
  }
}

// What promise 1 needs: however the engine cuts rows and heads into tiles.
TEST(AttentionTest, ARowDoesNotDependOnTheTileItIsIn) {
  for (const Shape& shape :
       {Shape{.context = 130, .rows = 130, .heads = 3},
        Shape{.context = 700, .rows = 65, .heads = 3},
        Shape{.context = 700, .rows = 65, .heads = 3, .kv = KvElement::kI8},
        Shape{.context = 300, .rows = 70, .heads = 2, .window = 20, .kv = KvElement::kF32}}) {
    Sequence sequence(shape, 5);
    for (const KernelTable* path : AllPaths()) {
      const auto wanted = sequence.Run(*path, 1, 1);
      for (const int32_t tile_rows : {1, 3, 7, 64}) {
        ExpectSame(sequence.Run(*path, tile_rows, shape.heads), wanted, shape,
                   path->name + std::string(" tiles of ") + std::to_string(tile_rows));
      }
      ExpectSame(sequence.Run(*path, 64, 1), wanted, shape, "heads alone");
    }
  }
}

// Scores far apart: a split that weighs nothing must not disturb, and nothing overflows.
TEST(AttentionTest, SurvivesScoresFarApart) {
  for (const float factor : {30.0f, 1000.0f}) {
    constexpr int32_t kContext = 520, kDim = 16;
    std::vector<float> block_values(size_t{2} * 16 * kDim * 33);
    std::vector<float> keys(kContext * kDim), values(kContext * kDim);
    for (int32_t t = 0; t < kContext; ++t) {
      for (int32_t d = 0; d < kDim; ++d) {
        keys[static_cast<size_t>(t * kDim + d)] = t == 300 ? factor : -factor;
        values[static_cast<size_t>(t * kDim + d)] = static_cast<float>(t);
      }
    }
    std::vector<int32_t> table(33);
    auto* arena = reinterpret_cast<std::byte*>(block_values.data());
    const size_t stride = size_t{2} * 16 * kDim * sizeof(float);
    for (int32_t b = 0; b < 33; ++b) table[static_cast<size_t>(b)] = b;
    for (int32_t t = 0; t < kContext; ++t) {
      KernelsOf(Isa::kScalar)
          .write_kv(keys.data() + t * kDim, values.data() + t * kDim, kDim, KvElement::kF32, t % 16,
                    arena + static_cast<size_t>(t / 16) * stride);
    }
    const std::vector<float> query(kDim, 1.0f);
    for (const KernelTable* path : AllPaths()) {
      std::vector<float> out(kDim), workspace(AttentionWorkspaceFloats(1, 1, kDim));
      NaturalLse lse{0};
      const AttentionTile tile{.q = query.data(),
                               .q_row_stride = kDim,
                               .num_rows = 1,
                               .num_heads = 1,
                               .head_dim = kDim,
                               .first_position = kContext - 1,
                               .scale = 1.0f,
                               .kv_base = arena,
                               .kv_block_stride = stride,
                               .block_table = table.data(),
                               .kv_element = KvElement::kF32,
                               .out = out.data(),
                               .out_row_stride = kDim,
                               .lse = &lse,
                               .workspace = workspace.data()};
      path->attention(tile);
      EXPECT_EQ(out, std::vector<float>(kDim, 300.0f)) << path->name;
      EXPECT_EQ(lse.value, 16 * factor) << path->name;
    }
  }
}

}  // namespace
}  // namespace holdfast
