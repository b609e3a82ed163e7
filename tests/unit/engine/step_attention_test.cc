#include "engine/step_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "config/base/check.h"
#include "kernels/half.h"

namespace holdfast {
namespace {

constexpr int32_t kHeads = 6, kKvHeads = 2, kHeadDim = 32, kWidth = kHeads * kHeadDim;
constexpr int32_t kBlocks = 400, kRowsMax = 40, kContext = 2048;

struct Decode {
  std::vector<int32_t> blocks;
  int32_t position = 0;
};

class StepAttentionTest : public testing::Test {
 protected:
  StepAttentionTest() : arena_(kBlocks * layout_.block_bytes()), q_(kRowsMax * kWidth) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < arena_.size(); i += 2) {
      const uint16_t half = HalfOfFloat(normal(rng_));
      std::memcpy(&arena_[i], &half, sizeof half);
    }
    for (float& value : q_) value = normal(rng_);
  }

  std::unique_ptr<StepAttention> Make(WorkerPool& pool, bool has_window = false) {
    auto made = StepAttention::Create({.num_heads = kHeads,
                                       .context_tokens = kContext,
                                       .rows_max = kRowsMax,
                                       .has_window = has_window,
                                       .kv_layout = layout_,
                                       .num_device_blocks = kBlocks},
                                      KernelsOf(BestIsa()), pool);
    CHECK(made.ok());
    return *std::move(made);
  }

  // What row i of the decodes gets, with the rows [begin, end) in one step.
  std::vector<float> Run(StepAttention& attention, const std::vector<Decode>& decodes, size_t begin,
                         size_t end, int32_t window = 0) {
    std::vector<float> out(kRowsMax * kWidth, -1.0f);
    attention.Begin();
    for (size_t i = begin; i < end; ++i) {
      attention.Add({.row_begin = static_cast<int32_t>(i),
                     .num_rows = 1,
                     .first_position = decodes[i].position,
                     .blocks = decodes[i].blocks.data()});
    }
    attention.Cut();
    attention.Run({.index = 0,
                   .window = window,
                   .kv_arena = arena_.data(),
                   .q = q_.data(),
                   .q_stride = kWidth,
                   .out = out.data()});
    return out;
  }

  // Each row beside all others is bit for bit what it is alone.
  void ExpectAsAlone(StepAttention& attention, const std::vector<Decode>& decodes,
                     int32_t window = 0) {
    const std::vector<float> together = Run(attention, decodes, 0, decodes.size(), window);
    for (size_t i = 0; i < decodes.size(); ++i) {
      const std::vector<float> alone = Run(attention, decodes, i, i + 1, window);
      EXPECT_EQ(std::memcmp(&together[i * kWidth], &alone[i * kWidth], kWidth * sizeof(float)), 0)
          << "row " << i << " of " << decodes.size();
    }
  }

  // Tables of random blocks that begin with the same `common` ones.
  std::vector<Decode> Decodes(size_t count, int32_t common, int32_t least, int32_t most) {
    std::uniform_int_distribution<int32_t> block(0, kBlocks - 1), position(least, most);
    std::vector<int32_t> beginning;
    for (int32_t i = 0; i < common; ++i) beginning.push_back(block(rng_));
    std::vector<Decode> decodes(count);
    for (Decode& decode : decodes) {
      decode.position = position(rng_);
      decode.blocks = beginning;
      while (decode.blocks.size() < size_t{kContext} / kBlockTokens) {
        decode.blocks.push_back(block(rng_));
      }
    }
    return decodes;
  }

  const KvLayout layout_{.num_layers = 1, .num_kv_heads = kKvHeads, .head_dim = kHeadDim};
  std::mt19937 rng_{7};
  std::vector<std::byte> arena_;
  std::vector<float> q_;
};

TEST_F(StepAttentionTest, RowsThatShareTheirFirstBlocksAreAsAlone) {
  WorkerPool pool(2);
  const auto attention = Make(pool);
  for (const int32_t common : {0, 1, 15, 16, 17, 33, 64}) {
    for (const size_t count : {size_t{2}, size_t{5}, size_t{16}, size_t{17}, size_t{40}}) {
      SCOPED_TRACE(testing::Message() << common << " blocks in common");
      ExpectAsAlone(*attention, Decodes(count, common, 16 * 64 + 1, kContext - 1));
      ExpectAsAlone(*attention, Decodes(count, common, 250, 270));  // at a split's border
    }
  }
}

TEST_F(StepAttentionTest, SharersAndOthersMayBeMixedInAnyOrder) {
  WorkerPool pool(3);
  const auto attention = Make(pool);
  std::vector<Decode> all;
  for (const int32_t common : {32, 0, 48}) {
    for (Decode& decode : Decodes(9, common, 100, 1500)) all.push_back(std::move(decode));
  }
  for (int round = 0; round < 10; ++round) {
    std::shuffle(all.begin(), all.end(), rng_);
    ExpectAsAlone(*attention, all);
  }
}

TEST_F(StepAttentionTest, AModelWithASlidingWindowSharesNothingAndIsRight) {
  WorkerPool pool(2);
  const auto attention = Make(pool, /*has_window=*/true);
  ExpectAsAlone(*attention, Decodes(8, 64, 1100, 1500), /*window=*/300);
}

// What the common keys hold must be read: another common beginning is another result.
TEST_F(StepAttentionTest, TheCommonBeginningCounts) {
  WorkerPool pool(2);
  const auto attention = Make(pool);
  std::vector<Decode> decodes = Decodes(4, 32, 600, 900);
  const std::vector<float> before = Run(*attention, decodes, 0, decodes.size());
  for (Decode& decode : decodes) std::swap(decode.blocks[3], decode.blocks[20]);
  EXPECT_NE(Run(*attention, decodes, 0, decodes.size()), before);
  for (Decode& decode : decodes) decode.blocks[3] = (decode.blocks[3] + 1) % kBlocks;
  EXPECT_NE(Run(*attention, decodes, 0, decodes.size()), before);
}

}  // namespace
}  // namespace holdfast
