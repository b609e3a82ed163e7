// Attention over a paged view: near a naive double reference (tolerance: 4e-6 of the largest |V|
// for out, 1e-5 absolute for lse, with scores of standard deviation around 1.5), equal bit for bit
// on all paths, and a row's bits depend on nothing but the row.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

constexpr int32_t kPlaces = 16;

struct Shape {
  int32_t context = 1;  // keys of the last row
  int32_t rows = 1;
  int32_t heads = 3;
  int32_t head_dim = 64;
  int32_t window = 0;
  KvElement kv = KvElement::kF16;
};

constexpr KvElement kElements[] = {KvElement::kF16, KvElement::kF32, KvElement::kI8};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "context " << s.context << " rows " << s.rows << " heads " << s.heads << " dim "
             << s.head_dim << " window " << s.window << " " << ElementName(s.kv);
}

// One sequence: blocks in scattered order in an arena whose other bytes are all NaN, so that
// reading what nobody may see shows.
class Sequence {
 public:
  Sequence(Shape shape, uint32_t seed)
      : shape_(shape),
        stride_(HeadBytes(shape.kv, shape.head_dim) + 128),
        blocks_((shape.context + kPlaces - 1) / kPlaces),
        arena_(static_cast<size_t>(2 * blocks_ + 3) * stride_, std::byte{0xff}),
        keys_(RandomFloats(Elements(), seed)),
        values_(RandomFloats(Elements(), seed + 1)),
        queries_(RandomFloats(static_cast<size_t>(shape.rows * shape.heads * shape.head_dim),
                              seed + 2, 1.5f)) {
    for (int32_t b = 0; b < blocks_; ++b) {
      table_.push_back(b % 2 == 0 ? b + 1 : 2 * blocks_ + 1 - b);
    }
    for (int32_t t = 0; t < shape.context; ++t) {
      float* key = keys_.data() + t * shape.head_dim;
      float* value = values_.data() + t * shape.head_dim;
      KernelsOf(Isa::kScalar)
          .write_kv(key, value, shape.head_dim, shape.kv, t % kPlaces,
                    arena_.data() + 64 + table_[static_cast<size_t>(t / kPlaces)] * stride_);
      RoundAsStored(shape.kv, key, shape.head_dim);
      RoundAsStored(shape.kv, value, shape.head_dim);
    }
  }

  struct Result {
    std::vector<float> out, lse;  // [row][head][dim], [row][head]
  };

  int32_t first_position() const { return shape_.context - shape_.rows; }

  Result Naive() const {
    Result result;
    for (int32_t r = 0; r < shape_.rows; ++r) {
      const int32_t end = first_position() + r + 1;
      const int32_t begin = shape_.window > 0 ? std::max(0, end - shape_.window) : 0;
      for (int32_t h = 0; h < shape_.heads; ++h) {
        const float* q = queries_.data() + (r * shape_.heads + h) * shape_.head_dim;
        std::vector<double> scores;
        for (int32_t t = begin; t < end; ++t) {
          double dot = 0;
          for (int32_t d = 0; d < shape_.head_dim; ++d) {
            dot += double{q[d]} * keys_[static_cast<size_t>(t * shape_.head_dim + d)];
          }
          scores.push_back(dot * Scale());
        }
        const double most = *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (const double s : scores) sum += std::exp(s - most);
        result.lse.push_back(static_cast<float>(most + std::log(sum)));
        for (int32_t d = 0; d < shape_.head_dim; ++d) {
          double o = 0;
          for (int32_t t = begin; t < end; ++t) {
            o += std::exp(scores[static_cast<size_t>(t - begin)] - most) / sum *
                 values_[static_cast<size_t>(t * shape_.head_dim + d)];
          }
          result.out.push_back(static_cast<float>(o));
        }
      }
    }
    return result;
  }

  // Rows in tiles of `tile_rows`, heads in tiles of `tile_heads`.
  Result Run(const KernelTable& kernels, int32_t tile_rows, int32_t tile_heads) {
    const int32_t row_floats = shape_.heads * shape_.head_dim;
    Result result;
    result.out.resize(static_cast<size_t>(shape_.rows * row_floats));
    result.lse.resize(static_cast<size_t>(shape_.rows * shape_.heads));
    for (int32_t r = 0; r < shape_.rows; r += tile_rows) {
      for (int32_t h = 0; h < shape_.heads; h += tile_heads) {
        const int32_t rows = std::min(tile_rows, shape_.rows - r);
        const int32_t heads = std::min(tile_heads, shape_.heads - h);
        const size_t floats = AttentionWorkspaceFloats(rows, heads, shape_.head_dim);
        constexpr float kGuard = 1234.5f;
        std::vector<float> workspace(floats + 1, std::numeric_limits<float>::quiet_NaN());
        workspace[floats] = kGuard;
        std::vector<NaturalLse> lse(static_cast<size_t>(rows * heads));
        const AttentionTile tile{.q = queries_.data() + r * row_floats + h * shape_.head_dim,
                                 .q_row_stride = row_floats,
                                 .num_rows = rows,
                                 .num_heads = heads,
                                 .head_dim = shape_.head_dim,
                                 .first_position = first_position() + r,
                                 .window = shape_.window,
                                 .scale = static_cast<float>(Scale()),
                                 .kv_base = arena_.data() + 64,
                                 .kv_block_stride = stride_,
                                 .block_table = table_.data(),
                                 .kv_element = shape_.kv,
                                 .out = result.out.data() + r * row_floats + h * shape_.head_dim,
                                 .out_row_stride = row_floats,
                                 .lse = lse.data(),
                                 .workspace = workspace.data()};
        kernels.attention(tile);
        EXPECT_EQ(workspace[floats], kGuard) << "wrote beyond its workspace";
        for (int32_t i = 0; i < rows * heads; ++i) {
          result.lse[static_cast<size_t>((r + i / heads) * shape_.heads + h + i % heads)] =
              lse[static_cast<size_t>(i)].value;
        }
      }
    }
    return result;
  }

  void ExpectNear(const Result& got, const Result& wanted) const {
    float most = 0;
    for (const float v : values_) most = std::max(most, std::abs(v));
    for (size_t i = 0; i < wanted.out.size(); ++i) {
      ASSERT_NEAR(got.out[i], wanted.out[i], 4e-6 * most) << shape_ << " element " << i;
    }
    for (size_t i = 0; i < wanted.lse.size(); ++i) {
      ASSERT_NEAR(got.lse[i], wanted.lse[i], 1e-5) << shape_ << " lse " << i;
    }
  }

 private:
  size_t Elements() const { return static_cast<size_t>(shape_.context * shape_.head_dim); }
  double Scale() const {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape_.head_dim)));
  }

  Shape shape_;
  size_t stride_;
  int32_t blocks_;
  AlignedBytes arena_;
  std::vector<float> keys_, values_, queries_;
  std::vector<int32_t> table_;
};

void ExpectSame(const Sequence::Result& a, const Sequence::Result& b, const Shape& shape,
                const std::string& what) {
  EXPECT_TRUE(SameBits(a.out, b.out)) << shape << " out, " << what;
  EXPECT_TRUE(SameBits(a.lse, b.lse)) << shape << " lse, " << what;
}

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
