// The software binary16 against its definition, worked out in double.
#include "kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

namespace holdfast {
namespace {

double ValueByDefinition(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(HalfTest, EveryHalfHasItsDefinedValueAndComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = FloatOfHalf(half);
    const double wanted = ValueByDefinition(half);
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(value)) << std::hex << bits;
      EXPECT_EQ(HalfOfFloat(value), half | 0x200) << "a NaN is made quiet and keeps its payload";
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), wanted) << std::hex << bits;
    ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << std::hex << bits;
    ASSERT_EQ(HalfOfFloat(value), half) << std::hex << bits;
  }
}

// The nearest of all halves, ties to the even one: between neighbours, at their middle, and one
// float to either side of it.
TEST(HalfTest, RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto below = static_cast<uint16_t>(bits), above = static_cast<uint16_t>(bits + 1);
    const double middle = (ValueByDefinition(below) + ValueByDefinition(above)) / 2;
    const auto middle_float = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(middle_float), middle) << "a middle is a float";
    const uint16_t even = bits % 2 == 0 ? below : above;
    ASSERT_EQ(HalfOfFloat(middle_float), even) << std::hex << bits;
    ASSERT_EQ(HalfOfFloat(-middle_float), even | 0x8000) << std::hex << bits;
    ASSERT_EQ(HalfOfFloat(std::nextafterf(middle_float, 0.0f)), below) << std::hex << bits;
    ASSERT_EQ(HalfOfFloat(std::nextafterf(middle_float, INFINITY)), above) << std::hex << bits;
  }
}

TEST(HalfTest, OverflowsToInfinityFromTheMiddleAboveTheLargest) {
  EXPECT_EQ(HalfOfFloat(65504.0f), 0x7bff);
  EXPECT_EQ(HalfOfFloat(std::nextafterf(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(HalfOfFloat(65520.0f), 0x7c00);
  EXPECT_EQ(HalfOfFloat(-INFINITY), 0xfc00);
  EXPECT_EQ(HalfOfFloat(1e-45f), 0);
}

}  // namespace
}  // namespace holdfast
