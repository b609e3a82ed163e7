// The quantised product: every path gives the scalar path's bits, whatever the rows and panels at
// once, and the scalar path agrees with double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

constexpr float kUntouched = -12345.0f;

std::vector<float> Product(const KernelTable& kernels, const PackedMatrix& w, const Activations& x,
                           int32_t rows) {
  std::vector<float> y(static_cast<size_t>(rows) * w.n, kUntouched);
  kernels.quantized_matmul(w, x.view(), rows, 0, w.num_panels(), y.data(), w.n);
  return y;
}

class QuantizedMatmulTest : public testing::TestWithParam<TensorType> {};

TEST_P(QuantizedMatmulTest, PathsAgreeBitForBitOnOddShapes) {
  const TensorType type = GetParam();
  for (const int32_t k : {256, 768}) {
    for (const int32_t n : {1, 15, 16, 17, 48, 100}) {
      const auto packed = Pack(type, RandomBlocks(type, n, k, static_cast<uint32_t>(n)), n, k);
      const PackedMatrix w{.type = type, .n = n, .k = k, .data = packed.data()};
      for (const int32_t rows : {0, 1, 2, 3, 7, 15, 16, 17, 130}) {
        const auto x = RandomFloats(static_cast<size_t>(rows) * k, static_cast<uint32_t>(rows));
        const Activations quantized(KernelsOf(Isa::kScalar), x, rows, k);
        const auto wanted = Product(KernelsOf(Isa::kScalar), w, quantized, rows);
        for (const KernelTable* path : VectorPaths()) {
          ASSERT_TRUE(SameBits(Product(*path, w, quantized, rows), wanted))
              << path->name << " n " << n << " k " << k << " rows " << rows;
        }
      }
    }
  }
}

// The largest codes and activations of either sign: where 16-bit sums would overflow.
TEST_P(QuantizedMatmulTest, PathsAgreeOnExtremeCodes) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 16, kInputs = 256;
  for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
    std::vector<std::byte> rows = RandomBlocks(type, kOutputs, kInputs, 3);
    const size_t block_bytes = static_cast<size_t>(TraitsOf(type).block_bytes);
    const size_t begin = type == TensorType::kQ6_K ? 0 : block_bytes <= 24 ? 4 : 16;
    for (size_t at = 0; at < rows.size(); at += block_bytes) {
      const size_t end = type == TensorType::kQ6_K ? 192 : block_bytes;
      const size_t first = type == TensorType::kQ8_0 ? 2 : begin;
      std::fill(rows.begin() + at + first, rows.begin() + at + end, static_cast<std::byte>(fill));
    }
    const auto packed = Pack(type, rows, kOutputs, kInputs);
    const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
    std::vector<float> x(size_t{3} * kInputs, 1.0f);  // quantised to 127, -127 and both
    std::fill(x.begin() + kInputs, x.begin() + 2 * kInputs, -1.0f);
    for (size_t i = 2 * kInputs; i < x.size(); ++i) x[i] = i % 2 == 0 ? 1.0f : -1.0f;
    const Activations quantized(KernelsOf(Isa::kScalar), x, 3, kInputs);
    const auto wanted = Product(KernelsOf(Isa::kScalar), w, quantized, 3);
    for (const KernelTable* path : VectorPaths()) {
      ASSERT_TRUE(SameBits(Product(*path, w, quantized, 3), wanted)) << path->name << " " << fill;
    }
  }
}

TEST_P(QuantizedMatmulTest, ARowDoesNotDependOnItsNeighboursNorOnThePanelsAtOnce) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 72, kInputs = 512, kRows = 19;
  const auto packed = Pack(type, RandomBlocks(type, kOutputs, kInputs, 5), kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  const auto x = RandomFloats(size_t{kRows} * kInputs, 6);
  for (const KernelTable* path : AllPaths()) {
    const Activations all(*path, x, kRows, kInputs);
    const auto together = Product(*path, w, all, kRows);
    for (int32_t row = 0; row < kRows; ++row) {
      const std::vector<float> one(x.begin() + row * kInputs, x.begin() + (row + 1) * kInputs);
      const Activations alone(*path, one, 1, kInputs);
      std::vector<float> y(kOutputs, kUntouched);
      for (int32_t panel = w.num_panels() - 1; panel >= 0; --panel) {
        path->quantized_matmul(w, alone.view(), 1, panel, panel + 1, y.data(), kOutputs);
      }
      const std::vector<float> in_batch(together.begin() + row * kOutputs,
                                        together.begin() + (row + 1) * kOutputs);
      ASSERT_TRUE(SameBits(y, in_batch)) << path->name << " row " << row;
    }
  }
}

TEST_P(QuantizedMatmulTest, WritesOnlyTheColumnsOfItsPanels) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 37, kInputs = 256, kRows = 3, kStride = 50;
  const auto packed = Pack(type, RandomBlocks(type, kOutputs, kInputs, 7), kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  for (const KernelTable* path : AllPaths()) {
    const Activations x(*path, RandomFloats(size_t{kRows} * kInputs, 8), kRows, kInputs);
    std::vector<float> y(size_t{kRows} * kStride, kUntouched);
    path->quantized_matmul(w, x.view(), kRows, 1, 3, y.data(), kStride);
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t column = i % kStride;
      EXPECT_EQ(y[i] != kUntouched, column >= 16 && column < kOutputs) << path->name << " " << i;
    }
  }
}

