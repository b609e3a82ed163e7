#include "engine/cpu_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/engine/engine_driver.h"
#include "tests/unit/engine/random_model.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas) {
    if (IsaSupported(isa)) isas.push_back(isa);
  }
  return isas;
}

CpuEngineOptions SmallOptions() {
  return {.threads = 2, .num_sequence_slots = 4, .step_tokens_max = 600};
}

// ---- Promise 1 ----------------------------------------------------------------------------------

struct SameLogitsCase {
  RandomModelOptions model;
  KvDtype kv_dtype = KvDtype::kF16;
};

class SameLogitsTest : public testing::TestWithParam<SameLogitsCase> {};

TEST_P(SameLogitsTest, WhateverTheChunksThreadsBlocksCompanyAndInstructionSet) {
  RandomModel random(GetParam().model);
  const std::vector<TokenId> tokens = random.RandomTokens(530);
  const std::vector<TokenId> others = random.RandomTokens(280);
  CpuEngineOptions options = SmallOptions();
  options.kv_dtype = GetParam().kv_dtype;
  options.threads = 1;
  const std::vector<float> expected =
      AllLogits(*MakeEngine(random.model, options), tokens, 530, Blocks(0, 38));
  for (float logit : expected) ASSERT_TRUE(std::isfinite(logit));

  for (Isa isa : SupportedIsas()) {
    for (int32_t threads : {1, 2, 3}) {
      if (isa != BestIsa() && threads != 2) continue;
      options.threads = threads;
      options.isa = isa;
      const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, options);
      for (int32_t chunk : {1, 7, 64, 512}) {
        if (isa != BestIsa() && chunk == 1) continue;
        SCOPED_TRACE(testing::Message()
                     << IsaName(isa) << ", " << threads << " threads, chunks of " << chunk);
        ASSERT_EQ(AllLogits(*engine, tokens, chunk, Blocks(0, 38)), expected);
        ASSERT_EQ(AllLogits(*engine, tokens, chunk, Blocks(20, 38, 5),
                            {.tokens = others, .blocks = Blocks(60, 20, 9)}),
                  expected);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, SameLogitsTest,
    testing::Values(SameLogitsCase{.model = {.type = TensorType::kQ8_0}},
                    SameLogitsCase{.model = {.type = TensorType::kQ4_1, .qk_norm = true}},
                    SameLogitsCase{.model = {.type = TensorType::kF32, .qkv_bias = true}},
                    SameLogitsCase{.model = {.type = TensorType::kBf16, .sliding_window = 37}},
                    SameLogitsCase{.model = {.type = TensorType::kQ8_0, .sliding_window = 50},
                                   .kv_dtype = KvDtype::kI8}));

// ---- Execute ------------------------------------------------------------------------------------

TEST(CpuEngineTest, TheQuantisedPathIsCloseToTheReferenceArithmetic) {
  RandomModel random({.type = TensorType::kQ4_1});
  const std::vector<TokenId> tokens = random.RandomTokens(100);
  CpuEngineOptions options = SmallOptions();
  const std::vector<float> fast =
      AllLogits(*MakeEngine(random.model, options), tokens, 100, Blocks(0, 38));
  options.weights_mode = WeightsMode::kF32;
  options.kv_dtype = KvDtype::kF32;
  const std::vector<float> reference =
      AllLogits(*MakeEngine(random.model, options), tokens, 100, Blocks(0, 38));
  const auto [low, high] = std::minmax_element(reference.begin(), reference.end());
  double sum = 0.0;
  for (size_t i = 0; i < fast.size(); ++i) sum += std::abs(fast[i] - reference[i]);
  EXPECT_LT(sum / static_cast<double>(fast.size()), 0.02 * (*high - *low));
  EXPECT_NE(fast, reference);
}

TEST(CpuEngineTest, ExecuteDrawsFromTheLastRowsLogits) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(20);
  const std::vector<float> logits = AllLogits(*engine, tokens, 20, Blocks(0, 2));
  const auto vocab = static_cast<size_t>(engine->info().vocab_size);
  const std::vector<float> last(logits.end() - static_cast<ptrdiff_t>(vocab), logits.end());

  StepPlan plan;
  StepResult result;
  plan.opens.push_back({.slot = SequenceSlot{2},
                        .sampling = {.temperature = 0.0f, .top_logprobs = 3},
                        .prompt = tokens});
  AddRows(plan, SequenceSlot{2}, tokens, 0, 20, Blocks(7, 2)).samples = true;
  ASSERT_TRUE(engine->Execute(plan, result).ok());

  ASSERT_EQ(result.samples.size(), 1u);
  const SampledToken& sample = result.samples[0];
  EXPECT_EQ(sample.slot, SequenceSlot{2});
  EXPECT_EQ(sample.token, std::max_element(last.begin(), last.end()) - last.begin());
  double total = 0.0;
  for (float logit : last) total += std::exp(static_cast<double>(logit));
  EXPECT_NEAR(sample.logprob, last[sample.token] - std::log(total), 1e-5);
  ASSERT_EQ(sample.num_top, 3);
  EXPECT_EQ(result.TopOf(sample)[0], (TokenLogprob{sample.token, sample.logprob}));
  EXPECT_GE(result.TopOf(sample)[1].logprob, result.TopOf(sample)[2].logprob);
  EXPECT_TRUE(result.prompt_logprobs.empty());
}

// Behind the last layer's KV only rows that are asked for go on: the middle of a prompt has none.
TEST(CpuEngineTest, RowsThatNobodyAsksForDrawTheSameAsIfAllWere) {
  RandomModel random({});
  const std::vector<TokenId> tokens = random.RandomTokens(80), others = random.RandomTokens(50);
  // Two that begin alike, by more than a split, and end in one step.
  std::vector<TokenId> long_one = random.RandomTokens(310), long_other = long_one;
  for (size_t i = 256; i < long_other.size(); ++i) long_other[i] = (long_other[i] + 1) % 50;
  std::vector<BlockId> one_table = Blocks(20, 20), other_table = one_table;
  for (size_t i = 16; i < other_table.size(); ++i) {
    other_table[i] = BlockId{44 + static_cast<int32_t>(i)};
  }
  const auto run = [&](bool all) {
    const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
    std::vector<SampledToken> drawn;
    StepPlan plan;
    StepResult result;
    const auto execute = [&] {
      for (PlanSequence& part : plan.sequences) {
        if (all) part.prompt_top_logprobs = 0;
      }
      ASSERT_TRUE(engine->Execute(plan, result).ok());
      drawn.insert(drawn.end(), result.samples.begin(), result.samples.end());
      plan.Clear();
    };
    for (const int32_t slot : {0, 1, 2, 3}) {
      plan.opens.push_back({.slot = SequenceSlot{slot},
                            .sampling = {.temperature = 1.0f, .seed = 5, .top_logprobs = 2}});
    }
    AddRows(plan, SequenceSlot{0}, tokens, 0, 37, Blocks(0, 5));  // nothing is asked of this step
    execute();
    AddRows(plan, SequenceSlot{0}, tokens, 37, 20, Blocks(0, 5));
    AddRows(plan, SequenceSlot{1}, others, 0, 49, Blocks(9, 4)).samples = true;
    execute();
    AddRows(plan, SequenceSlot{1}, others, 49, 1, Blocks(9, 4)).samples = true;
    AddRows(plan, SequenceSlot{0}, tokens, 57, 23, Blocks(0, 5)).samples = true;
    execute();
    AddRows(plan, SequenceSlot{2}, long_one, 0, 256, one_table);
    execute();
    AddRows(plan, SequenceSlot{2}, long_one, 256, 54, one_table).samples = true;
    AddRows(plan, SequenceSlot{3}, long_other, 256, 54, other_table).samples = true;
    execute();
    return drawn;
  };
  const std::vector<SampledToken> drawn = run(false), expected = run(true);
  ASSERT_EQ(drawn.size(), 5u);
  ASSERT_EQ(expected.size(), 5u);
  for (size_t i = 0; i < drawn.size(); ++i) {
    EXPECT_EQ(drawn[i].token, expected[i].token);
    EXPECT_EQ(drawn[i].logprob, expected[i].logprob);
  }
}

TEST(CpuEngineTest, PromptLogprobsAreThoseOfTheNextTokensWhateverTheChunks) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(150);  // beyond one batch of logit rows
  const std::vector<float> logits = AllLogits(*engine, tokens, 150, Blocks(0, 10));
  const auto vocab = static_cast<size_t>(engine->info().vocab_size);
  for (int32_t chunk : {150, 64, 7}) {
    SCOPED_TRACE(testing::Message() << "chunks of " << chunk);
    std::vector<SampledToken> entries;
    StepPlan plan;
    StepResult result;
    for (int32_t begin = 0; begin < 150; begin += chunk) {
      const int32_t end = std::min(begin + chunk, 150);
      plan.Clear();
      if (begin == 0) {
        plan.opens.push_back({.slot = SequenceSlot{0}, .sampling = {.temperature = 0.0f}});
      }
      PlanSequence& s = AddRows(plan, SequenceSlot{0}, tokens, begin, end - begin, Blocks(0, 10));
      s.prompt_top_logprobs = 2;
      if (end < 150) s.next_token = tokens[end];
      s.samples = end == 150;
      ASSERT_TRUE(engine->Execute(plan, result).ok());
      ASSERT_EQ(result.samples.size(), end == 150 ? 1u : 0u);
      entries.insert(entries.end(), result.prompt_logprobs.begin(), result.prompt_logprobs.end());
      for (const SampledToken& entry : result.prompt_logprobs) {
        ASSERT_EQ(entry.num_top, 2);
        ASSERT_GE(result.TopOf(entry)[0].logprob, result.TopOf(entry)[1].logprob);
        ASSERT_GE(result.TopOf(entry)[0].logprob, entry.logprob);
      }
    }
    ASSERT_EQ(entries.size(), 149u);
    for (size_t i = 0; i < entries.size(); ++i) {
      ASSERT_EQ(entries[i].token, tokens[i + 1]);
      const float* row = logits.data() + i * vocab;
      double total = 0.0;
      for (size_t t = 0; t < vocab; ++t) total += std::exp(static_cast<double>(row[t]));
      ASSERT_NEAR(entries[i].logprob, row[tokens[i + 1]] - std::log(total), 1e-5);
    }
  }
}

