// The product with bf16 weights: every path gives the bits of the sums that kernel_table.h
// describes, written down here once more without blocks of rows, panels or padding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "config/base/page_buffer.h"
#include "kernels/half.h"
#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

constexpr float kUntouched = -12345.0f;

uint16_t UpperHalf(float x) { return static_cast<uint16_t>(BitsOfFloat(x) >> 16); }
float FloatOfBf16(uint16_t bf16) { return FloatOfBits(uint32_t{bf16} << 16); }
float AsCounted(uint16_t bf16) {
  const float x = FloatOfBf16(bf16);
  return std::abs(x) < kLeastBf16 ? 0.0f : x;
}

struct Weights {
  Weights(std::vector<uint16_t> rows, int32_t n, int32_t k)
      : stored(std::move(rows)),
        buffer(*PageBuffer::Map(FloatMatrixBytes(TensorType::kBf16, n, k))),
        matrix{.type = TensorType::kBf16, .n = n, .k = k, .data = buffer.data()} {
    for (int32_t begin = 0; begin < n; begin += kFloatPanelRows) {
      PackFloatRows(TensorType::kBf16,
                    std::as_bytes(std::span(stored)).data() + size_t{2} * begin * k, k, begin,
                    std::min(begin + kFloatPanelRows, n), buffer.data());
    }
  }

  std::vector<uint16_t> stored;  // [n][k]
  PageBuffer buffer;
  FloatMatrix matrix;
};

Weights RandomWeights(int32_t n, int32_t k, uint32_t seed) {
  std::vector<uint16_t> rows;
  for (const float w : RandomFloats(static_cast<size_t>(n) * k, seed)) rows.push_back(UpperHalf(w));
  return {std::move(rows), n, k};
}

std::vector<float> Product(const KernelTable& kernels, const Weights& w,
                           const std::vector<float>& x) {
  const auto rows = static_cast<int32_t>(x.size() / w.matrix.k);
  const RoundedActivations rounded(kernels, x, rows, w.matrix.k);
  std::vector<float> y(static_cast<size_t>(rows) * w.matrix.n, kUntouched);
  kernels.bf16_matmul(w.matrix, rounded.view(), 0, rows, 0, w.matrix.num_panels(), y.data(),
                      w.matrix.n);
  return y;
}

// One output, of a row of bf16 numbers and one of weights.
float Sum(const std::vector<uint16_t>& x, const uint16_t* w) {
  float sum = 0.0f;
  for (size_t begin = 0; begin < x.size(); begin += 32) {
    float parts[2] = {};
    for (size_t i = begin; i < std::min(begin + 32, x.size()); ++i) {
      parts[i % 2] = std::fma(AsCounted(w[i]), AsCounted(x[i]), parts[i % 2]);
    }
    sum += parts[0] + parts[1];
  }
  return sum;
}

std::vector<float> SimpleProduct(const Weights& w, const std::vector<float>& x) {
  const auto k = static_cast<size_t>(w.matrix.k);
  const auto rows = static_cast<int32_t>(x.size() / k);
  const RoundedActivations rounded(KernelsOf(Isa::kScalar), x, rows, w.matrix.k);
  std::vector<float> y;
  for (int32_t r = 0; r < rows; ++r) {
    std::vector<uint16_t> row;
    for (int32_t i = 0; i < w.matrix.k; ++i) row.push_back(rounded.Value(r, i));
    for (int32_t n = 0; n < w.matrix.n; ++n) y.push_back(Sum(row, &w.stored[n * k]));
  }
  return y;
}

