// A sequence with random KV in scattered blocks, for the tests of attention: what kernels make of
// it and what double arithmetic does.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "tests/parity/kernel_inputs.h"

namespace holdfast {

inline constexpr int32_t kPlaces = 16;

struct Shape {
  int32_t context = 1;  // keys of the last row
  int32_t rows = 1;
  int32_t heads = 3;
  int32_t head_dim = 64;
  int32_t window = 0;
  KvElement kv = KvElement::kF16;
};

inline constexpr KvElement kElements[] = {KvElement::kF16, KvElement::kF32, KvElement::kI8};

inline std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "context " << s.context << " rows " << s.rows << " heads " << s.heads << " dim "
             << s.head_dim << " window " << s.window << " " << ElementName(s.kv);
}

// A run of blocks that lie in one arena.
struct BlockRun {
  int32_t arena = 0, first_block = 0, num_blocks = 0;
};

// `num_blocks` cut at random multiples of `step` blocks, each run in one of three arenas.
inline std::vector<BlockRun> RandomRuns(int32_t num_blocks, int32_t step, std::mt19937& rng) {
  std::vector<BlockRun> runs;
  for (int32_t begin = 0; begin < num_blocks;) {
    const int32_t count = std::min(step * static_cast<int32_t>(1 + rng() % 3), num_blocks - begin);
    runs.push_back({static_cast<int32_t>(rng() % 3), begin, count});
    begin += count;
  }
  return runs;
}

// One sequence: blocks in scattered order in arenas whose other bytes are all NaN (or codes with
// scales of NaN), so that reading what nobody may see shows. Equal seeds give equal KV and queries,
// wherever the blocks lie; without runs all of them lie in one arena.
class Sequence {
 public:
  Sequence(Shape shape, uint32_t seed, std::vector<BlockRun> runs = {})
      : shape_(shape),
        stride_(HeadBytes(shape.kv, shape.head_dim) + 128),
        blocks_((shape.context + kPlaces - 1) / kPlaces),
        runs_(std::move(runs)),
        keys_(RandomFloats(Elements(), seed)),
        values_(RandomFloats(Elements(), seed + 1)),
        queries_(RandomFloats(static_cast<size_t>(shape.rows * shape.heads * shape.head_dim),
                              seed + 2, 1.5f)) {
    if (runs_.empty()) runs_.push_back({0, 0, blocks_});
    for (int i = 0; i < 3; ++i) {
      arenas_.emplace_back(static_cast<size_t>(2 * blocks_ + 3) * stride_, std::byte{0xff});
    }
    std::vector<int32_t> arena_of;
    for (const BlockRun& run : runs_) {
      arena_of.insert(arena_of.end(), static_cast<size_t>(run.num_blocks), run.arena);
    }
    for (int32_t b = 0; b < blocks_; ++b) {
      table_.push_back(b % 2 == 0 ? b + 1 : 2 * blocks_ + 1 - b);
    }
    for (int32_t t = 0; t < shape.context; ++t) {
      float* key = keys_.data() + t * shape.head_dim;
      float* value = values_.data() + t * shape.head_dim;
      KernelsOf(Isa::kScalar)
          .write_kv(
              key, value, shape.head_dim, shape.kv, t % kPlaces,
              arenas_[static_cast<size_t>(arena_of[static_cast<size_t>(t / kPlaces)])].data() +
                  kHeadOffset + table_[static_cast<size_t>(t / kPlaces)] * stride_);
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
    return RunWith(tile_rows, tile_heads, AttentionWorkspaceFloats, [&](AttentionTile tile) {
      tile.kv_base = ArenaData(0) + kHeadOffset;
      tile.kv_block_stride = stride_;
      tile.block_table = table_.data();
      kernels.attention(tile);
    });
  }

  // The same by attend(tile), which fills out and lse; the tile comes without its KV.
  template <typename WorkspaceFloats, typename Attend>
  Result RunWith(int32_t tile_rows, int32_t tile_heads, const WorkspaceFloats& workspace_floats,
                 const Attend& attend) {
    const int32_t row_floats = shape_.heads * shape_.head_dim;
    Result result;
    result.out.resize(static_cast<size_t>(shape_.rows * row_floats));
    result.lse.resize(static_cast<size_t>(shape_.rows * shape_.heads));
    for (int32_t r = 0; r < shape_.rows; r += tile_rows) {
      for (int32_t h = 0; h < shape_.heads; h += tile_heads) {
        const int32_t rows = std::min(tile_rows, shape_.rows - r);
        const int32_t heads = std::min(tile_heads, shape_.heads - h);
        const size_t floats = workspace_floats(rows, heads, shape_.head_dim);
        constexpr float kGuard = 1234.5f;
        std::vector<float> workspace(floats + 1, std::numeric_limits<float>::quiet_NaN());
        workspace[floats] = kGuard;
        std::vector<NaturalLse> lse(static_cast<size_t>(rows * heads));
        attend(AttentionTile{.q = queries_.data() + r * row_floats + h * shape_.head_dim,
                             .q_row_stride = row_floats,
                             .num_rows = rows,
                             .num_heads = heads,
                             .head_dim = shape_.head_dim,
                             .first_position = first_position() + r,
                             .window = shape_.window,
                             .scale = static_cast<float>(Scale()),
                             .kv_element = shape_.kv,
                             .out = result.out.data() + r * row_floats + h * shape_.head_dim,
                             .out_row_stride = row_floats,
                             .lse = lse.data(),
                             .workspace = workspace.data()});
        EXPECT_EQ(workspace[floats], kGuard) << "wrote beyond its workspace";
        for (int32_t i = 0; i < rows * heads; ++i) {
          result.lse[static_cast<size_t>((r + i / heads) * shape_.heads + h + i % heads)] =
              lse[static_cast<size_t>(i)].value;
        }
      }
    }
    return result;
  }

  static constexpr size_t kHeadOffset = 64;  // of this head inside a block
  const std::vector<BlockRun>& runs() const { return runs_; }
  const std::vector<int32_t>& table() const { return table_; }  // numbers in the runs' arenas
  size_t block_stride() const { return stride_; }
  int32_t num_blocks() const { return blocks_; }
  const std::byte* ArenaData(int32_t arena) const {
    return arenas_[static_cast<size_t>(arena)].data();
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
  std::vector<BlockRun> runs_;
  std::vector<AlignedBytes> arenas_;
  std::vector<float> keys_, values_, queries_;
  std::vector<int32_t> table_;
};

inline void ExpectSame(const Sequence::Result& a, const Sequence::Result& b, const Shape& shape,
                       const std::string& what) {
  EXPECT_TRUE(SameBits(a.out, b.out)) << shape << " out, " << what;
  EXPECT_TRUE(SameBits(a.lse, b.lse)) << shape << " lse, " << what;
}

}  // namespace holdfast
