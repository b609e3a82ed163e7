#include "scheduler/preemption_budget.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1};

TEST(PreemptionBudgetTest, WhatOthersComputeAgainIsTakenFromItAndWhatIsServedComesBack) {
  PreemptionBudget budget(2, 100);
  EXPECT_TRUE(budget.MayTakeBack(kA));
  budget.OnRecomputed(kA, 150);
  EXPECT_FALSE(budget.MayTakeBack(kA));
  EXPECT_TRUE(budget.MayTakeBack(kB));
  budget.OnServed(kA, 50);
  EXPECT_FALSE(budget.MayTakeBack(kA));
  budget.OnServed(kA, 1);
  EXPECT_TRUE(budget.MayTakeBack(kA));
}

TEST(PreemptionBudgetTest, NothingIsSavedUpBeyondTheBurst) {
  PreemptionBudget budget(1, 100);
  budget.OnServed(kA, 1'000'000);
  budget.OnRecomputed(kA, 100);
  EXPECT_FALSE(budget.MayTakeBack(kA));
}

}  // namespace
}  // namespace holdfast
