// A warm step allocates nothing: every operator new of this program is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/cpu_engine.h"
#include "tests/unit/engine/engine_driver.h"
#include "tests/unit/engine/random_model.h"

namespace {
std::atomic<int64_t> allocations = 0;
}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace holdfast {
namespace {

// Prefill chunks, decodes and drafts, draws with every option, logprobs, pooled states: the plan's
// and the result's own vectors have grown in the first round; the second may not allocate.
TEST(StepAllocationTest, AWarmStepAllocatesNothing) {
  constexpr int32_t kSequences = 6;
  RandomModel random({.type = TensorType::kQ4_1});
  const std::unique_ptr<CpuEngine> engine =
      MakeEngine(random.model, {.threads = 3, .num_sequence_slots = kSequences});
  const std::vector<TokenId> tokens = random.RandomTokens(200);
  std::vector<std::vector<BlockId>> blocks;
  for (int32_t s = 0; s < kSequences; ++s) blocks.push_back(Blocks(20 * s, 20));
  StepPlan plan;
  StepResult result;
  int64_t counted = -1;
  for (int32_t round = 0; round < 2; ++round) {
    plan.Clear();
    for (int32_t s = 0; s < kSequences; ++s) {
      plan.opens.push_back({.slot = SequenceSlot{s},
                            .sampling = {.temperature = 0.9f,
                                         .top_k = s % 2 == 0 ? 30 : 0,
                                         .top_p = 0.9f,
                                         .min_p = 0.01f,
                                         .typical_p = 0.95f,
                                         .presence_penalty = 0.1f,
                                         .repetition_penalty = 1.1f,
                                         .logit_bias = {{3, 1.0f}},
                                         .top_logprobs = 5},
                            .prompt = tokens});
      if (s == 3) plan.opens.back().sampling = {.temperature = 1.0f};  // nothing is cut off
    }
    ASSERT_TRUE(engine->Execute(plan, result).ok());  // opening a sequence may allocate
    const int64_t before = allocations.load();
    for (int32_t position = 0; position < 190;) {
      const int32_t count = position < 100 ? 25 : 1;
      plan.Clear();
      for (int32_t s = 0; s < kSequences; ++s) {
        PlanSequence& entry = AddRows(plan, SequenceSlot{s}, tokens, position, count, blocks[s]);
        if (s >= 4) {
          entry.pooling = s == 4 ? Pooling::kLast : Pooling::kMean;
          entry.pools = true;
          continue;
        }
        entry.samples = true;
        if (s == 1) entry.prompt_top_logprobs = 3;
        if (s == 2) entry.num_drafts = count - 1;
      }
      ASSERT_TRUE(engine->Execute(plan, result).ok());
      position += count;
    }
    counted = allocations.load() - before;
  }
  EXPECT_EQ(counted, 0);
}

}  // namespace
}  // namespace holdfast
