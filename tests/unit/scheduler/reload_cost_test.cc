#include "scheduler/policy/reload_cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace holdfast {
namespace {

constexpr int32_t kChunk = 512;
constexpr int64_t kTokenBytes = 1000;

// A prefill chunk of `rows` rows after `before` tokens.
StepWork Chunk(int64_t before, int32_t rows, int32_t decode_rows = 0) {
  return {.decode_rows = decode_rows,
          .prefill_rows = rows,
          .prefill_places = rows * before + int64_t{rows} * (rows + 1) / 2};
}

struct Device {
  double step = 0, decode_row = 0, row = 0, place = 0;
  double Takes(const StepWork& work) const {
    return step + decode_row * work.decode_rows + row * work.prefill_rows +
           place * static_cast<double>(work.prefill_places);
  }
  // A whole context alone on the device, chunk by chunk.
  double Computes(int64_t tokens) const {
    double seconds = 0;
    for (int64_t before = 0; before < tokens; before += kChunk) {
      seconds +=
          Takes(Chunk(before, static_cast<int32_t>(std::min<int64_t>(kChunk, tokens - before))));
    }
    return seconds;
  }
};

StepWork AnyWork(std::mt19937& rng) {
  return Chunk(rng() % 8000, 1 + static_cast<int32_t>(rng() % kChunk),
               static_cast<int32_t>(rng() % 30));
}

TEST(ReloadCostTest, KnowsNothingBeforeItHasSeenSomePrefill) {
  ReloadCost cost(kChunk, kTokenBytes);
  EXPECT_EQ(cost.Of(1000), absl::ZeroDuration());
  for (int i = 0; i < 100; ++i) cost.OnStep({.decode_rows = 8}, absl::Milliseconds(20));
  EXPECT_EQ(cost.Of(1000), absl::ZeroDuration());
  cost.OnRestored(1'000'000, absl::Seconds(1));
  EXPECT_EQ(cost.Of(1000, 1000), absl::ZeroDuration());
  for (int i = 0; i < ReloadCost::kStepsMin; ++i) {
    EXPECT_EQ(cost.Of(1000), absl::ZeroDuration());
    cost.OnStep(Chunk(0, 100), absl::Milliseconds(100));
  }
  EXPECT_GT(cost.Of(1000), absl::ZeroDuration());
}

TEST(ReloadCostTest, OfOneKindOfStepTheRowsAreTheCost) {
  ReloadCost cost(kChunk, kTokenBytes);
  for (int i = 0; i < 10; ++i) cost.OnStep(Chunk(0, 100), absl::Milliseconds(100));
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Compute(1000)), 1, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Compute(10)), 0.01, 1e-6);
}

TEST(ReloadCostTest, FindsTheQuadraticOfTheDeviceFromMixedSteps) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::uniform_real_distribution<double> factor(0.2, 2);
    const Device device = {.step = 5e-3 * factor(rng),
                           .decode_row = 1e-3 * factor(rng),
                           .row = 1e-3 * factor(rng),
                           .place = 1e-7 * factor(rng)};
    ReloadCost cost(kChunk, kTokenBytes);
    for (int i = 0; i < 200; ++i) {
      const StepWork work = AnyWork(rng);
      cost.OnStep(work, absl::Seconds(device.Takes(work)));
    }
    for (const int64_t tokens : {1, 100, 512, 513, 4000, 16000}) {
      const double exact = device.Computes(tokens);
      EXPECT_NEAR(absl::ToDoubleSeconds(cost.Compute(tokens)), exact, exact * 1e-3) << tokens;
    }
  }
}

