// Steps that begin before all of the KV that they read has come back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "kvstore/layer_gate.h"
#include "tests/unit/engine/engine_driver.h"
#include "tests/unit/engine/random_model.h"

namespace holdfast {
namespace {

constexpr int32_t kPrefix = 96, kRows = 21;  // of the sequence that comes back: slot 0
constexpr int32_t kOtherPrefix = 64;         // of a second one that does: slot 1
constexpr int32_t kCompany = 40;             // of one that needs nothing back: slot 2

// An engine that has computed three sequences, and what a step on top of them says.
class GatedStepTest : public testing::TestWithParam<KvDtype> {
 protected:
  GatedStepTest() : random_({.type = TensorType::kQ8_0, .num_layers = 5}) {
    engine_ = MakeEngine(
        random_.model,
        {.threads = 2, .kv_dtype = GetParam(), .num_sequence_slots = 4, .step_tokens_max = 600});
    num_layers_ = engine_->info().kv_layout.num_layers;
    block_bytes_ = engine_->info().kv_layout.block_bytes();
    for (int32_t length : {kPrefix + kRows, kOtherPrefix + 1, kCompany + 1}) {
      tokens_.push_back(random_.RandomTokens(length));
    }
    blocks_ = {Blocks(0, 8, 3), Blocks(20, 5, 4), Blocks(40, 3, 5)};
    StepPlan plan;
    AddRows(plan, SequenceSlot{0}, tokens_[0], 0, kPrefix, blocks_[0]);
    AddRows(plan, SequenceSlot{1}, tokens_[1], 0, kOtherPrefix, blocks_[1]);
    AddRows(plan, SequenceSlot{2}, tokens_[2], 0, kCompany, blocks_[2]);
    engine_->transformer().Forward(plan, engine_->kv_arena());
    kept_.resize(static_cast<size_t>(engine_->info().num_blocks) * block_bytes_);
    std::memcpy(kept_.data(), engine_->kv_arena(), kept_.size());
    expected_ = Run({});
    EXPECT_EQ(expected_.samples.size(), 3u);
    EXPECT_TRUE(expected_.gate_failed.empty());
  }

  std::vector<BlockId> PrefixOf(int32_t sequence) const {
    const int32_t tokens = sequence == 0 ? kPrefix : kOtherPrefix;
    return {blocks_[sequence].begin(), blocks_[sequence].begin() + tokens / kBlockTokens};
  }
  // One step on top of the three. Draws, and if `logprobs` those of all rows of the first.
  StepResult Run(const std::vector<const LayerGate*>& gates, bool logprobs = true) {
    StepPlan plan;
    for (int32_t s = 0; s < 3; ++s) {
      plan.opens.push_back({.slot = SequenceSlot{s},
                            .sampling = {.temperature = 0.8f, .seed = 7, .top_logprobs = 4},
                            .prompt = tokens_[s]});
    }
    PlanSequence& first = AddRows(plan, SequenceSlot{0}, tokens_[0], kPrefix, kRows, blocks_[0]);
    if (logprobs) first.prompt_top_logprobs = 2;
    AddRows(plan, SequenceSlot{1}, tokens_[1], kOtherPrefix, 1, blocks_[1]);
    AddRows(plan, SequenceSlot{2}, tokens_[2], kCompany, 1, blocks_[2]);
    for (size_t s = 0; s < plan.sequences.size(); ++s) {
      plan.sequences[s].samples = true;
      plan.sequences[s].gate = s < gates.size() ? gates[s] : nullptr;
    }
    StepResult result;
    EXPECT_TRUE(engine_->Execute(plan, result).ok());
    return result;
  }