// Generates greedily or by draws, giving up the slot after `preempt_after` tokens and coming back
// in another one with all KV recomputed.
std::vector<TokenId> Generate(CpuEngine& engine, const std::vector<TokenId>& prompt,
                              const SamplingParams& sampling, int32_t preempt_after) {
  constexpr int32_t kTokens = 24;
  std::vector<TokenId> all = prompt;
  StepPlan plan;
  StepResult result;
  int32_t computed = 0;
  SequenceSlot slot{0};
  plan.opens.push_back({.slot = slot, .sampling = sampling, .prompt = prompt});
  for (int32_t step = 0; step < kTokens; ++step) {
    if (step == preempt_after) {
      slot = SequenceSlot{3};
      computed = 0;
      plan.opens.push_back(
          {.slot = slot,
           .sampling = sampling,
           .prompt = prompt,
           .completion = {all.begin() + static_cast<ptrdiff_t>(prompt.size()), all.end()}});
    }
    const auto length = static_cast<int32_t>(all.size());
    AddRows(plan, slot, all, computed, length - computed, Blocks(0, 10)).samples = true;
    EXPECT_TRUE(engine.Execute(plan, result).ok());
    all.push_back(result.samples.at(0).token);
    computed = length;
    plan.Clear();
  }
  return {all.begin() + static_cast<ptrdiff_t>(prompt.size()), all.end()};
}

