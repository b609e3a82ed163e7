// The product with f32 and f16 weights: every path gives the scalar path's bits, an output's bits
// depend on its row and its weights alone, and the scalar path agrees with double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "config/base/page_buffer.h"
#include "kernels/half.h"
#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

constexpr TensorType kTypes[] = {TensorType::kF32, TensorType::kF16};

struct Weights {
  Weights(TensorType type, int32_t n, int32_t k, uint32_t seed)
      : values(RandomFloats(static_cast<size_t>(n) * k, seed)),
        stored(RowBytes(type, k) * n),
        buffer(*PageBuffer::Map(FloatMatrixBytes(type, n, k))),
        matrix{.type = type, .n = n, .k = k, .data = buffer.data()} {
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t bits = BitsOfFloat(values[i]);
      const uint16_t half = HalfOfFloat(values[i]);
      if (type == TensorType::kF32) {
        std::memcpy(&stored[4 * i], &bits, 4);
      } else {
        std::memcpy(&stored[2 * i], &half, 2);
      }
    }
    DequantizeRow(type, stored.data(), static_cast<int64_t>(values.size()), values.data());
    for (int32_t begin = 0; begin < n; begin += kFloatPanelRows) {
      PackFloatRows(type, stored.data() + RowBytes(type, k) * begin, k, begin,
                    std::min(begin + kFloatPanelRows, n), buffer.data());
    }
  }

  std::vector<float> values;  // [n][k], as stored
  std::vector<std::byte> stored;
  PageBuffer buffer;
  FloatMatrix matrix;
};

std::vector<float> Product(const KernelTable& kernels, const Weights& w,
                           const std::vector<float>& x) {
  const auto rows = static_cast<int32_t>(x.size() / w.matrix.k);
  std::vector<float> y(static_cast<size_t>(rows) * w.matrix.n);
  kernels.float_matmul(w.matrix, x.data(), rows, 0, w.matrix.num_panels(), y.data(), w.matrix.n);
  return y;
}

TEST(FloatMatmulTest, PathsAgreeAndAreNearDouble) {
  for (const TensorType type : kTypes) {
    for (const int32_t k : {1, 33, 576}) {
      for (const int32_t n : {1, 16, 47, 48, 49, 100}) {
        const Weights w(type, n, k, 1);
        for (const int32_t rows : {0, 1, 2, 3, 5, 8, 17}) {
          const auto x = RandomFloats(static_cast<size_t>(rows) * k, 2);
          const auto wanted = Product(KernelsOf(Isa::kScalar), w, x);
          for (int32_t r = 0; r < rows; ++r) {
            for (int32_t i = 0; i < n; ++i) {
              double sum = 0, magnitude = 0;
              for (int32_t j = 0; j < k; ++j) {
                const double p = double{x[r * k + j]} * w.values[static_cast<size_t>(i) * k + j];
                sum += p;
                magnitude += std::abs(p);
              }
              ASSERT_NEAR(wanted[static_cast<size_t>(r) * n + i], sum, 2e-6 * magnitude);
            }
          }
          for (const KernelTable* path : VectorPaths()) {
            ASSERT_TRUE(SameBits(Product(*path, w, x), wanted))
                << path->name << " " << TraitsOf(type).name << " " << n << " x " << k << ", "
                << rows << " rows";
          }
        }
      }
    }
  }
}

TEST(FloatMatmulTest, ARowsBitsDependNeitherOnItsPlaceNorOnItsNeighbours) {
  constexpr int32_t kInputs = 70, kOutputs = 100, kRows = 23;
  const auto x = RandomFloats(kRows * kInputs, 4);
  for (const TensorType type : kTypes) {
    const Weights w(type, kOutputs, kInputs, 3);
    for (const KernelTable* path : AllPaths()) {
      std::vector<float> alone;
      for (int32_t r = 0; r < kRows; ++r) {
        const std::vector<float> row(x.begin() + r * kInputs, x.begin() + (r + 1) * kInputs);
        const auto y = Product(*path, w, row);
        alone.insert(alone.end(), y.begin(), y.end());
      }
      EXPECT_TRUE(SameBits(Product(*path, w, x), alone)) << path->name;
    }
  }
}

TEST(FloatMatmulTest, WritesTheColumnsOfItsPanelsAndNoOthers) {
  constexpr int32_t kInputs = 8, kOutputs = 110, kRows = 9, kStride = 120;
  const Weights w(TensorType::kF16, kOutputs, kInputs, 5);
  const auto x = RandomFloats(kRows * kInputs, 6);
  for (const KernelTable* path : AllPaths()) {
    std::vector<float> y(kRows * kStride, -7.0f);
    path->float_matmul(w.matrix, x.data(), kRows, 1, 3, y.data(), kStride);
    for (int32_t r = 0; r < kRows; ++r) {
      for (int32_t i = 0; i < kStride; ++i) {
        const bool written = i >= kFloatPanelRows && i < kOutputs;
        ASSERT_EQ(y[r * kStride + i] != -7.0f, written) << path->name << " " << r << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace holdfast