  std::span<std::byte> Slice(std::byte* arena, BlockId block, int32_t layer) const {
    const size_t layer_bytes = block_bytes_ / static_cast<size_t>(num_layers_);
    return {arena + static_cast<size_t>(Number(block)) * block_bytes_ +
                static_cast<size_t>(layer) * layer_bytes,
            layer_bytes};
  }
  void Lose(const std::vector<BlockId>& blocks) {
    for (BlockId block : blocks) {
      for (int32_t layer = 0; layer < num_layers_; ++layer) {
        std::ranges::fill(Slice(engine_->kv_arena(), block, layer), std::byte{0xFF});
      }
    }
  }
  void BringBack(BlockId block, int32_t layer) {
    const std::span<std::byte> from = Slice(kept_.data(), block, layer);
    std::ranges::copy(from, Slice(engine_->kv_arena(), block, layer).begin());
  }
  // Layer by layer, its blocks in any order, dawdling as the seed wants; `fail_at`: that layer of
  // one block is rubbish.
  void BringBack(std::vector<BlockId> blocks, LayerGate& gate, uint32_t seed, int32_t fail_at) {
    std::mt19937 rng(seed);
    for (int32_t layer = 0; layer < num_layers_; ++layer) {
      std::shuffle(blocks.begin(), blocks.end(), rng);
      for (BlockId block : blocks) {
        for (uint32_t i = rng() % 4 == 0 ? rng() % 200 : 0; i > 0; --i) std::this_thread::yield();
        BringBack(block, layer);
      }
      if (layer == fail_at) {
        std::ranges::fill(Slice(engine_->kv_arena(), blocks[0], layer), std::byte{0xFF});
        return gate.Fail();
      }
      gate.Open(layer + 1);
    }
  }

  static void ExpectSame(const StepResult& got, const SampledToken& a, const StepResult& wanted,
                         const SampledToken& b) {
    EXPECT_EQ(a.slot, b.slot);
    EXPECT_EQ(a.token, b.token);
    EXPECT_EQ(a.logprob, b.logprob);  // bit for bit
    EXPECT_FALSE(a.undefined);
    EXPECT_TRUE(std::ranges::equal(got.TopOf(a), wanted.TopOf(b)));
  }

  RandomModel random_;
  std::unique_ptr<CpuEngine> engine_;
  int32_t num_layers_ = 0;
  size_t block_bytes_ = 0;
  std::vector<std::vector<TokenId>> tokens_;
  std::vector<std::vector<BlockId>> blocks_;
  std::vector<std::byte> kept_;  // the arena after the prefixes
  StepResult expected_;
};

TEST_P(GatedStepTest, HasThemToWhereOnlyTheLastRowIsAskedFor) {
  for (const int32_t fail_at : {-1, 2, num_layers_ - 1}) {
    SCOPED_TRACE(testing::Message() << "fails at layer " << fail_at);
    LayerGate gate(0, num_layers_);
    gate.Arm(kPrefix / kBlockTokens);
    Lose(PrefixOf(0));
    std::thread one([&] { BringBack(PrefixOf(0), gate, 3, fail_at); });
    const StepResult got = Run({&gate}, false);
    one.join();
    const size_t failed = fail_at < 0 ? 0 : 1;
    EXPECT_EQ(got.gate_failed.size(), failed);
    EXPECT_TRUE(got.prompt_logprobs.empty());
    ASSERT_EQ(got.samples.size(), expected_.samples.size() - failed);
    for (size_t i = 0; i < got.samples.size(); ++i) {
      ExpectSame(got, got.samples[i], expected_, expected_.samples[i + failed]);
    }
  }
}

TEST_P(GatedStepTest, HasTheBitsOfAStepThatFoundAllInPlace) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    LayerGate first(0, num_layers_), second(1, num_layers_);
    first.Arm(kPrefix / kBlockTokens);
    second.Arm(kOtherPrefix / kBlockTokens);
    Lose(PrefixOf(0));
    Lose(PrefixOf(1));
    std::thread one([&] { BringBack(PrefixOf(0), first, seed, -1); });
    std::thread two([&] { BringBack(PrefixOf(1), second, seed + 100, -1); });
    const StepResult got = Run({&first, &second});
    one.join();
    two.join();
    EXPECT_TRUE(got.gate_failed.empty());
    ASSERT_EQ(got.samples.size(), expected_.samples.size());
    for (size_t i = 0; i < got.samples.size(); ++i) {
      ExpectSame(got, got.samples[i], expected_, expected_.samples[i]);
    }
    ASSERT_EQ(got.prompt_logprobs.size(), expected_.prompt_logprobs.size());
    for (size_t i = 0; i < got.prompt_logprobs.size(); ++i) {
      ExpectSame(got, got.prompt_logprobs[i], expected_, expected_.prompt_logprobs[i]);
    }
  }
}

