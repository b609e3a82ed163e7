// Weights are read from every GGUF type as the Python package `gguf` reads them: bit for bit, on
// random blocks whose f16 scales are also subnormal, infinite and NaN.
// Values: tests/golden/make_dequant_golden.py.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/kernel_table.h"

namespace holdfast {
namespace {

struct GoldenRow {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

GoldenRow ReadGolden(TensorType type) {
  const std::string path =
      std::string(HOLDFAST_SOURCE_DIR "/tests/golden/dequant/") + TraitsOf(type).name + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  GoldenRow row;
  uint32_t count = 0;
  if (bytes.size() < sizeof count) return row;
  std::memcpy(&count, bytes.data(), sizeof count);
  const size_t row_bytes = RowBytes(type, count);
  if (bytes.size() != sizeof count + row_bytes + count * sizeof(float)) return row;
  row.blocks.resize(row_bytes);
  row.values.resize(count);
  std::memcpy(row.blocks.data(), bytes.data() + sizeof count, row_bytes);
  std::memcpy(row.values.data(), bytes.data() + sizeof count + row_bytes, count * sizeof(float));
  return row;
}

class DequantizeTest : public testing::TestWithParam<TensorType> {};

TEST_P(DequantizeTest, EqualsTheReferenceBitForBit) {
  const GoldenRow golden = ReadGolden(GetParam());
  ASSERT_FALSE(golden.values.empty()) << "no golden file for " << TraitsOf(GetParam()).name;
  std::vector<float> values(golden.values.size());
  DequantizeRow(GetParam(), golden.blocks.data(), static_cast<int64_t>(values.size()),
                values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(golden.values[i])) {
      EXPECT_TRUE(std::isnan(values[i])) << i;
    } else {
      ASSERT_EQ(std::memcmp(&values[i], &golden.values[i], sizeof(float)), 0)
          << "element " << i << ": " << values[i] << ", reference " << golden.values[i];
    }
  }
}

TEST_P(DequantizeTest, ReadsRowsAtAnyAddress) {
  const GoldenRow golden = ReadGolden(GetParam());
  std::vector<std::byte> shifted(golden.blocks.size() + 1);
  std::memcpy(shifted.data() + 1, golden.blocks.data(), golden.blocks.size());
  std::vector<float> plain(golden.values.size()), moved(golden.values.size());
  const auto count = static_cast<int64_t>(plain.size());
  DequantizeRow(GetParam(), golden.blocks.data(), count, plain.data());
  DequantizeRow(GetParam(), shifted.data() + 1, count, moved.data());
  EXPECT_EQ(std::memcmp(plain.data(), moved.data(), plain.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(EveryType, DequantizeTest,
                         testing::Values(TensorType::kF16, TensorType::kBf16, TensorType::kQ4_0,
                                         TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1,
                                         TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ5_K,
                                         TensorType::kQ6_K),
                         [](const auto& info) { return std::string(TraitsOf(info.param).name); });

TEST(DequantizeF32Test, CopiesRowsAtAnyAddress) {
  const float values[3] = {1.5f, -0.0f, 3e-42f};
  std::byte shifted[sizeof values + 1];
  std::memcpy(shifted + 1, values, sizeof values);
  float out[3] = {};
  DequantizeRow(TensorType::kF32, shifted + 1, 3, out);
  EXPECT_EQ(std::memcmp(out, values, sizeof values), 0);
}

}  // namespace
}  // namespace holdfast