TEST(CpuEngineTest, APreemptedSequenceGoesOnAsIfNothingHadHappened) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> prompt = random.RandomTokens(30);
  const SamplingParams sampling = {.temperature = 1.3f,
                                   .top_p = 0.95f,
                                   .presence_penalty = 0.5f,
                                   .frequency_penalty = 0.2f,
                                   .repetition_penalty = 1.1f,
                                   .seed = 77};
  const std::vector<TokenId> straight = Generate(*engine, prompt, sampling, -1);
  for (int32_t preempt_after : {1, 5, 23}) {
    EXPECT_EQ(Generate(*engine, prompt, sampling, preempt_after), straight);
  }
}

// Whatever is drafted, right or wrong, what is drawn is what one row a step draws, bit for bit.
TEST(CpuEngineTest, DraftsChangeNoTokenAndNoLogprob) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> prompt = random.RandomTokens(30);
  constexpr int32_t kDraws = 40;
  for (const float temperature : {0.0f, 1.3f}) {
    const SequenceOpen open = {.slot = SequenceSlot{0},
                               .sampling = {.temperature = temperature,
                                            .top_p = 0.95f,
                                            .presence_penalty = 0.5f,
                                            .repetition_penalty = 1.1f,
                                            .seed = 77,
                                            .min_tokens = 20,
                                            .banned_until_min = {1, 2, 3},
                                            .top_logprobs = 3},
                               .prompt = prompt};
    // One row a step, then with so many drafts of which about every so-many-th is wrong.
    struct Drawn {
      std::vector<TokenId> tokens;
      std::vector<float> logprobs;
      std::vector<TokenLogprob> tops;
      bool operator==(const Drawn&) const = default;
    };
    const auto draw = [&](int32_t num_drafts, int32_t wrong_every, const Drawn* right) {
      Drawn drawn;
      std::vector<TokenId> tokens = prompt;
      StepPlan plan;
      StepResult result;
      plan.opens.push_back(open);
      int32_t position = 0, num_steps = 0;
      while (static_cast<int32_t>(drawn.tokens.size()) < kDraws) {
        const auto done = static_cast<int32_t>(drawn.tokens.size());
        const int32_t drafts = done == 0 ? 0 : std::min(num_drafts, kDraws - done - 1);
        std::vector<TokenId> with_drafts = tokens;
        for (int32_t i = 0; i < drafts; ++i) {
          const TokenId token = right->tokens[static_cast<size_t>(done + i)];
          with_drafts.push_back((num_steps + i) % wrong_every == 0 ? (token + 1) % 50 : token);
        }
        const int32_t rows = static_cast<int32_t>(with_drafts.size()) - position;
        PlanSequence& part =
            AddRows(plan, SequenceSlot{0}, with_drafts, position, rows, Blocks(0, 6));
        part.samples = true;
        part.num_drafts = drafts;
        EXPECT_TRUE(engine->Execute(plan, result).ok());
        EXPECT_EQ(result.samples.size(), static_cast<size_t>(1 + drafts));
        position = static_cast<int32_t>(tokens.size());
        for (const SampledToken& sample : result.samples) {
          if (sample.passed_over) break;
          drawn.tokens.push_back(sample.token);
          drawn.logprobs.push_back(sample.logprob);
          const auto top = result.TopOf(sample);
          drawn.tops.insert(drawn.tops.end(), top.begin(), top.end());
          tokens.push_back(sample.token);
        }
        position = static_cast<int32_t>(tokens.size()) - 1;
        ++num_steps;
        plan.Clear();
      }
      return std::pair(drawn, num_steps);
    };
    const auto [plain, num_plain_steps] = draw(0, 1, nullptr);
    EXPECT_EQ(num_plain_steps, kDraws);
    for (const int32_t num_drafts : {1, 3, 15}) {
      const auto [all_right, fewest_steps] = draw(num_drafts, 1000, &plain);
      EXPECT_EQ(all_right, plain);
      // The first step's first draft is wrong.
      EXPECT_LE(fewest_steps, 3 + kDraws / (1 + num_drafts));
      for (const int32_t wrong_every : {1, 2, 5}) {
        const auto [some_wrong, steps] = draw(num_drafts, wrong_every, &plain);
        EXPECT_EQ(some_wrong, plain) << num_drafts << " drafts, wrong every " << wrong_every;
        EXPECT_GE(steps, fewest_steps);
      }
    }
  }
}

