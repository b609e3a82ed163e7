#include "scheduler/policy/pin_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>

#include "absl/time/time.h"
#include "scheduler/policy/continuum.h"
#include "scheduler/policy/fixed_ttl.h"
#include "scheduler/policy/infercept.h"
#include "scheduler/policy/plas.h"
#include "scheduler/policy/program_policy.h"

namespace holdfast {
namespace {

constexpr absl::Duration kTwo = absl::Seconds(2);
const Continuum kPaper(Continuum::Floor::kNone);
const Continuum kProduct(Continuum::Floor::kWhileCheap);

void Call(TtlEstimator& estimator, const std::string& tool, double seconds, int times) {
  for (int i = 0; i < times; ++i) estimator.OnToolDone(tool, absl::Seconds(seconds));
}

Pause After(const std::string& tool, double reload_seconds, double pinned_share = 0) {
  return {.tool = tool,
          .context_tokens = 1000,
          .reload = absl::Seconds(reload_seconds),
          .pinned_share = pinned_share};
}

TEST(ProgramPolicyTest, EachHasANameOfItsOwn) {
  for (int i = 0; i <= static_cast<int>(SchedulerPolicy::kContinuum); ++i) {
    const auto policy = static_cast<SchedulerPolicy>(i);
    EXPECT_EQ(SchedulerPolicyOf(Name(policy)), policy);
  }
  EXPECT_EQ(SchedulerPolicyOf("lifo"), std::nullopt);
}

TEST(FixedTtlTest, PinsWhatIsQuickOnAverageOrNotKnown) {
  const FixedTtl policy(kTwo);
  TtlEstimator known;
  Call(known, "ls", 0.5, 3);
  Call(known, "make", 60, 3);
  Call(known, "edge", 2, 3);
  for (const std::string tool : {"ls", "edge", "never called", ""}) {
    EXPECT_EQ(policy.Decide(After(tool, 0), known).ttl, kTwo) << tool;
  }
  EXPECT_EQ(policy.Decide(After("make", 100), known).ttl, absl::ZeroDuration());
  EXPECT_EQ(policy.Decide(After("ls", 0), known).source, TtlSource::kFixed);
}

TEST(InferCeptTest, KeepsUntilKeepingHasWastedWhatDiscardingDoes) {
  const TtlEstimator known;
  const InferCept policy;
  Pause pause = {.tool = "", .context_tokens = 1000, .reload = absl::Seconds(1.5)};
  EXPECT_EQ(policy.Decide(pause, known).ttl, absl::Seconds(1.5));
  pause.other_tokens = 3000;
  EXPECT_EQ(policy.Decide(pause, known).ttl, absl::Seconds(6));
  EXPECT_EQ(policy.Decide({.tool = ""}, known).ttl, absl::ZeroDuration());
}

TEST(InferCeptTest, WastesAtMostTwiceWhatKnowingThePauseWould) {
  const TtlEstimator known;
  const std::string tool;
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> any(0, 2);
    const Pause pause = {.tool = tool,
                         .context_tokens = 1 + static_cast<int32_t>(rng() % 10'000),
                         .other_tokens = static_cast<int64_t>(rng() % 100'000),
                         .reload = absl::Seconds(any(rng))};
    const double own = pause.context_tokens;
    const double discard =
        absl::ToDoubleSeconds(pause.reload) * (own + static_cast<double>(pause.other_tokens));
    const double ttl = absl::ToDoubleSeconds(InferCept().Decide(pause, known).ttl);
    const double length = any(rng);
    const double wasted = length <= ttl ? length * own : ttl * own + discard;
    EXPECT_LE(wasted, 2 * std::min(length * own, discard) * (1 + 1e-6));
  }
}

TEST(PlasTest, LevelsDoubleInServiceAndTheStarvedGoToTheFirst) {
  const absl::Duration none = absl::ZeroDuration();
  EXPECT_EQ(PlasLevel(none, none), 0);
  EXPECT_EQ(PlasLevel(absl::Milliseconds(999), none), 0);
  EXPECT_EQ(PlasLevel(absl::Seconds(1), none), 1);
  EXPECT_EQ(PlasLevel(absl::Seconds(2), none), 2);
  EXPECT_EQ(PlasLevel(absl::Seconds(64), none), 7);
  EXPECT_EQ(PlasLevel(absl::Hours(1), none), kPlasLevels - 1);
  EXPECT_EQ(PlasLevel(absl::Seconds(10), absl::Seconds(79)), 4);
  EXPECT_EQ(PlasLevel(absl::Seconds(10), absl::Seconds(80)), 0);
}

TEST(ContinuumTest, WithoutTheFloorIsThePapersRule) {
  TtlEstimator known;
  EXPECT_EQ(kPaper.Decide(After("ls", 0.5), known).ttl, absl::ZeroDuration());
  EXPECT_NEAR(absl::ToDoubleSeconds(kPaper.Decide(After("ls", 3), known).ttl), std::log(3), 1e-9);
  Call(known, "ls", 1.5, 101);
  EXPECT_EQ(kPaper.Decide(After("ls", 3), known).ttl, absl::Seconds(1.5));
}

TEST(ContinuumTest, HoldsAtLeastForTheFloorWhatMostlyComesBackWithinIt) {
  TtlEstimator known;
  Call(known, "ls", 0.3, 60);
  Call(known, "ls", 8, 41);
  EXPECT_EQ(kPaper.Decide(After("ls", 0.4), known).ttl, absl::ZeroDuration());
  const TtlDecision decision = kProduct.Decide(After("ls", 0.8), known);
  EXPECT_EQ(decision.ttl, Continuum::kFloor);
  EXPECT_EQ(decision.source, TtlSource::kFloor);
  Call(known, "ls", 8, 100);  // now most take longer
  EXPECT_EQ(kProduct.Decide(After("ls", 0.8), known).ttl, absl::ZeroDuration());
}

TEST(ContinuumTest, IsThePapersRuleWhereMuchOfTheDeviceIsPinned) {
  const TtlEstimator known;
  EXPECT_EQ(kProduct.Decide(After("ls", 3, 0.24), known).ttl, Continuum::kFloor);
  EXPECT_EQ(kProduct.Decide(After("ls", 3, 0.25), known).ttl,
            kPaper.Decide(After("ls", 3), known).ttl);
}

TEST(ContinuumTest, HoldsNothingThatCostsNextToNothingToHaveAgainOrOfUnknownCost) {
  TtlEstimator known;
  EXPECT_EQ(kProduct.Decide(After("ls", 0), known).ttl, absl::ZeroDuration());
  EXPECT_EQ(kProduct.Decide(After("ls", 0.19), known).ttl, absl::ZeroDuration());
  EXPECT_EQ(kProduct.Decide(After("ls", 0.21), known).ttl, Continuum::kFloor);
  Call(known, "cd", 0.05, 20);  // back at once: worth it for less
  EXPECT_EQ(kProduct.Decide(After("cd", 0.011), known).ttl, Continuum::kFloor);
  EXPECT_EQ(kProduct.Decide(After("cd", 0.009), known).ttl, absl::ZeroDuration());
}

TEST(ContinuumTest, TakesTheTenantsCallsForAToolThatItHardlyKnows) {
  TtlEstimator known;
  Call(known, "make", 60, 20);
  EXPECT_EQ(kProduct.Decide(After("new", 0.5), known).ttl, absl::ZeroDuration());
  Call(known, "ls", 0.3, 10);
  EXPECT_EQ(kProduct.Decide(After("ls", 0.5), known).ttl, Continuum::kFloor);
  EXPECT_EQ(kProduct.Decide(After("new", 0.5), known).ttl, absl::ZeroDuration());
}

TEST(ContinuumTest, KeepsTheLongerOfFloorAndWorth) {
  TtlEstimator known;
  Call(known, "fetch", 5, 101);
  EXPECT_EQ(kProduct.Decide(After("fetch", 30), known).ttl, absl::Seconds(5));
  EXPECT_EQ(kProduct.Decide(After("fetch", 30), known).source, TtlSource::kTool);
}

// Never shorter than the paper's ttl, never longer than the longer of it and the blunt pin, and
// none where a miss costs nothing.
TEST(ContinuumTest, LiesBetweenThePapersRuleAndTheLongerOfItAndTheFloor) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> any(0, 1.5);
    TtlEstimator known;
    const auto calls = static_cast<int>(rng() % 200);
    for (int i = 0; i < calls; ++i) known.OnToolDone("a", absl::Seconds(any(rng)));
    for (int i = 0; i < 20; ++i) {
      const Pause pause = After("a", any(rng) - 0.1, static_cast<double>(rng() % 100) / 100);
      const absl::Duration paper = kPaper.Decide(pause, known).ttl;
      const absl::Duration product = kProduct.Decide(pause, known).ttl;
      EXPECT_GE(product, paper);
      EXPECT_LE(product, std::max(paper, Continuum::kFloor));
      EXPECT_TRUE(pause.pinned_share < Continuum::kFloorShareMax || product == paper);
    }
  }
}

TEST(TtlEstimatorTest, TurnsThatNameNoToolHaveStatisticsOfTheirOwn) {
  TtlEstimator known;
  Call(known, "", 20, 150);
  EXPECT_EQ(known.all_durations().size(), 0u);
  EXPECT_EQ(known.Decide("ls", absl::Seconds(3)).source, TtlSource::kCold);
  EXPECT_EQ(known.Decide("", absl::Seconds(3)).source, TtlSource::kTool);
  EXPECT_EQ(known.Decide("", absl::Seconds(3)).ttl, absl::ZeroDuration());
}

TEST(DurationSampleTest, TheMeanUpToATimeCutsWhatIsLonger) {
  DurationSample sample(10);
  EXPECT_EQ(sample.MeanUpTo(3), 0);
  for (const double seconds : {1.0, 2.0, 9.0}) sample.Add(seconds);
  EXPECT_EQ(sample.MeanUpTo(3), 2);
  EXPECT_EQ(sample.MeanUpTo(0.5), 0.5);
  EXPECT_EQ(sample.MeanUpTo(100), 4);
}

}  // namespace
}  // namespace holdfast