TEST(ReloadCostTest, StaysNearTheDeviceThroughNoiseAndStepsThatWereHeldUp) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> noise(0, 0.1);
    const Device device = {.step = 5e-3, .decode_row = 1e-3, .row = 1e-3, .place = 1e-7};
    ReloadCost cost(kChunk, kTokenBytes);
    for (int i = 0; i < 1000; ++i) {
      const StepWork work = AnyWork(rng);
      const double stall = rng() % 100 == 0 ? 10 : 0;
      cost.OnStep(work, absl::Seconds(device.Takes(work) * noise(rng) + stall));
    }
    for (const int64_t tokens : {512, 2000, 8000}) {
      const double exact = device.Computes(tokens);
      EXPECT_NEAR(absl::ToDoubleSeconds(cost.Compute(tokens)), exact, exact * 0.25) << tokens;
    }
  }
}

TEST(ReloadCostTest, IsNeverBelowZeroAndGrowsWithTheContextWhateverItIsTold) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> anything(-4, 3);
    ReloadCost cost(kChunk, kTokenBytes);
    for (int i = 0; i < 30; ++i) {
      cost.OnStep(AnyWork(rng), absl::Seconds(anything(rng)));
      absl::Duration before;
      for (int64_t tokens = 0; tokens < 20'000; tokens += 1000) {
        const absl::Duration now = cost.Compute(tokens);
        ASSERT_GE(now, before);
        ASSERT_LT(now, absl::InfiniteDuration());
        before = now;
      }
    }
  }
}

TEST(ReloadCostTest, ForgetsADeviceThatHasChanged) {
  std::mt19937 rng(1);
  ReloadCost cost(kChunk, kTokenBytes);
  const Device slow = {.step = 0.1, .row = 1e-2}, quick = {.step = 0.01, .row = 1e-3};
  for (int i = 0; i < 5000; ++i) {
    const StepWork work = AnyWork(rng);
    cost.OnStep(work, absl::Seconds(slow.Takes(work)));
  }
  for (int i = 0; i < 5000; ++i) {
    const StepWork work = AnyWork(rng);
    cost.OnStep(work, absl::Seconds(quick.Takes(work)));
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Compute(4096)), quick.Computes(4096), 0.1);
}

TEST(ReloadCostTest, TakesTheCheaperWayBack) {
  ReloadCost cost(kChunk, kTokenBytes);
  for (int i = 0; i < 10; ++i) cost.OnStep(Chunk(0, 100), absl::Milliseconds(100));
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Of(1000, 1000)), 1, 1e-6);  // its rate is not known yet
  cost.OnRestored(10'000'000, absl::Seconds(1));                     // 10 MB/s: 0.1 s
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Of(1000, 1000)), 0.1, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Of(1000, 500)), 0.05 + 0.5, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Of(1000)), 1, 1e-6);
  for (int i = 0; i < 1000; ++i) cost.OnRestored(1000, absl::Seconds(1));  // it has become slow
  EXPECT_NEAR(absl::ToDoubleSeconds(cost.Of(1000, 1000)), 1, 1e-6);
}

TEST(ReloadCostTest, LearnsNothingFromStepsThatTookNoTime) {
  ReloadCost cost(kChunk, kTokenBytes);
  for (int i = 0; i < 10; ++i) {
    cost.OnStep(Chunk(0, 100), absl::ZeroDuration());
    cost.OnStep(Chunk(0, 100), absl::Seconds(-1));
    cost.OnStep(Chunk(0, 100), absl::InfiniteDuration());
    cost.OnRestored(100, absl::ZeroDuration());
    cost.OnRestored(0, absl::Seconds(1));
  }
  EXPECT_EQ(cost.Of(1000, 1000), absl::ZeroDuration());
}

TEST(ReloadCostTest, CountsOfAPlanItsDecodesItsChunksAndWhatTheyRead) {
  StepPlan plan;
  plan.sequences.push_back({.first_position = 10, .num_tokens = 1, .samples = true});
  plan.sequences.push_back({.first_position = 32, .num_tokens = 4, .samples = true});
  plan.sequences.push_back({.first_position = 0, .num_tokens = 1, .samples = false});
  EXPECT_EQ(
      WorkOf(plan),
      (StepWork{.decode_rows = 1, .prefill_rows = 5, .prefill_places = 33 + 34 + 35 + 36 + 1}));
}

}  // namespace
}  // namespace holdfast