TEST(CpuEngineTest, ForcedTokensCountAsIfTheyHadBeenDrawn) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> prompt = random.RandomTokens(30);
  const SamplingParams sampling = {.temperature = 1.3f,
                                   .presence_penalty = 0.5f,
                                   .frequency_penalty = 0.2f,
                                   .repetition_penalty = 1.1f,
                                   .seed = 77,
                                   .min_tokens = 20,
                                   .banned_until_min = {1, 2, 3}};
  const std::vector<TokenId> straight = Generate(*engine, prompt, sampling, -1);
  std::vector<TokenId> all = prompt;
  all.insert(all.end(), straight.begin(), straight.end());
  for (const int32_t num_forced : {1, 2, 7, 17}) {
    StepPlan plan;
    StepResult result;
    plan.opens.push_back({.slot = SequenceSlot{0}, .sampling = sampling, .prompt = prompt});
    const auto size = static_cast<int32_t>(prompt.size());
    // Drawn, forced, drawn: the second draw is by what was forced, in one step or in two.
    const auto step = [&](int32_t position, int32_t rows, int32_t forced, bool samples) {
      PlanSequence& part = AddRows(plan, SequenceSlot{0}, all, position, rows, Blocks(0, 10));
      part.samples = samples;
      part.num_forced = forced;
      EXPECT_TRUE(engine->Execute(plan, result).ok());
      plan.Clear();
      return samples ? result.samples.at(0).token : 0;
    };
    EXPECT_EQ(step(0, size, 0, true), straight[0]);
    EXPECT_EQ(step(size, 1 + num_forced, num_forced, true),
              straight[static_cast<size_t>(1 + num_forced)]);
    step(size + num_forced + 1, 3, 2, false);
    EXPECT_EQ(step(size + num_forced + 4, 2, 2, true),
              straight[static_cast<size_t>(num_forced + 6)]);
  }
}

