// The TTL of a turn's KV: numbers that can be done by hand, and sums beside their definitions.
#include "scheduler/policy/ttl_pin.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/policy/duration_sample.h"
#include "scheduler/policy/memoryfulness.h"

namespace holdfast {
namespace {

constexpr absl::Duration kReload = absl::Seconds(3);

void Call(TtlEstimator& estimator, const std::string& tool, double seconds, int times) {
  for (int i = 0; i < times; ++i) estimator.OnToolDone(tool, absl::Seconds(seconds));
}

TEST(BestTtlTest, WeighsTheShareOfCallsThatAreOverAgainstTheWait) {
  EXPECT_EQ(BestTtl(std::vector<double>{1, 4}, 3, 30), 1);  // 3/2 - 1 against 3 - 4
  EXPECT_EQ(BestTtl(std::vector<double>{1, 4}, 9, 30), 4);
  EXPECT_EQ(BestTtl(std::vector<double>{1, 4}, 2, 30), 0);  // worth nothing
  EXPECT_EQ(BestTtl(std::vector<double>{1, 4}, 6, 30), 1);  // equal: the shorter
  EXPECT_EQ(BestTtl(std::vector<double>{1, 1, 1, 4}, 2, 30), 1);
  EXPECT_EQ(BestTtl(std::vector<double>{40}, 100, 30), 0);  // longer than it may be
  EXPECT_EQ(BestTtl({}, 100, 30), 0);
}

TEST(BestTtlTest, IsTheBestOfAllDurationsByTrial) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::lognormal_distribution<double> duration(0, 1.5);
    DurationSample sample(50);
    for (uint32_t i = 0; i < rng() % 120; ++i) sample.Add(duration(rng));
    const double benefit = duration(rng) * 4;
    const auto reward = [&](double tau) { return sample.ShareWithin(tau) * benefit - tau; };
    const double best = BestTtl(sample.sorted(), benefit, 1e9);
    for (const double tau : sample.sorted()) EXPECT_LE(reward(tau), reward(best) + 1e-12);
    EXPECT_GE(reward(best), 0);
  }
}

TEST(TtlEstimatorTest, BeforeAHundredCallsTakesThemForExponentialOfASecond) {
  const TtlEstimator estimator;
  const TtlDecision decision = estimator.Decide("grep", kReload);
  EXPECT_NEAR(absl::ToDoubleSeconds(decision.ttl), std::log(3), 1e-9);
  EXPECT_EQ(decision.source, TtlSource::kCold);
  EXPECT_EQ(estimator.Decide("grep", absl::Milliseconds(900)).ttl, absl::ZeroDuration());
}

TEST(TtlEstimatorTest, GoesFromTheTenantsCallsToTheToolsOwn) {
  TtlEstimator estimator;
  Call(estimator, "ls", 2, 1);
  Call(estimator, "grep", 2, 100);
  EXPECT_EQ(estimator.Decide("grep", kReload).ttl, absl::Seconds(2));
  EXPECT_EQ(estimator.Decide("grep", kReload).source, TtlSource::kTenant);
  Call(estimator, "make", 1, 101);
  EXPECT_EQ(estimator.Decide("make", kReload).ttl, absl::Seconds(1));
  EXPECT_EQ(estimator.Decide("make", kReload).source, TtlSource::kTool);
}

TEST(TtlEstimatorTest, AddsTheQueueThatAPinSparesAsFarAsProgressTells) {
  TtlEstimator estimator;
  EXPECT_EQ(estimator.memoryfulness(), 1);
  for (int i = 0; i < 4; ++i) estimator.OnFollowUp(absl::Seconds(5), /*had_live_pin=*/false);
  EXPECT_EQ(estimator.queue_delay(), absl::Seconds(5));
  EXPECT_NEAR(absl::ToDoubleSeconds(estimator.Decide("grep", kReload).ttl), std::log(8), 1e-9);
}

