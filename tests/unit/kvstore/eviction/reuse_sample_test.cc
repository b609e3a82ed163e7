#include "kvstore/eviction/reuse_sample.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// A share of contents comes back when it has long been evicted.
void LiveThrough(ReuseSample& sample, uint64_t first, uint64_t count, double gap_seconds) {
  for (uint64_t i = 0; i < count; ++i) {
    const double now = static_cast<double>(i) * 0.01;
    sample.Watch(first + i, 0, At(now), At(now));
    sample.OnEvicted(first + i);
    const auto back = static_cast<uint64_t>(gap_seconds * 100);
    if (i >= back) sample.OnComputed(first + i - back, At(now));
  }
}

TEST(ReuseSampleTest, WhatIsComputedAgainAfterItsEvictionTeachesItsGap) {
  ReuseModel model(1, absl::Hours(1));
  ReuseSample sample(/*reach=*/1000, model);
  const double before = model.Index(0, 4);
  LiveThrough(sample, 0, 20000, 5);
  EXPECT_GT(model.Index(0, 4), 3 * before);
}

TEST(ReuseSampleTest, WhatLiesInTheCacheAndIsComputedElsewhereIsNoMiss) {
  ReuseModel model(1, absl::Hours(1));
  ReuseSample sample(1000, model);
  sample.Watch(1, 0, At(0), At(0));
  sample.OnComputed(1, At(1));
  EXPECT_EQ(sample.size(), 1u);
  sample.OnReused(1, At(2));
  EXPECT_EQ(sample.size(), 0u);
}

TEST(ReuseSampleTest, WatchesABoundedNumberAndReachesAsFarBackAsItIsTold) {
  constexpr uint64_t kReach = 1000000;
  ReuseModel model(1, absl::Hours(1));
  ReuseSample sample(kReach, model);
  for (uint64_t i = 0; i < 2 * kReach; ++i) {
    sample.Watch(i, 0, At(0), At(0));
    sample.OnEvicted(i);
    ASSERT_LE(sample.size(), ReuseSample::kWatchedMax);
  }
  EXPECT_EQ(sample.log2_share(), 7);  // 8192 << 7 is the first that covers a million
  EXPECT_GE(sample.size() << sample.log2_share(), kReach);
}

}  // namespace
}  // namespace holdfast