// Against double over the same quantised activations and dequantised weights: what is left is f32
// rounding, at most 2 * k / 32 + 3 roundings of partial sums.
TEST_P(QuantizedMatmulTest, AgreesWithDouble) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 33, kInputs = 1536, kRows = 5;
  const auto rows = RandomBlocks(type, kOutputs, kInputs, 9);
  const auto packed = Pack(type, rows, kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  const KernelTable& kernels = KernelsOf(Isa::kScalar);
  const Activations x(kernels, RandomFloats(size_t{kRows} * kInputs, 10), kRows, kInputs);
  const auto y = Product(kernels, w, x, kRows);
  std::vector<float> weights(kInputs);
  for (int32_t n = 0; n < kOutputs; ++n) {
    DequantizeRow(type, rows.data() + n * RowBytes(type, kInputs), kInputs, weights.data());
    for (int32_t r = 0; r < kRows; ++r) {
      double wanted = 0, magnitude = 0;
      for (int32_t k = 0; k < kInputs; ++k) {
        const size_t at = static_cast<size_t>(r) * kInputs + k;
        const double product = double{weights[k]} * x.Value(at) * double{x.scale[at / 32]};
        wanted += product;
        magnitude += std::abs(product);
      }
      ASSERT_NEAR(y[size_t(r) * kOutputs + n], wanted, 2e-6 * magnitude) << r << " " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType, QuantizedMatmulTest, testing::ValuesIn(kQuantizedTypes),
                         [](const auto& info) { return std::string(TraitsOf(info.param).name); });

TEST(QuantizedMatmulTest, TakesAnyMultipleOf32InputsForTypesOf32) {
  for (const TensorType type : {TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                                TensorType::kQ5_1, TensorType::kQ8_0}) {
    for (const int32_t k : {32, 96, 576}) {
      const auto packed = Pack(type, RandomBlocks(type, 17, k, 11), 17, k);
      const PackedMatrix w{.type = type, .n = 17, .k = k, .data = packed.data()};
      const Activations x(KernelsOf(Isa::kScalar), RandomFloats(static_cast<size_t>(9 * k), 12), 9,
                          k);
      const auto wanted = Product(KernelsOf(Isa::kScalar), w, x, 9);
      for (const KernelTable* path : VectorPaths()) {
        ASSERT_TRUE(SameBits(Product(*path, w, x, 9), wanted)) << path->name << " k " << k;
      }
    }
  }
}

TEST(QuantizeRowsTest, PathsAgreeAndFollowTheContract) {
  constexpr int32_t kInputs = 96, kRows = 50;
  auto x = RandomFloats(size_t{kRows} * kInputs, 13);
  for (size_t i = 0; i < x.size(); i += 3) x[i] *= 1e-3f;
  std::fill(x.begin(), x.begin() + 32, 0.0f);
  std::fill(x.begin() + 32, x.begin() + 64, 3e-42f);  // below what a scale can say: zero
  x[70] = INFINITY;
  x[100] = std::nanf("");
  for (int i = 0; i < 32; ++i) x[192 + i] = static_cast<float>(i) - 15.5f;  // ties
  x[192] = 32384.0f;
  x[289] = 3e38f;
  const Activations wanted(KernelsOf(Isa::kScalar), x, kRows, kInputs);
  for (size_t block = 0; block < wanted.scale.size(); ++block) {
    const float* values = x.data() + 32 * block;
    float most = 0;
    bool finite = true;
    for (int i = 0; i < 32; ++i) {
      most = std::max(most, std::abs(values[i]));
      finite = finite && std::isfinite(values[i]);
    }
    if (!finite) {
      EXPECT_TRUE(std::isnan(wanted.scale[block])) << "what is not finite stays so";
      continue;
    }
    if (most < 0x1p-100f) most = 0;
    EXPECT_EQ(wanted.scale[block], most / 32384);
    for (int half = 0; half < 2; ++half) {
      int32_t sum = 0;
      for (int i = 16 * half; i < 16 * half + 16; ++i) {
        const size_t at = 32 * block + static_cast<size_t>(i);
        const int32_t q = wanted.Value(at);
        EXPECT_NE(wanted.high[at], -128);
        EXPECT_NE(wanted.low[at], -128);
        sum += q;
        EXPECT_NEAR(values[i], q * wanted.scale[block], most / 32384 * 0.503f + 0x1p-100f);
      }
      EXPECT_EQ(wanted.sum[2 * block + static_cast<size_t>(half)], sum);
    }
  }
  EXPECT_EQ(wanted.Value(193), -14) << "-14.5 to even";
  for (const KernelTable* path : VectorPaths()) {
    const Activations got(*path, x, kRows, kInputs);
    EXPECT_TRUE(SameBits(got.scale, wanted.scale)) << path->name;
    EXPECT_EQ(got.high, wanted.high) << path->name;
    EXPECT_EQ(got.low, wanted.low) << path->name;
    EXPECT_EQ(got.sum, wanted.sum) << path->name;
  }
}

}  // namespace
}  // namespace holdfast
