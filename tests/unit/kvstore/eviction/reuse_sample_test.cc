#include "kvstore/eviction/reuse_sample.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

int32_t OneClass() { return 0; }

TEST(ReuseSampleTest, WhatIsUsedAgainTeachesItsGap) {
  ReuseModel model(1, absl::Hours(1));
  ReuseSample sample(/*reach=*/1000, model);
  const double before = model.Index(0, 4);
  for (uint64_t i = 0; i < 20000; ++i) {
    const double now = static_cast<double>(i) * 0.01;
    sample.OnUsed(i, OneClass, At(now));
    if (i >= 500) sample.OnUsed(i - 500, OneClass, At(now));  // 5 s ago
  }
  EXPECT_GT(model.Index(0, 4), 3 * before);
}

TEST(ReuseSampleTest, AContentIsWatchedOnceHoweverOftenItIsUsed) {
  ReuseModel model(1, absl::Hours(1));
  ReuseSample sample(1000, model);
  for (int i = 0; i < 20000; ++i) {
    sample.OnUsed(1, OneClass, At(i * 5));
    ASSERT_EQ(sample.size(), 1u);
  }
}

TEST(ReuseSampleTest, WatchesABoundedNumberAndReachesAsFarBackAsItIsTold) {
  constexpr uint64_t kReach = 1000000;
  ReuseModel model(1, absl::Hours(1));
  ReuseSample sample(kReach, model);
  for (uint64_t i = 0; i < 2 * kReach; ++i) {
    sample.OnUsed(i, OneClass, At(0));
    ASSERT_LE(sample.size(), ReuseSample::kWatchedMax);
  }
  EXPECT_EQ(sample.log2_share(), 7);  // 8192 << 7 is the first that covers a million
  EXPECT_GE(sample.size() << sample.log2_share(), kReach);
}

}  // namespace
}  // namespace holdfast