TEST(CpuEngineTest, RunsOfDraftsGoOnFromOneProductOfLogitsToTheNext) {
  RandomModel random({});
  CpuEngineOptions options = SmallOptions();
  options.num_sequence_slots = 1;
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, options);
  std::vector<TokenId> tokens = random.RandomTokens(10);
  const SequenceOpen open = {
      .slot = SequenceSlot{0}, .sampling = {.temperature = 0.0f}, .prompt = tokens};
  const auto size = tokens.size();
  StepPlan plan;
  StepResult result;
  plan.opens.push_back(open);
  for (int32_t i = 0; i < 100; ++i) {
    const auto rows = i == 0 ? static_cast<int32_t>(size) : 1;
    AddRows(plan, SequenceSlot{0}, tokens, static_cast<int32_t>(tokens.size()) - rows, rows,
            Blocks(0, 8))
        .samples = true;
    ASSERT_TRUE(engine->Execute(plan, result).ok());
    tokens.push_back(result.samples[0].token);
    plan.Clear();
  }
  for (const size_t wrong : {size_t{200}, size + 70, size + 64, size + 63}) {
    std::vector<TokenId> drafted = tokens;
    if (wrong < drafted.size()) drafted[wrong] = (drafted[wrong] + 1) % 50;
    plan.opens.push_back(open);
    PlanSequence& part =
        AddRows(plan, SequenceSlot{0}, drafted, 0, static_cast<int32_t>(size) + 99, Blocks(0, 8));
    part.samples = true;
    part.num_drafts = 99;
    ASSERT_TRUE(engine->Execute(plan, result).ok());
    ASSERT_EQ(result.samples.size(), 100u);
    for (size_t i = 0; i < 100; ++i) {
      ASSERT_EQ(result.samples[i].passed_over, size + i > wrong) << i;
      if (result.samples[i].passed_over) continue;
      ASSERT_EQ(result.samples[i].token, tokens[size + i]);
    }
    plan.Clear();
  }
}

TEST(CpuEngineTest, AStepWithoutSequencesIsAnEmptyResult) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  StepResult result;
  result.samples.resize(3);
  EXPECT_TRUE(engine->Execute({}, result).ok());
  EXPECT_TRUE(result.samples.empty());
}

TEST(CpuEngineTest, LogitsWithoutAFiniteValueMarkTheirOwnRowsAlone) {
  RandomModel random({});
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(20);
  const auto draw_alone = [&](BlockId block) {
    StepPlan plan;
    StepResult result;
    plan.opens.push_back({.slot = SequenceSlot{1}, .sampling = {.temperature = 0.0f}});
    AddRows(plan, SequenceSlot{1}, tokens, 0, 9, {block}).samples = true;
    EXPECT_TRUE(engine->Execute(plan, result).ok());
    EXPECT_FALSE(result.samples.at(0).undefined);
    return result.samples.at(0).token;
  };
  const TokenId expected = draw_alone(BlockId{3});

  // All bits set: KV that is not a number, in the first sequence's block alone.
  const size_t block_bytes = engine->info().kv_layout.block_bytes();
  std::fill_n(engine->kv_arena(), block_bytes, std::byte{0xff});
  StepPlan plan;
  StepResult result;
  plan.opens.push_back({.slot = SequenceSlot{0}});
  plan.opens.push_back({.slot = SequenceSlot{1}, .sampling = {.temperature = 0.0f}});
  PlanSequence& broken = AddRows(plan, SequenceSlot{0}, tokens, 5, 2, {BlockId{0}});
  broken.samples = true;
  broken.prompt_top_logprobs = 1;
  AddRows(plan, SequenceSlot{1}, tokens, 0, 9, {BlockId{4}}).samples = true;
  ASSERT_TRUE(engine->Execute(plan, result).ok());
  ASSERT_EQ(result.samples.size(), 2u);
  EXPECT_TRUE(result.samples[0].undefined);
  EXPECT_FALSE(result.samples[1].undefined);
  EXPECT_EQ(result.samples[1].token, expected);
  ASSERT_EQ(result.prompt_logprobs.size(), 1u);
  EXPECT_TRUE(result.prompt_logprobs[0].undefined);
  EXPECT_EQ(draw_alone(BlockId{0}), expected);  // what lay in the block before reaches nobody
}