TEST_P(GatedStepTest, AGateThatFailsTakesItsSequenceAloneOutOfTheResult) {
  const std::vector<std::byte> after(engine_->kv_arena(), engine_->kv_arena() + kept_.size());
  for (int32_t fail_at = 0; fail_at < num_layers_; ++fail_at) {
    for (int32_t failing = 0; failing < 2; ++failing) {
      SCOPED_TRACE(testing::Message() << "sequence " << failing << ", layer " << fail_at);
      LayerGate first(0, num_layers_), second(1, num_layers_);
      first.Arm(kPrefix / kBlockTokens);
      second.Arm(kOtherPrefix / kBlockTokens);
      Lose(PrefixOf(0));
      Lose(PrefixOf(1));
      const auto seed = static_cast<uint32_t>(fail_at);
      std::thread one([&] { BringBack(PrefixOf(0), first, seed, failing == 0 ? fail_at : -1); });
      std::thread two([&] { BringBack(PrefixOf(1), second, seed, failing == 1 ? fail_at : -1); });
      const StepResult got = Run({&first, &second});
      one.join();
      two.join();
      ASSERT_EQ(got.gate_failed, std::vector<int32_t>{failing});
      ASSERT_EQ(got.samples.size(), 2u);
      ExpectSame(got, got.samples[0], expected_, expected_.samples[failing == 0 ? 1 : 0]);
      ExpectSame(got, got.samples[1], expected_, expected_.samples[2]);
      EXPECT_EQ(got.prompt_logprobs.size(), failing == 0 ? 0u : expected_.prompt_logprobs.size());
      // What the others wrote is what they write without it.
      for (int32_t s = 0; s < 3; ++s) {
        if (s == failing) continue;
        for (BlockId block : blocks_[s]) {
          const size_t begin = static_cast<size_t>(Number(block)) * block_bytes_;
          EXPECT_EQ(std::memcmp(engine_->kv_arena() + begin, after.data() + begin, block_bytes_), 0)
              << "sequence " << s;
        }
      }
    }
  }
  // Its rows are computed again once all is there: nothing of the failed step is left.
  for (int32_t s = 0; s < 2; ++s) {
    for (BlockId block : PrefixOf(s)) {
      for (int32_t layer = 0; layer < num_layers_; ++layer) BringBack(block, layer);
    }
  }
  const StepResult again = Run({});
  for (size_t i = 0; i < again.samples.size(); ++i) {
    ExpectSame(again, again.samples[i], expected_, expected_.samples[i]);
  }
}

TEST_P(GatedStepTest, AGateThatIsGivenUpEndsTheWaitAtOnce) {
  LayerGate gate(0, num_layers_);
  gate.Arm(1);
  Lose(PrefixOf(0));
  BringBack(PrefixOf(0)[0], 0);
  std::thread stopping([&] { gate.Fail(); });
  const StepResult got = Run({&gate});
  stopping.join();
  EXPECT_EQ(got.gate_failed, std::vector<int32_t>{0});
  EXPECT_EQ(got.samples.size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(KvTypes, GatedStepTest, testing::Values(KvDtype::kF16, KvDtype::kI8),
                         [](const auto& dtype) { return KvDtypeName(dtype.param); });

}  // namespace
}  // namespace holdfast
