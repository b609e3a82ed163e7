#include "scheduler/step_pace.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1};
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

TEST(StepPaceTest, WhoIsAloneIsNotHeldBack) {
  StepPace pace(2, 512, absl::Milliseconds(100));
  pace.OnRows(kA, kStart);
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
  pace.OnStep(512, absl::Milliseconds(500));
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
}

TEST(StepPaceTest, WhileTwoAreThereStepsComeDownToTheTimeAndGrowAgain) {
  StepPace pace(2, 512, absl::Milliseconds(100));
  pace.OnRows(kA, kStart);
  pace.OnRows(kB, kStart);
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
  pace.OnStep(512, absl::Milliseconds(500));
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 102);
  pace.OnStep(102, absl::Milliseconds(100));
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 128);
  pace.OnStep(20, absl::Milliseconds(25));  // which was not full
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 128);
}

TEST(StepPaceTest, StepsThatAreShortAnywayStayFull) {
  StepPace pace(2, 512, absl::Milliseconds(100));
  pace.OnRows(kA, kStart);
  pace.OnRows(kB, kStart);
  for (int32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
    pace.OnStep(512, absl::Milliseconds(20));
  }
}

TEST(StepPaceTest, HoweverSlowTheMachineSomeRowsAreLeft) {
  StepPace pace(2, 512, absl::Milliseconds(1));
  pace.OnRows(kA, kStart);
  pace.OnRows(kB, kStart);
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
  pace.OnStep(512, absl::Seconds(10));
  EXPECT_EQ(pace.PrefillRowsMax(kStart), StepPace::kRowsMin);
}

TEST(StepPaceTest, WhoHasHadNoRowsForAWhileIsGone) {
  StepPace pace(2, 512, absl::Milliseconds(100));
  pace.OnRows(kA, kStart);
  pace.OnRows(kB, kStart);
  ASSERT_EQ(pace.PrefillRowsMax(kStart), 512);
  pace.OnStep(512, absl::Milliseconds(500));
  const absl::Time later = kStart + StepPace::kThere + absl::Milliseconds(1);
  pace.OnRows(kA, later);
  EXPECT_EQ(pace.PrefillRowsMax(later), 512);
  pace.OnRows(kB, later);
  EXPECT_EQ(pace.PrefillRowsMax(later), 102);
}

TEST(StepPaceTest, WhatDecodesTakeIsNotBlamedOnPrefills) {
  StepPace pace(2, 512, absl::Milliseconds(100));
  pace.OnRows(kA, kStart);
  pace.OnRows(kB, kStart);
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
  pace.OnStep(3, absl::Milliseconds(113), absl::Milliseconds(110));
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 512);
  pace.OnStep(512, absl::Milliseconds(310), absl::Milliseconds(110));
  EXPECT_EQ(pace.PrefillRowsMax(kStart), 128);  // half of the time is theirs
}

}  // namespace
}  // namespace holdfast