TEST(CpuEngineTest, AModelThatIsBrokenThroughoutMarksEveryRow) {
  RandomModel random({});
  random.BreakFinalNorm(std::numeric_limits<float>::quiet_NaN());
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, SmallOptions());
  const std::vector<TokenId> tokens = random.RandomTokens(3);
  StepPlan plan;
  StepResult result;
  plan.opens.push_back({.slot = SequenceSlot{0}});
  AddRows(plan, SequenceSlot{0}, tokens, 0, 3, Blocks(0, 1)).samples = true;
  ASSERT_TRUE(engine->Execute(plan, result).ok());
  EXPECT_TRUE(result.samples.at(0).undefined);
}

// ---- Create -------------------------------------------------------------------------------------

TEST(CpuEngineTest, KvMemoryTooSmallForOneSequenceIsRefusedWithTheSizes) {
  RandomModel random({});
  CpuEngineOptions options = SmallOptions();
  const size_t block_bytes =
      Transformer::KvLayoutOf(random.model.config, KvDtype::kF16).block_bytes();
  options.kv_device_bytes = static_cast<int64_t>(38 * block_bytes - 1);  // 600 tokens: 38 blocks
  const absl::Status status = CpuEngine::Create(random.model, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("one sequence of 600 tokens needs"));
  EXPECT_THAT(status.message(), HasSubstr(std::to_string(38 * block_bytes)));
  EXPECT_THAT(status.message(), HasSubstr("lower engine.context_tokens to 592"));

  options.kv_device_bytes += 1;
  EXPECT_TRUE(CpuEngine::Create(random.model, options).ok());
}

TEST(CpuEngineTest, SettingsOutOfRangeAreRefusedByName) {
  RandomModel random({});
  CpuEngineOptions options = SmallOptions();
  options.context_tokens = 601;
  EXPECT_THAT(CpuEngine::Create(random.model, options).status().message(),
              HasSubstr("engine.context_tokens is 601; it must be from 1 to 600"));
  options = SmallOptions();
  options.threads = -1;
  EXPECT_THAT(CpuEngine::Create(random.model, options).status().message(),
              HasSubstr("engine.threads is -1"));
}

TEST(CpuEngineTest, InfoTellsTheBoundsAndTheDigestTellsTheArithmetic) {
  RandomModel random({});
  CpuEngineOptions options = SmallOptions();
  const std::unique_ptr<CpuEngine> engine = MakeEngine(random.model, options);
  EXPECT_EQ(engine->info().vocab_size, 101);
  EXPECT_EQ(engine->info().context_tokens, 600);
  EXPECT_EQ(engine->info().num_blocks, 4 * 38);
  EXPECT_EQ(engine->info().num_sequence_slots, 4);
  EXPECT_THAT(engine->Describe(), HasSubstr("threads=2"));

  options.threads = 3;
  EXPECT_EQ(MakeEngine(random.model, options)->info().model_digest, engine->info().model_digest);
  options.kv_dtype = KvDtype::kF32;
  const auto f32_kv = MakeEngine(random.model, options)->info().model_digest;
  EXPECT_NE(f32_kv, engine->info().model_digest);
  options.kv_dtype = KvDtype::kI8;
  const auto i8_kv = MakeEngine(random.model, options)->info().model_digest;
  EXPECT_NE(i8_kv, engine->info().model_digest);
  EXPECT_NE(i8_kv, f32_kv);
  options.kv_dtype = KvDtype::kF32;
  options.weights_mode = WeightsMode::kF32;
  EXPECT_NE(MakeEngine(random.model, options)->info().model_digest, f32_kv);
}

}  // namespace
}  // namespace holdfast