TEST(TtlEstimatorTest, KeepsTheLastHundredQueueDelaysAndLetsThemFadeWhileAllIsPinned) {
  TtlEstimator estimator;
  for (int i = 0; i < 50; ++i) estimator.OnFollowUp(absl::Seconds(100), false);
  for (int i = 0; i < 100; ++i) estimator.OnFollowUp(absl::Seconds(2), false);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimator.queue_delay()), 2, 1e-9);
  for (int i = 0; i < 100; ++i) estimator.OnFollowUp(absl::ZeroDuration(), true);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimator.queue_delay()), 2 * std::pow(0.99, 100), 1e-9);
  estimator.OnFollowUp(absl::Seconds(2), false);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimator.queue_delay()), 2, 1e-9);
}

TEST(TtlEstimatorTest, IsNotWorthATtlBelowTenMilliseconds) {
  TtlEstimator estimator;
  Call(estimator, "cd", 0.005, 150);
  EXPECT_EQ(estimator.Decide("cd", kReload).ttl, absl::ZeroDuration());
}

TEST(TtlEstimatorTest, ForgetsTheToolNotCalledForLongestWhereThereAreTooMany) {
  TtlEstimator estimator;
  Call(estimator, "make", 1, 101);
  for (int i = 0; i < 10'000; ++i) {
    estimator.OnToolDone(absl::StrCat("made up ", i), absl::Seconds(20));
    if (i % 100 == 0) estimator.OnToolDone("make", absl::Seconds(1));
    ASSERT_LE(estimator.num_tools(), TtlEstimator::kToolsMax);
  }
  EXPECT_EQ(estimator.Decide("make", kReload).ttl, absl::Seconds(1));
  EXPECT_EQ(estimator.Decide("made up 1", kReload).source, TtlSource::kTenant);
}

TEST(DurationSampleTest, AgreesWithAListOfTheLastOnRandomWalks) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const size_t capacity = 1 + rng() % 20;
    DurationSample sample(capacity);
    std::vector<double> all;
    for (int i = 0; i < 100; ++i) {
      all.push_back(static_cast<double>(rng() % 10));
      sample.Add(all.back());
      std::vector<double> last(all.end() - static_cast<int64_t>(std::min(capacity, all.size())),
                               all.end());
      std::sort(last.begin(), last.end());
      ASSERT_EQ(std::vector<double>(sample.sorted().begin(), sample.sorted().end()), last);
    }
  }
}

TEST(MemoryfulnessTest, IsOneWhereAllProgramsAreOfOneLengthAndWhileUndefined) {
  Memoryfulness none;
  EXPECT_EQ(none.value(), 1);
  none.AddProgram(1);
  EXPECT_EQ(none.value(), 1);
  Memoryfulness three;
  three.AddProgram(3);
  EXPECT_NEAR(three.value(), 1, 1e-12);
}

TEST(MemoryfulnessTest, AgreesWithTheDefinitionOnRandomPrograms) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    Memoryfulness closed(/*fade=*/1);
    std::vector<std::pair<double, double>> points;
    for (uint32_t program = 0; program < 2 + rng() % 30; ++program) {
      const auto turns = static_cast<int64_t>(1 + rng() % 40);
      closed.AddProgram(turns);
      for (int64_t k = 1; k <= turns; ++k) {
        points.emplace_back(static_cast<double>(k), static_cast<double>(turns - k));
      }
    }
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    for (const auto& [x, y] : points) {
      mean_x += x / static_cast<double>(points.size());
      mean_y += y / static_cast<double>(points.size());
    }
    for (const auto& [x, y] : points) {
      xx += (x - mean_x) * (x - mean_x);
      yy += (y - mean_y) * (y - mean_y);
      xy += (x - mean_x) * (y - mean_y);
    }
    if (xx > 0 && yy > 0) {
      EXPECT_NEAR(closed.value(), -xy / std::sqrt(xx * yy), 1e-12);
    }
  }
}

TEST(MemoryfulnessTest, GoesToZeroForProgramsThatEndAtAnyTurnAlike) {
  std::mt19937 rng(1);
  std::geometric_distribution<int64_t> more(0.1);
  Memoryfulness geometric(/*fade=*/1);
  for (int i = 0; i < 200'000; ++i) geometric.AddProgram(1 + more(rng));
  EXPECT_NEAR(geometric.value(), 0, 0.02);
}

}  // namespace
}  // namespace holdfast
