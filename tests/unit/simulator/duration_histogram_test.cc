#include "simulator/duration_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace holdfast {
namespace {

TEST(DurationHistogramTest, QuantilesAreWithinHalfAPercentOfExactOnes) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    DurationHistogram histogram;
    std::vector<int64_t> values;
    for (int i = 0; i < 2000; ++i) {
      values.push_back(static_cast<int64_t>(rng() >> (1 + rng() % 60)));
      histogram.Add(values.back());
    }
    std::sort(values.begin(), values.end());
    double sum = 0;
    for (const int64_t value : values) sum += static_cast<double>(value);
    EXPECT_EQ(histogram.count(), 2000);
    EXPECT_EQ(histogram.min(), values.front());
    EXPECT_EQ(histogram.max(), values.back());
    EXPECT_NEAR(histogram.mean(), sum / 2000, 1e-9 * sum);
    for (const double q : {0.001, 0.5, 0.9, 0.95, 0.99, 1.0}) {
      const auto rank = static_cast<size_t>(std::ceil(q * 2000)) - 1;
      const auto exact = static_cast<double>(values[rank]);
      EXPECT_NEAR(histogram.Quantile(q), exact, 0.0041 * exact) << q;
    }
  }
}

TEST(DurationHistogramTest, MergedInAnyOrderItIsTheSame) {
  std::mt19937_64 rng(1);
  DurationHistogram all, parts[3], merged, backwards;
  for (int i = 0; i < 3000; ++i) {
    const auto value = static_cast<int64_t>(rng() >> (20 + rng() % 40));
    all.Add(value);
    parts[i % 3].Add(value);
  }
  for (int i = 0; i < 3; ++i) merged.Merge(parts[i]);
  for (int i = 3; i-- > 0;) backwards.Merge(parts[i]);
  EXPECT_EQ(merged, all);
  EXPECT_EQ(backwards, all);
}

TEST(DurationHistogramTest, AnEmptyOneSaysZero) {
  const DurationHistogram empty;
  EXPECT_EQ(empty.Quantile(0.5), 0);
  EXPECT_EQ(empty.mean(), 0);
}

}  // namespace
}  // namespace holdfast
