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
  kernels.quantized_matmul(w, x.view(), 0, rows, 0, w.num_panels(), y.data(), w.n);
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
        const auto x =
            RandomActivations(static_cast<size_t>(rows) * k, static_cast<uint32_t>(rows));
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
  constexpr int32_t kOutputs = 16, kInputs = 256, kRows = 35;  // also as many rows share codes
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
    std::vector<float> x;  // quantised to 127 or 32639, to minus that and to both
    for (int32_t i = 0; i < kRows * kInputs; ++i) {
      const int32_t row = i / kInputs;
      x.push_back(row % 3 == 0 || (row % 3 == 2 && i % 2 == 0) ? 1.0f : -1.0f);
    }
    for (const ActivationBits bits : {ActivationBits::kMixed, ActivationBits::k16}) {
      const Activations quantized(KernelsOf(Isa::kScalar), x, kRows, kInputs, bits);
      const auto wanted = Product(KernelsOf(Isa::kScalar), w, quantized, kRows);
      for (const KernelTable* path : VectorPaths()) {
        ASSERT_TRUE(SameBits(Product(*path, w, quantized, kRows), wanted))
            << path->name << " " << fill;
      }
    }
  }
}

TEST_P(QuantizedMatmulTest, ARowDoesNotDependOnItsNeighboursNorOnThePanelsAtOnce) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 72, kInputs = 512, kRows = 19;
  const auto packed = Pack(type, RandomBlocks(type, kOutputs, kInputs, 5), kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  const auto x = RandomActivations(size_t{kRows} * kInputs, 6);
  for (const KernelTable* path : AllPaths()) {
    const Activations all(*path, x, kRows, kInputs);
    const auto together = Product(*path, w, all, kRows);
    for (int32_t row = 0; row < kRows; ++row) {
      const std::vector<float> one(x.begin() + row * kInputs, x.begin() + (row + 1) * kInputs);
      const Activations alone(*path, one, 1, kInputs);
      std::vector<float> y(kOutputs, kUntouched);
      for (int32_t panel = w.num_panels() - 1; panel >= 0; --panel) {
        path->quantized_matmul(w, alone.view(), 0, 1, panel, panel + 1, y.data(), kOutputs);
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
    path->quantized_matmul(w, x.view(), 0, kRows, 1, 3, y.data(), kStride);
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
  const Activations x(kernels, RandomActivations(size_t{kRows} * kInputs, 10), kRows, kInputs);
  EXPECT_GT(std::count(x.wide.begin(), x.wide.end(), 1), 0);
  EXPECT_GT(std::count(x.wide.begin(), x.wide.end(), 0), 0);
  const auto y = Product(kernels, w, x, kRows);
  std::vector<float> weights(kInputs);
  for (int32_t n = 0; n < kOutputs; ++n) {
    DequantizeRow(type, rows.data() + n * RowBytes(type, kInputs), kInputs, weights.data());
    for (int32_t r = 0; r < kRows; ++r) {
      double wanted = 0, magnitude = 0;
      for (int32_t k = 0; k < kInputs; ++k) {
        const double product = double{weights[k]} * x.Value(r, k) * double{x.scale[x.Block(r, k)]};
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

constexpr int32_t kContractInputs = 96, kContractRows = 50;

// With zeros, what is not finite, what is tiny, ties, and a row whose first block is far larger.
std::vector<float> ContractInputs() {
  auto x = RandomFloats(size_t{kContractRows} * kContractInputs, 13);
  for (size_t i = 0; i < x.size(); i += 3) x[i] *= 1e-3f;
  std::fill(x.begin(), x.begin() + 32, 0.0f);
  std::fill(x.begin() + 32, x.begin() + 64, 3e-42f);  // below what a scale can say: zero
  x[70] = INFINITY;
  x[100] = std::nanf("");
  for (int i = 0; i < 32; ++i) x[192 + i] = static_cast<float>(i) - 15.5f;  // ties
  x[192] = 32639.0f;
  x[289] = 3e38f;
  return x;
}

// Says whether the block of 32 at `values` is what the contract asks for.
void CheckBlock(const Activations& quantized, const float* values, int32_t row, int32_t column) {
  const size_t block = quantized.Block(row, column);
  float most = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    most = std::max(most, std::abs(values[i]));
    finite = finite && std::isfinite(values[i]);
  }
  if (!finite) {
    EXPECT_TRUE(std::isnan(quantized.scale[block])) << "what is not finite stays so";
    return;
  }
  if (most < 0x1p-60f) most = 0;
  const bool wide = quantized.wide[block] != 0;
  EXPECT_EQ(quantized.scale[block], most / (wide ? 32639.0f : 127.0f * 256.0f));
  const float step = wide ? most / 32639 : most / 127;
  int32_t sum = 0;
  for (int half = 0; half < 2; ++half) {
    for (int i = 16 * half; i < 16 * half + 16; ++i) {
      const int32_t q = quantized.Value(row, column + i);
      const size_t at = 32 * block + static_cast<size_t>(i);
      EXPECT_NE(quantized.high[at], -128);
      EXPECT_NE(quantized.low[at], -128);
      EXPECT_TRUE(wide || quantized.low[at] == 0);
      sum += q;
      // Half a step; where the second byte would have to be 128, one more.
      const float most_off = wide && std::abs(quantized.low[at]) == 127 ? 1.503f : 0.503f;
      EXPECT_NEAR(values[i], q * quantized.scale[block], step * most_off + 0x1p-60f);
    }
    const size_t at = 2 * block + (half == 0 ? 1 : 0);  // the whole's stands first
    EXPECT_EQ(quantized.negative_sum[at], -sum);
  }
  EXPECT_EQ(quantized.scaled_sum[block], quantized.scale[block] * static_cast<float>(sum));
}

TEST(QuantizeRowsTest, PathsAgreeAndFollowTheContract) {
  const std::vector<float> x = ContractInputs();
  for (const ActivationBits bits : {ActivationBits::kMixed, ActivationBits::k16}) {
    const Activations wanted(KernelsOf(Isa::kScalar), x, kContractRows, kContractInputs, bits);
    for (int32_t row = 0; row < kContractRows; ++row) {
      for (int32_t column = 0; column < kContractInputs; column += 32) {
        CheckBlock(wanted, x.data() + row * kContractInputs + column, row, column);
      }
    }
    if (bits == ActivationBits::k16) {
      EXPECT_EQ(wanted.Value(2, 1), -14) << "-14.5 to even";
    }
    for (const KernelTable* path : VectorPaths()) {
      const Activations got(*path, x, kContractRows, kContractInputs, bits);
      EXPECT_TRUE(SameBits(got.scale, wanted.scale)) << path->name;
      EXPECT_TRUE(SameBits(got.scaled_sum, wanted.scaled_sum)) << path->name;
      EXPECT_EQ(got.high, wanted.high) << path->name;
      EXPECT_EQ(got.low, wanted.low) << path->name;
      EXPECT_EQ(got.negative_sum, wanted.negative_sum) << path->name;
      EXPECT_EQ(got.wide, wanted.wide) << path->name;
    }
  }
}

TEST(QuantizeRowsTest, OnlyBlocksThatAreLargeInTheirRowHaveTwoBytes) {
  std::vector<float> x(256, 1.0f);
  x[40] = 10.0f;
  for (const KernelTable* path : AllPaths()) {
    const Activations one(*path, x, 1, 256), all(*path, x, 1, 256, ActivationBits::k16);
    for (int32_t column = 0; column < 256; column += 32) {
      EXPECT_EQ(one.wide[one.Block(0, column)], column == 32 ? 1 : 0) << column;
      EXPECT_EQ(all.wide[all.Block(0, column)], 1);
    }
  }
}

}  // namespace
}  // namespace holdfast
