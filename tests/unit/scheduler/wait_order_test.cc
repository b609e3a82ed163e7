#include "scheduler/policy/wait_order.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr absl::Duration kAge = absl::Seconds(10);
const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

TEST(WaitOrderTest, HitRatePutsTheGreaterShareFirstWhateverItsLength) {
  EXPECT_LT(ScoreOf(WaitOrder::kHitRate, 8192, 7373, kNow, kAge),
            ScoreOf(WaitOrder::kHitRate, 64, 0, kNow, kAge));
}

TEST(WaitOrderTest, RemainingWorkPutsTheShorterWorkFirst) {
  EXPECT_GT(ScoreOf(WaitOrder::kRemainingWork, 8192, 7373, kNow, kAge),
            ScoreOf(WaitOrder::kRemainingWork, 64, 0, kNow, kAge));
}

TEST(WaitOrderTest, EqualPromptsAreInTheSameOrderByHitRateAndByRemainingWork) {
  for (int32_t found = 0; found < 100; found += 16) {
    EXPECT_GT(ScoreOf(WaitOrder::kRemainingWork, 128, found, kNow, kAge),
              ScoreOf(WaitOrder::kRemainingWork, 128, found + 16, kNow, kAge));
    EXPECT_GT(ScoreOf(WaitOrder::kHitRate, 128, found, kNow, kAge),
              ScoreOf(WaitOrder::kHitRate, 128, found + 16, kNow, kAge));
  }
}

TEST(WaitOrderTest, OrderIsThatOfWorkTimesExpOfMinusWaitAtAnyTime) {
  std::mt19937 random(7);
  for (int32_t i = 0; i < 1000; ++i) {
    const auto work = [&] { return static_cast<int32_t>(1 + random() % 8000); };
    const auto wait = [&] { return static_cast<double>(random() % 60000) / 1000; };
    const int32_t work_a = work(), work_b = work();
    const double wait_a = wait(), wait_b = wait();
    const double aged_a = work_a * std::exp(-wait_a / 10), aged_b = work_b * std::exp(-wait_b / 10);
    if (std::abs(std::log(aged_a / aged_b)) < 1e-6) continue;
    EXPECT_EQ(
        aged_a < aged_b,
        ScoreOf(WaitOrder::kRemainingWork, work_a, 0, kNow - absl::Seconds(wait_a), kAge) <
            ScoreOf(WaitOrder::kRemainingWork, work_b, 0, kNow - absl::Seconds(wait_b), kAge));
  }
}

}  // namespace
}  // namespace holdfast
