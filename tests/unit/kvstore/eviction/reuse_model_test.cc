#include "kvstore/eviction/reuse_model.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

TEST(ReuseModelTest, BinsFollowEachOtherWithoutGap) {
  for (size_t bin = 0; bin < ReuseModel::kNumBins; ++bin) {
    EXPECT_EQ(ReuseModel::BinOf(ReuseModel::BinBegin(bin) * 1.0001), bin);
    if (bin > 0) {
      EXPECT_EQ(ReuseModel::BinOf(ReuseModel::BinBegin(bin) * 0.9999), bin - 1);
    }
  }
  EXPECT_EQ(ReuseModel::BinOf(1e12), ReuseModel::kNumBins - 1);
  EXPECT_EQ(ReuseModel::BinOf(-1), 0u);
}

TEST(ReuseModelTest, BeforeAnythingIsSeenTheMoreRecentIsWorthMore) {
  ReuseModel model(1, absl::Hours(1));
  for (size_t bin = 1; bin < ReuseModel::kNumBins; ++bin) {
    EXPECT_LT(model.Index(0, ReuseModel::BinBegin(bin)),
              model.Index(0, ReuseModel::BinBegin(bin - 1)));
  }
}

TEST(ReuseModelTest, OfABlockReusedAtRandomTheIndexIsTheRateWhateverItsAge) {
  constexpr double kRate = 1.0 / 20;
  std::mt19937 rng(1);
  ReuseModel model(1, absl::Hours(1));
  for (int i = 0; i < 200000; ++i) {
    const double gap = -std::log((rng() + 0.5) / 4294967296.0) / kRate;
    model.Observe(0, 0, gap, ReuseModel::End::kReused);
  }
  model.Refresh(At(0));
  for (double age : {0.0, 1.0, 5.0, 20.0, 60.0}) {
    EXPECT_NEAR(model.Index(0, age), kRate, kRate * 0.1) << age;
  }
}

TEST(ReuseModelTest, ABlockWhoseGoodTimeIsYetToComeIsKeptForIt) {
  ReuseModel model(1, absl::Hours(1));
  for (int i = 0; i < 100000; ++i) model.Observe(0, 0, 9, ReuseModel::End::kReused);
  model.Refresh(At(0));
  // Fresh: a reuse within 9 s for sure. At 8 s: within the second.
  EXPECT_NEAR(model.Index(0, 0), 1.0 / 9, 0.02);
  EXPECT_GT(model.Index(0, 8), 0.5);
  EXPECT_LT(model.Index(0, 100), 0.02);
}

TEST(ReuseModelTest, LateEntriesCountOnlyForTheAgesTheyWereWatchedAt) {
  ReuseModel whole(1, absl::Hours(1)), parts(1, absl::Hours(1));
  for (int i = 0; i < 1000; ++i) {
    whole.Observe(0, 0, 50, ReuseModel::End::kReused);
    parts.Observe(0, 0, 7, ReuseModel::End::kUnused);
    parts.Observe(0, 7, 50, ReuseModel::End::kReused);
  }
  whole.Refresh(At(0));
  parts.Refresh(At(0));
  for (double age : {0.0, 1.0, 6.0, 10.0, 49.0, 60.0}) {
    EXPECT_NEAR(whole.Index(0, age), parts.Index(0, age), 1e-9 * whole.Index(0, age));
  }
}

TEST(ReuseModelTest, AClassOfWhichNothingIsKnownLeansOnTheOthers) {
  ReuseModel model(2, absl::Hours(1));
  const double before = model.Index(1, 5);
  for (int i = 0; i < 100000; ++i) model.Observe(0, 0, 6, ReuseModel::End::kReused);
  model.Refresh(At(0));
  EXPECT_GT(model.Index(1, 5), 5 * before);
}

TEST(ReuseModelTest, WhatWasLearntFades) {
  ReuseModel model(1, absl::Minutes(1));
  const double before = model.Index(0, 5);
  for (int i = 0; i < 100000; ++i) model.Observe(0, 0, 6, ReuseModel::End::kReused);
  model.Refresh(At(0));
  EXPECT_GT(model.Index(0, 5), 5 * before);
  model.Refresh(At(3600));
  EXPECT_NEAR(model.Index(0, 5), before, 0.01 * before);
  model.Refresh(At(10));  // a clock that went back changes nothing
  EXPECT_NEAR(model.Index(0, 5), before, 0.01 * before);
}

}  // namespace
}  // namespace holdfast
