#include "scheduler/policy/pin_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/policy/continuum.h"
#include "scheduler/policy/fixed_ttl.h"
#include "scheduler/policy/infercept.h"
#include "scheduler/policy/plas.h"
#include "scheduler/policy/program_policy.h"

namespace holdfast {
namespace {

constexpr absl::Duration kTwo = absl::Seconds(2);
const Continuum kPaper(Continuum::Rule::kAsPublished);
const Continuum kProduct(Continuum::Rule::kOurs);

void Call(TtlEstimator& estimator, const std::string& tool, double seconds, int times) {
  for (int i = 0; i < times; ++i) estimator.OnToolDone(tool, absl::Seconds(seconds));
}

Pause After(const std::string& tool, double reload_seconds) {
  return {.tool = tool, .context_tokens = 1000, .reload = absl::Seconds(reload_seconds)};
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
  EXPECT_EQ(PlasLevel(absl::Hours(9), none), kPlasLevels - 1);
  EXPECT_EQ(PlasLevel(absl::Seconds(10), absl::Seconds(79)), 4);
  EXPECT_EQ(PlasLevel(absl::Seconds(10), absl::Seconds(80)), 0);
}

TEST(ContinuumTest, AsPublishedIsThePapersRule) {
  TtlEstimator known;
  EXPECT_EQ(kPaper.Decide(After("ls", 0.5), known).ttl, absl::ZeroDuration());
  EXPECT_NEAR(absl::ToDoubleSeconds(kPaper.Decide(After("ls", 3), known).ttl), std::log(3), 1e-9);
  Call(known, "ls", 1.5, 101);
  EXPECT_EQ(kPaper.Decide(After("ls", 3), known).ttl, absl::Seconds(1.5));
}

TEST(ContinuumTest, HoldsUntilThatHasCostAMissWhileFewCallsAreKnown) {
  TtlEstimator known;
  Call(known, "ls", 0.1, 9);
  EXPECT_EQ(kProduct.Decide(After("ls", 3), known).ttl, absl::Seconds(3));
  EXPECT_EQ(kProduct.Decide(After("ls", 3), known).source, TtlSource::kCold);
  EXPECT_EQ(kProduct.Decide(After("ls", 300), known).ttl, known.longest());
}

double TtlAfter(const std::string& tool, double reload_seconds, const TtlEstimator& known) {
  return absl::ToDoubleSeconds(kProduct.Decide(After(tool, reload_seconds), known).ttl);
}

// A third of the calls take 8 s. Holding for 0.3 s costs 0.3 s each time, of which two in three
// bring a hit.
TEST(ContinuumTest, HoldsForTheCallsThatAreWorthItAndNotForTheOthers) {
  TtlEstimator known;
  Call(known, "ls", 0.3, 20);
  Call(known, "ls", 8, 10);
  EXPECT_EQ(TtlAfter("ls", 0.52, known), 0);  // what is gained is less than a tenth of a miss
  EXPECT_NEAR(TtlAfter("ls", 7.6, known), 2, 1e-9);
  EXPECT_NEAR(TtlAfter("ls", 7.8, known), 12, 1e-9);
}

TEST(ContinuumTest, HoldsForLongerOnlyWhereThatLeavesHalfOfTheGain) {
  TtlEstimator known;
  Call(known, "ls", 0.3, 20);
  Call(known, "ls", 8, 10);
  EXPECT_NEAR(TtlAfter("ls", 0.54, known), 0.3, 1e-9);  // 0.15 s more cost 0.05 s of 0.06 s
  EXPECT_NEAR(TtlAfter("ls", 1, known), 0.45, 1e-9);    // 2 s would cost more than is gained
  EXPECT_NEAR(TtlAfter("ls", 4, known), 2, 1e-9);
}

TEST(ContinuumTest, HoldsForTwoSecondsHoweverLittleAMissCostsIfCallsAreQuick) {
  TtlEstimator known;
  Call(known, "ls", 0.005, 20);
  EXPECT_NEAR(TtlAfter("ls", 0.1, known), 2, 1e-9);
}

TEST(ContinuumTest, AMissThatDelaysOthersIsWorthMore) {
  TtlEstimator known;
  Call(known, "make", 5, 20);
  Pause pause = After("make", 1);
  EXPECT_EQ(kProduct.Decide(pause, known).ttl, absl::ZeroDuration());
  pause.other_tokens = 4500;
  EXPECT_EQ(kProduct.Decide(pause, known).ttl, absl::ZeroDuration());
  pause.other_tokens = 4600;
  EXPECT_EQ(kProduct.Decide(pause, known).ttl, absl::Seconds(7.5));
}

TEST(ContinuumTest, QueuesSpeakForHoldingAndNeverAgainstIt) {
  TtlEstimator known;
  Call(known, "make", 5, 20);
  known.OnFollowUp(absl::Seconds(10), /*had_live_pin=*/false);
  ASSERT_EQ(known.memoryfulness(), 1);
  EXPECT_EQ(kProduct.Decide(After("make", 0.1), known).ttl, absl::Seconds(7.5));
  for (int i = 0; i < 60; ++i) known.OnProgramEnd(i % 20 == 0 ? 3 : 1);  // the long live on
  ASSERT_LT(known.memoryfulness(), 0);
  EXPECT_EQ(kProduct.Decide(After("make", 6), known).ttl, absl::Seconds(7.5));
}

TEST(ContinuumTest, HoldsNothingThatCostsNothingToHaveAgainOrOfUnknownCost) {
  TtlEstimator known;
  EXPECT_EQ(kProduct.Decide(After("ls", 0), known).ttl, absl::ZeroDuration());
  Call(known, "ls", 0.3, 20);
  EXPECT_EQ(kProduct.Decide(After("ls", 0), known).ttl, absl::ZeroDuration());
}

TEST(ContinuumTest, TakesTheTenantsCallsForAToolThatItHardlyKnows) {
  TtlEstimator known;
  Call(known, "make", 60, 20);
  EXPECT_EQ(kProduct.Decide(After("new", 0.5), known).ttl, absl::ZeroDuration());
  EXPECT_EQ(kProduct.Decide(After("new", 0.5), known).source, TtlSource::kTenant);
  Call(known, "ls", 0.25, 10);
  EXPECT_EQ(kProduct.Decide(After("ls", 0.5), known).ttl, kTwo);
  EXPECT_EQ(kProduct.Decide(After("new", 0.5), known).ttl, absl::ZeroDuration());
}

// Against trying every ttl on every call.
TEST(ContinuumTest, NoOtherTtlIsWorthMoreOnTheCallsThatWereSeen) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> any(0, 1.5);
    std::vector<double> durations(1 + rng() % 50);
    for (double& duration : durations) duration = any(rng);
    std::sort(durations.begin(), durations.end());
    const double benefit = any(rng), longest = any(rng) * 3;
    const auto worth = [&](double ttl) {
      double sum = 0;
      for (const double duration : durations) {
        sum += (duration <= ttl ? benefit : 0) - std::min(duration, ttl);
      }
      return sum;
    };
    const double best = BestHold(durations, benefit, longest);
    EXPECT_LE(best, longest);
    for (const double other : durations) {
      if (other > longest) continue;
      EXPECT_GE(worth(best), worth(other) - 1e-9);
      EXPECT_GE(worth(best), worth(other / 2) - 1e-9);
    }
    EXPECT_GE(worth(best), -1e-9);
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
