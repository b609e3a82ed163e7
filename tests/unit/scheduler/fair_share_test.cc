#include "scheduler/policy/fair_share.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1}, kC{2};

TEST(FairShareTest, ServiceCountsByWeight) {
  FairShare share({1, 4});
  share.Charge(kA, 100);
  share.Charge(kB, 100);
  EXPECT_EQ(share.served(kA), 100);
  EXPECT_EQ(share.served(kB), 25);
}

TEST(FairShareTest, APauseSavesNothingUp) {
  FairShare share({1, 1, 1});
  share.OnWaiting(kA);
  share.OnWaiting(kC);
  share.Charge(kA, 100);
  share.Charge(kC, 70);
  share.OnWaiting(kB);
  EXPECT_EQ(share.served(kB), 70);  // the least of those who wait
  share.Charge(kB, 50);
  share.OnNotWaiting(kB);
  share.OnWaiting(kB);
  EXPECT_EQ(share.served(kB), 120);  // and nothing is forgiven
}

TEST(FairShareTest, WhoComesToAnEmptyQueueIsLiftedToTheLastThatLeftIt) {
  FairShare share({1, 1});
  share.OnWaiting(kA);
  share.Charge(kA, 100);
  share.OnNotWaiting(kA);
  share.OnWaiting(kB);
  EXPECT_EQ(share.served(kB), 100);
}

TEST(FairShareTest, AnotherWaitingRequestOfTheSameTenantLiftsNothing) {
  FairShare share({1, 1});
  share.OnWaiting(kB);
  share.OnWaiting(kA);
  share.Charge(kA, 100);
  share.OnWaiting(kB);
  EXPECT_EQ(share.served(kB), 0);
}

}  // namespace
}  // namespace holdfast
