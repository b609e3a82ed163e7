// Pooled states: what an embedding is made of.
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/engine/engine_driver.h"
#include "tests/unit/engine/random_model.h"

namespace holdfast {
namespace {

constexpr Pooling kPoolings[] = {Pooling::kLast, Pooling::kMean};

CpuEngineOptions SmallOptions() {
  return {.threads = 2, .num_sequence_slots = 4, .step_tokens_max = 600};
}

// Promise 1.
TEST(PoolingTest, AStateIsTheSameWhateverTheChunksThreadsBlocksCompanyAndInstructionSet) {
  RandomModel random({.type = TensorType::kQ4_1});
  const std::vector<TokenId> tokens = random.RandomTokens(530);
  const std::vector<TokenId> others = random.RandomTokens(280);
  for (const Pooling pooling : kPoolings) {
    CpuEngineOptions options = SmallOptions();
    options.threads = 1;
    const std::vector<float> whole =
        PooledState(*MakeEngine(random.model, options), tokens, pooling, 530, Blocks(0, 38));
    for (const Isa isa : kIsas) {
      if (!IsaSupported(isa)) continue;
      for (const int32_t threads : {1, 2, 3}) {
        if (isa != BestIsa() && threads != 2) continue;
        options.threads = threads;
        options.isa = isa;
        const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, options);
        for (const int32_t chunk : {1, 7, 16, 512}) {
          if (isa != BestIsa() && chunk == 1) continue;
          SCOPED_TRACE(testing::Message()
                       << IsaName(isa) << ", " << threads << " threads, chunks of " << chunk);
          ASSERT_EQ(PooledState(*engine, tokens, pooling, chunk, Blocks(0, 38)), whole);
          ASSERT_EQ(PooledState(*engine, tokens, pooling, chunk, Blocks(20, 38, 5),
                                {.tokens = others, .blocks = Blocks(60, 20, 9)}),
                    whole);
        }
      }
    }
  }
}

TEST(PoolingTest, TheLastTokensStateIsTheSameBehindAPrefixThatWasFound) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(100);
  const std::vector<float> whole = PooledState(*engine, tokens, Pooling::kLast, 100, Blocks(0, 7));
  for (const int32_t found : {16, 96, 99}) {
    EXPECT_EQ(PooledState(*engine, tokens, Pooling::kLast, 100, Blocks(0, 7), {}, found), whole);
  }
}

TEST(PoolingTest, AMeanThatIsBegunAgainForgetsWhatItsSlotSummedUp) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(50), other = random.RandomTokens(40);
  const std::vector<float> whole = PooledState(*engine, tokens, Pooling::kMean, 50, Blocks(0, 4));
  StepPlan plan;
  StepResult result;
  AddRows(plan, SequenceSlot{0}, other, 0, 30, Blocks(5, 3)).pooling = Pooling::kMean;
  ASSERT_TRUE(engine->Execute(plan, result).ok());
  EXPECT_TRUE(result.pooled.empty() && result.states.empty());
  EXPECT_EQ(PooledState(*engine, tokens, Pooling::kMean, 20, Blocks(0, 4)), whole);
}

TEST(PoolingTest, TheMeanOfOneTokenIsItsState) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> token = random.RandomTokens(1);
  EXPECT_EQ(PooledState(*engine, token, Pooling::kMean, 1, Blocks(0, 1)),
            PooledState(*engine, token, Pooling::kLast, 1, Blocks(0, 1)));
}

TEST(PoolingTest, SequencesThatDrawAreLeftAloneByThoseThatEmbed) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(40);
  const auto draw = [&](bool with_company) {
    StepPlan plan;
    StepResult result;
    plan.opens.push_back({.slot = SequenceSlot{2},
                          .sampling = {.temperature = 0.0f, .top_logprobs = 4},
                          .prompt = tokens});
    for (const int32_t slot : {0, 1}) {
      if (!with_company) continue;
      PlanSequence& rows =
          AddRows(plan, SequenceSlot{slot}, tokens, 0, 40, Blocks(10 + 4 * slot, 3));
      rows.pooling = kPoolings[slot];
      rows.pools = true;
    }
    AddRows(plan, SequenceSlot{2}, tokens, 0, 40, Blocks(0, 3)).samples = true;
    EXPECT_TRUE(engine->Execute(plan, result).ok());
    EXPECT_EQ(result.pooled.size(), with_company ? 2u : 0u);
    EXPECT_EQ(result.samples.size(), 1u);
    return std::pair(result.samples[0].token, result.top);
  };
  EXPECT_EQ(draw(true), draw(false));
}

TEST(PoolingTest, AStateThatIsNotFiniteIsSaidToBeUndefined) {
  RandomModel random({});
  random.BreakFinalNorm(std::numeric_limits<float>::infinity());
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(5);
  StepPlan plan;
  StepResult result;
  PlanSequence& rows = AddRows(plan, SequenceSlot{0}, tokens, 0, 5, Blocks(0, 1));
  rows.pooling = Pooling::kMean;
  rows.pools = true;
  ASSERT_TRUE(engine->Execute(plan, result).ok());
  ASSERT_EQ(result.pooled.size(), 1u);
  EXPECT_TRUE(result.pooled[0].undefined);
}

}  // namespace
}  // namespace holdfast
