// The product with weights of two bytes: every path gives the scalar path's bits, whatever the rows
// and panels at once, and these agree with double.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

constexpr float kUntouched = -12345.0f;

// n rows of k weights around 0.02.
std::vector<std::byte> RandomWeights(TensorType type, int32_t n, int32_t k, uint32_t seed) {
  const auto floats = RandomFloats(static_cast<size_t>(n) * k, seed, 0.02f);
  std::vector<std::byte> bytes(2 * floats.size());
  for (size_t i = 0; i < floats.size(); ++i) {
    const uint16_t word = type == TensorType::kF16
                              ? HalfOfFloat(floats[i])
                              : static_cast<uint16_t>(BitsOfFloat(floats[i]) >> 16);
    std::memcpy(bytes.data() + 2 * i, &word, sizeof word);
  }
  return bytes;
}

std::vector<float> Product(const KernelTable& kernels, const PackedMatrix& w,
                           const std::vector<float>& x, int32_t rows) {
  std::vector<float> y(static_cast<size_t>(rows) * w.n, kUntouched);
  kernels.half_matmul(w, x.data(), rows, w.k, 0, w.num_panels(), y.data(), w.n);
  return y;
}

class HalfMatmulTest : public testing::TestWithParam<TensorType> {};

TEST_P(HalfMatmulTest, PathsAgreeBitForBitOnOddShapes) {
  const TensorType type = GetParam();
  for (const int32_t k : {1, 7, 128, 300}) {
    for (const int32_t n : {1, 16, 17, 48, 100}) {
      const auto packed = Pack(type, RandomWeights(type, n, k, static_cast<uint32_t>(n)), n, k);
      const PackedMatrix w{.type = type, .n = n, .k = k, .data = packed.data()};
      for (const int32_t rows : {0, 1, 2, 7, 15, 31, 32, 45}) {
        const auto x = RandomFloats(static_cast<size_t>(rows) * k, static_cast<uint32_t>(rows));
        const auto wanted = Product(KernelsOf(Isa::kScalar), w, x, rows);
        for (const KernelTable* path : VectorPaths()) {
          ASSERT_TRUE(SameBits(Product(*path, w, x, rows), wanted))
              << path->name << " n " << n << " k " << k << " rows " << rows;
        }
      }
    }
  }
}

TEST_P(HalfMatmulTest, ARowDoesNotDependOnItsNeighboursNorOnThePanelsAtOnce) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 120, kInputs = 200, kRows = 43;
  const auto packed = Pack(type, RandomWeights(type, kOutputs, kInputs, 5), kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  const auto x = RandomFloats(size_t{kRows} * kInputs, 6);
  for (const KernelTable* path : AllPaths()) {
    const auto together = Product(*path, w, x, kRows);
    for (int32_t row = 0; row < kRows; ++row) {
      std::vector<float> one(kOutputs, kUntouched), by_panel(kOutputs, kUntouched);
      const float* input = x.data() + row * kInputs;
      path->half_matmul(w, input, 1, kInputs, 0, w.num_panels(), one.data(), kOutputs);
      for (int32_t panel = w.num_panels() - 1; panel >= 0; --panel) {
        path->half_matmul(w, input, 1, kInputs, panel, panel + 1, by_panel.data(), kOutputs);
      }
      const std::vector<float> in_batch(together.begin() + row * kOutputs,
                                        together.begin() + (row + 1) * kOutputs);
      ASSERT_TRUE(SameBits(one, in_batch)) << path->name << " row " << row;
      ASSERT_TRUE(SameBits(by_panel, in_batch)) << path->name << " row " << row;
    }
  }
}

TEST_P(HalfMatmulTest, AgreesWithDoubleAndWritesOnlyTheColumnsOfItsPanels) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 37, kInputs = 576, kRows = 33, kStride = 50, kXStride = 600;
  const auto rows = RandomWeights(type, kOutputs, kInputs, 7);
  const auto packed = Pack(type, rows, kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  const auto x = RandomFloats(size_t{kRows} * kXStride, 8);
  std::vector<float> weights(kInputs);
  for (const KernelTable* path : AllPaths()) {
    std::vector<float> y(size_t{kRows} * kStride, kUntouched);
    path->half_matmul(w, x.data(), kRows, kXStride, 1, 3, y.data(), kStride);
    for (int32_t n = 0; n < kStride; ++n) {
      const bool written = n >= 16 && n < kOutputs;
      if (written) {
        DequantizeRow(type, rows.data() + n * RowBytes(type, kInputs), kInputs, weights.data());
      }
      for (int32_t r = 0; r < kRows; ++r) {
        double wanted = written ? 0.0 : kUntouched, magnitude = 0.0;
        for (int32_t k = 0; written && k < kInputs; ++k) {
          const double product = double{weights[k]} * x[r * kXStride + k];
          wanted += product;
          magnitude += std::abs(product);
        }
        ASSERT_NEAR(y[r * kStride + n], wanted, 2e-6 * magnitude) << path->name << " " << n;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(BothTypes, HalfMatmulTest,
                         testing::Values(TensorType::kF16, TensorType::kBf16),
                         [](const auto& info) { return std::string(TraitsOf(info.param).name); });

}  // namespace
}  // namespace holdfast
