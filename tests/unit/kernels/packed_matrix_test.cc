// A packed matrix holds the file's weights: unit activations through the scalar product read them
// back, whatever the parts and the number of tensors it was packed from.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/parity/kernel_inputs.h"

namespace holdfast {
namespace {

class PackedMatrixTest : public testing::TestWithParam<TensorType> {};

// x = unit vector along `k_at`: with scale 1 / 127 and code 127, y is the weight but for rounding.
TEST_P(PackedMatrixTest, HoldsEveryWeightOfTheFile) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 21, kInputs = 512;
  const std::vector<std::byte> rows = RandomBlocks(type, kOutputs, kInputs, 1);
  const AlignedBytes packed = Pack(type, rows, kOutputs, kInputs);
  const PackedMatrix w{.type = type, .n = kOutputs, .k = kInputs, .data = packed.data()};
  const KernelTable& kernels = KernelsOf(Isa::kScalar);
  std::vector<float> x(size_t{kInputs} * kInputs);
  for (size_t i = 0; i < kInputs; ++i) x[i * kInputs + i] = 1.0f;
  const Activations activations(kernels, x, kInputs, kInputs);
  std::vector<float> y(size_t{kInputs} * kOutputs);
  kernels.quantized_matmul(w, activations.view(), 0, kInputs, 0, w.num_panels(), y.data(),
                           kOutputs);
  std::vector<float> weights(kInputs);
  for (int32_t n = 0; n < kOutputs; ++n) {
    DequantizeRow(type, rows.data() + n * RowBytes(type, kInputs), kInputs, weights.data());
    const float most =
        std::abs(*std::max_element(weights.begin(), weights.end(),
                                   [](float a, float b) { return std::abs(a) < std::abs(b); }));
    for (int32_t k = 0; k < kInputs; ++k) {
      ASSERT_NEAR(y[size_t(k) * kOutputs + n], weights[k], 4e-7f * most) << "n " << n << " k " << k;
    }
  }
}

TEST_P(PackedMatrixTest, IsTheSamePackedInPartsFromUnalignedRows) {
  const TensorType type = GetParam();
  constexpr int32_t kOutputs = 53, kInputs = 256;
  const std::vector<std::byte> rows = RandomBlocks(type, kOutputs, kInputs, 2);
  const AlignedBytes whole = Pack(type, rows, kOutputs, kInputs);
  std::vector<std::byte> shifted(rows.size() + 3);
  std::memcpy(shifted.data() + 3, rows.data(), rows.size());
  AlignedBytes parts(PackedMatrixBytes(type, kOutputs, kInputs), std::byte{0xee});
  const int32_t ends[] = {kOutputs, 48, 16, 0};  // the order of the parts doesn't matter
  for (int i = 0; i + 1 < 4; ++i) {
    PackRows(type, shifted.data() + 3 + ends[i + 1] * RowBytes(type, kInputs), kOutputs, kInputs,
             ends[i + 1], ends[i], parts.data());
  }
  ASSERT_EQ(whole.size(), parts.size());
  EXPECT_EQ(std::memcmp(whole.data(), parts.data(), whole.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(EveryType, PackedMatrixTest, testing::ValuesIn(kQuantizedTypes),
                         [](const auto& info) { return std::string(TraitsOf(info.param).name); });

TEST(PackedMatrixSizeTest, StaysNearTheFileForTheTypesOfSmallModels) {
  for (const TensorType type : {TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ8_0}) {
    const double file = 49152.0 * static_cast<double>(RowBytes(type, 576));
    EXPECT_LE(static_cast<double>(PackedMatrixBytes(type, 49152, 576)), 1.15 * file)
        << TraitsOf(type).name;
  }
  EXPECT_EQ(PackedMatrixBytes(TensorType::kQ4_1, 0, 576), 0u);
}

}  // namespace
}  // namespace holdfast
