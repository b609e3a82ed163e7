#include "engine/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace holdfast {
namespace {

TEST(RopeTableTest, UnscaledFrequenciesArePowersOfTheta) {
  const RopeTable table({.theta = 10000.0f, .dim = 64});
  ASSERT_EQ(table.num_pairs(), 32);
  for (int i = 0; i < 32; ++i) {
    EXPECT_DOUBLE_EQ(table.frequencies()[i], std::pow(10000.0, -2.0 * i / 64));
  }
  EXPECT_EQ(table.magnitude(), 1.0);
}

TEST(RopeTableTest, FillGivesCosineAndSineOfPositionTimesFrequency) {
  const RopeTable table({.theta = 10000.0f, .dim = 8});
  std::vector<float> cos_sin(8);
  for (int32_t position : {0, 1, 17, 8191, 131071}) {
    table.Fill(position, cos_sin.data());
    for (int i = 0; i < 4; ++i) {
      const double angle = position * std::pow(10000.0, -i / 4.0);
      EXPECT_FLOAT_EQ(cos_sin[2 * i], static_cast<float>(std::cos(angle)));
      EXPECT_FLOAT_EQ(cos_sin[2 * i + 1], static_cast<float>(std::sin(angle)));
    }
  }
}

TEST(RopeTableTest, LinearScalingStretchesEveryWave) {
  const RopeTable plain({.dim = 16});
  const RopeTable scaled({.dim = 16, .scaling = RopeScaling::kLinear, .factor = 4.0f});
  for (int i = 0; i < 8; ++i) {
    EXPECT_DOUBLE_EQ(scaled.frequencies()[i], plain.frequencies()[i] / 4.0);
  }
}

TEST(RopeTableTest, FrequencyFactorsDivide) {
  const RopeTable plain({.dim = 4});
  const RopeTable scaled({.dim = 4, .freq_factors = {1.0f, 8.0f}});
  EXPECT_DOUBLE_EQ(scaled.frequencies()[0], plain.frequencies()[0]);
  EXPECT_DOUBLE_EQ(scaled.frequencies()[1], plain.frequencies()[1] / 8.0);
}

// The bands of Llama 3.1 at its own settings: theta 500000, factor 8, bands 1 and 4, context 8192.
TEST(RopeTableTest, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  const RopeTable plain({.theta = 500000.0f, .dim = 128});
  const RopeTable scaled({.theta = 500000.0f,
                          .dim = 128,
                          .scaling = RopeScaling::kLlama3,
                          .factor = 8.0f,
                          .original_context = 8192});
  int kept = 0, stretched = 0, blended = 0;
  for (int i = 0; i < 64; ++i) {
    const double before = plain.frequencies()[i], after = scaled.frequencies()[i];
    const double wavelength = 2.0 * std::numbers::pi / before;
    if (wavelength < 2048) {
      EXPECT_EQ(after, before);
      ++kept;
    } else if (wavelength > 8192) {
      EXPECT_DOUBLE_EQ(after, before / 8);
      ++stretched;
    } else {
      const double smooth = (8192 / wavelength - 1) / 3;
      EXPECT_DOUBLE_EQ(after, before * ((1 - smooth) / 8 + smooth));
      ++blended;
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(stretched, 0);
  EXPECT_GT(blended, 0);
}

// Qwen2.5's setting: theta 1e6, 128 places, factor 4, original context 32768. The correction range
// worked out by hand: pair = 64 ln(32768 / (2 pi r)) / ln(1e6); r = 32: 23.59, r = 1: 39.65.
TEST(RopeTableTest, YarnInterpolatesBeyondTheCorrectionRangeAndRaisesTheMagnitude) {
  RopeConfig config{.theta = 1e6f,
                    .dim = 128,
                    .scaling = RopeScaling::kYarn,
                    .factor = 4.0f,
                    .original_context = 32768};
  const RopeTable plain({.theta = 1e6f, .dim = 128});
  const RopeTable scaled(config);
  for (int i = 0; i < 64; ++i) {
    const double ramp = std::min(std::max((i - 23.0) / (40.0 - 23.0), 0.0), 1.0);
    const double expected = plain.frequencies()[i] * (ramp / 4.0 + (1.0 - ramp));
    EXPECT_NEAR(scaled.frequencies()[i] / expected, 1.0, 1e-12) << "pair " << i;
  }
  EXPECT_NEAR(scaled.magnitude(), 0.1 * std::log(4.0) + 1.0, 1e-12);
  std::vector<float> cos_sin(128);
  scaled.Fill(0, cos_sin.data());
  EXPECT_FLOAT_EQ(cos_sin[0], static_cast<float>(scaled.magnitude()));

  config.attention_factor = 1.5f;
  EXPECT_EQ(RopeTable(config).magnitude(), 1.5);
}

}  // namespace
}  // namespace holdfast