// Equal bit for bit, but that any NaN is as good as another.
testing::AssertionResult SameNumbers(std::vector<float> a, std::vector<float> b) {
  for (std::vector<float>* values : {&a, &b}) {
    for (float& x : *values) {
      if (std::isnan(x)) x = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return SameBits(a, b);
}

// Numbers of all magnitudes around kLeastBf16, zeros of either sign, denormals, and sums that
// cancel.
std::vector<float> SmallNumbers(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<float> out(count);
  for (float& x : out) {
    const float mantissa = 1.0f + static_cast<float>(rng() % 128) / 128.0f;
    x = std::ldexp(mantissa, -57 + static_cast<int>(rng() % 3));
    if (rng() % 16 == 0) x = 0.0f;
    if (rng() % 16 == 0) x = FloatOfBits(rng() % 0x00800000u);
    if (rng() % 2 == 0) x = -x;
  }
  return out;
}

TEST(Bf16MatmulTest, EveryPathGivesTheBitsOfTheSumsOnOddShapes) {
  for (const int32_t k : {1, 31, 32, 33, 95, 576, 600}) {
    for (const int32_t n : {1, 15, 16, 17, 47, 48, 49, 100}) {
      const Weights w = RandomWeights(n, k, static_cast<uint32_t>(n));
      for (const int32_t rows : {0, 1, 2, 3, 4, 7, 15, 16, 17, 31, 32, 33, 66}) {
        const auto x = RandomFloats(static_cast<size_t>(rows) * k, static_cast<uint32_t>(k));
        const auto wanted = SimpleProduct(w, x);
        for (const KernelTable* path : AllPaths()) {
          ASSERT_TRUE(SameBits(Product(*path, w, x), wanted))
              << path->name << " " << n << " x " << k << ", " << rows << " rows";
        }
      }
    }
  }
}

TEST(Bf16MatmulTest, IsNearDouble) {
  constexpr int32_t kInputs = 576, kOutputs = 48, kRows = 5;
  const Weights w = RandomWeights(kOutputs, kInputs, 1);
  const auto x = RandomFloats(size_t{kRows} * kInputs, 2);
  const auto y = Product(KernelsOf(BestIsa()), w, x);
  for (int32_t r = 0; r < kRows; ++r) {
    for (int32_t n = 0; n < kOutputs; ++n) {
      double sum = 0, squares = 0;
      for (int32_t i = 0; i < kInputs; ++i) {
        const double p = double{x[r * kInputs + i]} * FloatOfBf16(w.stored[n * kInputs + i]);
        sum += p;
        squares += p * p;
      }
      // A product's relative error from rounding x is 2^-9 at most, and the errors are independent.
      ASSERT_NEAR(y[r * kOutputs + n], sum, 3 * 0x1p-9 * std::sqrt(squares));
    }
  }
}

TEST(Bf16MatmulTest, RoundsActivationsToNearestEvenOnEveryPath) {
  const float infinity = std::numeric_limits<float>::infinity();
  struct Case {
    uint32_t from;
    uint16_t to;
  };
  const std::vector<Case> cases = {{0x3f800000, 0x3f80},
                                   {0x3f808000, 0x3f80},  // a tie goes to even
                                   {0x3f818000, 0x3f82},
                                   {0x3f808001, 0x3f81},
                                   {0xbf818000, 0xbf82},
                                   {0x7f7fffff, 0x7f80},
                                   {BitsOfFloat(infinity), 0x7f80},
                                   {BitsOfFloat(-infinity), 0xff80},
                                   {0x7f800001, 0x7fc0},
                                   {0xffffffff, 0xffff},
                                   {BitsOfFloat(kLeastBf16), UpperHalf(kLeastBf16)},
                                   {BitsOfFloat(-kLeastBf16), UpperHalf(-kLeastBf16)},
                                   {BitsOfFloat(kLeastBf16) - 1, 0},
                                   {BitsOfFloat(-kLeastBf16) - 1, 0},
                                   {0x00000001, 0},
                                   {0x80000000, 0}};
  std::vector<float> x;
  for (const Case& c : cases) x.push_back(FloatOfBits(c.from));
  const auto inputs = static_cast<int32_t>(cases.size());
  for (const KernelTable* path : AllPaths()) {
    for (int32_t k : {inputs, inputs - 1}) {  // whole vectors, and a part of one
      const std::vector<float> row(x.begin(), x.begin() + k);
      const RoundedActivations rounded(*path, row, 1, k);
      for (int32_t i = 0; i < 32; ++i) {
        ASSERT_EQ(rounded.Value(0, i), i < k ? cases[i].to : 0) << path->name << " input " << i;
      }
    }
  }
}

TEST(Bf16MatmulTest, PathsAgreeOnSmallNumbersOfWhichNoneBecomesDenormal) {
  constexpr int32_t kOutputs = 100, kRows = 33;
  for (const int32_t k : {3, 96}) {
    std::vector<uint16_t> rows;
    for (const float w : SmallNumbers(size_t{kOutputs} * k, 3)) rows.push_back(UpperHalf(w));
    const Weights w(rows, kOutputs, k);
    const auto x = SmallNumbers(size_t{kRows} * k, 4);
    const auto wanted = SimpleProduct(w, x);
    int near_denormal = 0;
    for (const float y : wanted) {
      ASSERT_TRUE(y == 0.0f || std::isnormal(y)) << y;
      near_denormal += y != 0.0f && std::abs(y) < 0x1p-120f;
    }
    EXPECT_TRUE(near_denormal > 0 || k != 3);  // or the numbers would not be small enough
    for (const KernelTable* path : AllPaths()) {
      ASSERT_TRUE(SameBits(Product(*path, w, x), wanted)) << path->name;
    }
  }
}

TEST(Bf16MatmulTest, PathsAgreeOnInfinitiesAndNaNsWhichStayInTheirRowsAndColumns) {
  constexpr int32_t kInputs = 70, kOutputs = 50, kRows = 18;
  Weights finite = RandomWeights(kOutputs, kInputs, 5);
  std::vector<uint16_t> rows = finite.stored;
  rows[3 * kInputs + 10] = 0x7f80;   // infinity
  rows[20 * kInputs + 69] = 0xffc0;  // NaN
  rows[7 * kInputs] = 0x7f7f;        // the largest, whose products overflow
  const Weights w(rows, kOutputs, kInputs);
  auto x = RandomFloats(size_t{kRows} * kInputs, 6);
  x[2 * kInputs + 10] = 0.0f;  // times infinity
  x[5 * kInputs + 33] = -std::numeric_limits<float>::infinity();
  x[17 * kInputs + 1] = std::numeric_limits<float>::quiet_NaN();
  x[9 * kInputs] = 1e30f;
  const auto wanted = SimpleProduct(w, x);
  for (const KernelTable* path : AllPaths()) {
    const auto y = Product(*path, w, x);
    ASSERT_TRUE(SameNumbers(y, wanted)) << path->name;
    EXPECT_TRUE(std::isnan(y[2 * kOutputs + 3]));
    EXPECT_TRUE(std::isinf(y[5 * kOutputs]));
    EXPECT_TRUE(std::isnan(y[17 * kOutputs + 8]));
    EXPECT_TRUE(std::isfinite(y[6 * kOutputs + 8]));
    EXPECT_TRUE(std::isinf(y[9 * kOutputs + 7]));
  }
}

TEST(Bf16MatmulTest, ARowsBitsDependNeitherOnItsPlaceNorOnItsNeighboursNorOnThePanelsAtOnce) {
  constexpr int32_t kInputs = 70, kOutputs = 100, kRows = 39;
  const auto x = RandomFloats(size_t{kRows} * kInputs, 8);
  const Weights w = RandomWeights(kOutputs, kInputs, 7);
  for (const KernelTable* path : AllPaths()) {
    const auto together = Product(*path, w, x);
    for (int32_t r = 0; r < kRows; ++r) {
      const std::vector<float> row(x.begin() + r * kInputs, x.begin() + (r + 1) * kInputs);
      const RoundedActivations alone(*path, row, 1, kInputs);
      std::vector<float> y(kOutputs, kUntouched);
      for (int32_t panel = w.matrix.num_panels() - 1; panel >= 0; --panel) {
        path->bf16_matmul(w.matrix, alone.view(), 0, 1, panel, panel + 1, y.data(), kOutputs);
      }
      const std::vector<float> in_batch(together.begin() + r * kOutputs,
                                        together.begin() + (r + 1) * kOutputs);
      ASSERT_TRUE(SameBits(y, in_batch)) << path->name << " row " << r;
    }
  }
}

TEST(Bf16MatmulTest, WritesTheRowsAndColumnsItIsGivenAndNoOthers) {
  constexpr int32_t kInputs = 40, kOutputs = 110, kRows = 50, kStride = 120;
  const Weights w = RandomWeights(kOutputs, kInputs, 9);
  const auto x = RandomFloats(size_t{kRows} * kInputs, 10);
  for (const KernelTable* path : AllPaths()) {
    const RoundedActivations rounded(*path, x, kRows, kInputs);
    for (const int32_t end : {17, 20, 32, 37}) {
      std::vector<float> y(size_t{kRows} * kStride, kUntouched);
      path->bf16_matmul(w.matrix, rounded.view(), 16, end, 1, 3, y.data(), kStride);
      for (int32_t r = 0; r < kRows; ++r) {
        for (int32_t i = 0; i < kStride; ++i) {
          const bool written = r >= 16 && r < end && i >= kFloatPanelRows && i < kOutputs;
          ASSERT_EQ(y[r * kStride + i] != kUntouched, written)
              << path->name << " " << r << " " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace holdfast
