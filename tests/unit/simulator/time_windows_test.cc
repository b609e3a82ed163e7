#include "simulator/time_windows.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>

namespace holdfast {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(AmountWindowsTest, AmountsAreKeptWhileWindowsDouble) {
  AmountWindows windows(2);
  windows.Add(0, 0, 1);
  windows.Add(0, 3 * kSecond, 10);
  windows.Add(1, 3 * kSecond, 5);
  EXPECT_EQ(windows.Amount(0, 3), 10);
  windows.Add(1, static_cast<int64_t>(kWindowsMax) * kSecond, 7);
  EXPECT_EQ(windows.window_nanos(), 2 * kSecond);
  EXPECT_EQ(windows.Amount(0, 0), 1);
  EXPECT_EQ(windows.Amount(0, 1), 10);
  EXPECT_EQ(windows.Amount(1, 1), 5);
  EXPECT_EQ(windows.Amount(1, kWindowsMax / 2), 7);
  EXPECT_EQ(windows.num_windows(), kWindowsMax / 2 + 1);
}

TEST(AmountWindowsTest, PartsMergedInAnyOrderAreTheWhole) {
  std::mt19937_64 rng(3);
  AmountWindows all(3), parts[2] = {AmountWindows(3), AmountWindows(3)};
  for (int i = 0; i < 5000; ++i) {
    const size_t part = i < 4000 ? 0 : 1;
    const int64_t longest = part == 0 ? 300 * kSecond : 5000 * kSecond;
    const auto at = static_cast<int64_t>(rng() % static_cast<uint64_t>(longest));
    all.Add(i % 3, at, i);
    parts[part].Add(i % 3, at, i);
  }
  AmountWindows forwards = parts[0], backwards = parts[1];
  forwards.Merge(parts[1]);
  backwards.Merge(parts[0]);
  EXPECT_EQ(forwards, all);
  EXPECT_EQ(backwards, all);
}

InstanceState Held(int64_t blocks) {
  InstanceState state;
  state.values[InstanceState::kHeld] = blocks;
  return state;
}

TEST(StateSamplesTest, ASampleIsWhatHeldAtItsWindowsBeginning) {
  StateSamples samples;
  samples.Hold(Held(1), 0);
  samples.Hold(Held(2), kSecond / 2);
  samples.Hold(Held(3), 2 * kSecond);
  samples.Hold(Held(4), 2 * kSecond + 1);
  ASSERT_EQ(samples.samples().size(), 3u);
  EXPECT_EQ(samples.samples()[0], Held(2));
  EXPECT_EQ(samples.samples()[1], Held(3));
  EXPECT_EQ(samples.samples()[2], Held(4));
}

TEST(StateSamplesTest, ALongIdleTimeTakesBoundedRoom) {
  StateSamples samples;
  samples.Hold(Held(1), 10 * kSecond);
  samples.Hold(Held(2), 1'000'000 * kSecond);
  EXPECT_LE(samples.samples().size(), kWindowsMax);
  EXPECT_GE(samples.samples().size(), kWindowsMax / 2 - 1);
  EXPECT_EQ(samples.samples().front(), Held(1));
  EXPECT_EQ(samples.samples().back(), Held(2));
}

TEST(StateSamplesTest, OneThatEndedStaysAsItWas) {
  StateSamples shorter, longer;
  shorter.Hold(Held(1), 3 * kSecond);
  longer.Hold(Held(10), 5000 * kSecond);
  StateSamples merged = shorter, other = longer;
  merged.Merge(longer);
  other.Merge(shorter);
  EXPECT_EQ(merged, other);
  EXPECT_EQ(merged.samples().front(), Held(11));
  EXPECT_EQ(merged.samples().back(), Held(11));
}

}  // namespace
}  // namespace holdfast
