#include "engine/linear.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "tests/parity/activations.h"

namespace holdfast {
namespace {

std::vector<float> RandomFloats(std::mt19937& rng, size_t count) {
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(rng() % 2001) / 1000.0f - 1.0f;
  return floats;
}

WeightTensor TensorOf(const std::vector<float>& values, int32_t rows, int32_t cols) {
  return {.type = TensorType::kF32,
          .rows = rows,
          .cols = cols,
          .data = reinterpret_cast<const std::byte*>(values.data())};
}

WeightTensor Bf16TensorOf(const std::vector<uint16_t>& values, int32_t rows, int32_t cols) {
  return {.type = TensorType::kBf16,
          .rows = rows,
          .cols = cols,
          .data = reinterpret_cast<const std::byte*>(values.data())};
}

std::vector<float> SimpleProduct(const std::vector<float>& w, const std::vector<float>& x,
                                 int32_t n, int32_t k) {
  std::vector<float> y;
  for (size_t row = 0; row < x.size() / k; ++row) {
    for (int32_t i = 0; i < n; ++i) {
      double sum = 0.0;
      for (int32_t j = 0; j < k; ++j) {
        sum += static_cast<double>(w[static_cast<size_t>(i) * k + j]) * x[row * k + j];
      }
      y.push_back(static_cast<float>(sum));
    }
  }
  return y;
}

// Q8_0 with scale 2^-7.
std::vector<std::byte> RandomQ8(std::mt19937& rng, int32_t rows, int32_t cols) {
  std::vector<std::byte> bytes(RowBytes(TensorType::kQ8_0, cols) * rows);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  const uint16_t scale = 0x2000;
  for (size_t at = 0; at < bytes.size(); at += 34) std::memcpy(bytes.data() + at, &scale, 2);
  return bytes;
}

// Tensors side by side, of types and sizes that pack together, apart, and not at all.
TEST(LinearTest, TensorsStandSideBySideWithTheirBiasesInEveryMode) {
  constexpr int32_t kCols = 64, kRows = 37;
  std::mt19937 rng(2);
  WorkerPool pool(2);
  const int32_t heights[5] = {32, 19, 48, 5, 20};
  std::vector<std::vector<std::byte>> quantised;
  const std::vector<float> floats = RandomFloats(rng, 48 * kCols);
  std::vector<uint16_t> bf16(20 * kCols);
  for (uint16_t& w : bf16) w = static_cast<uint16_t>(0x3e00 + rng() % 384 + (rng() % 2 << 15));
  const std::vector<float> bias = RandomFloats(rng, 19);
  std::vector<Linear::Source> sources;
  for (int i = 0; i < 5; ++i) {
    quantised.push_back(RandomQ8(rng, heights[i], kCols));
    WeightTensor tensor{.type = TensorType::kQ8_0,
                        .rows = heights[i],
                        .cols = kCols,
                        .data = quantised.back().data()};
    sources.push_back({.weight = i == 2   ? TensorOf(floats, 48, kCols)
                                 : i == 4 ? Bf16TensorOf(bf16, 20, kCols)
                                          : tensor});
  }
  sources[1].bias = TensorOf(bias, 1, 19);

  std::vector<float> all_weights;
  for (const Linear::Source& source : sources) {
    const std::vector<float> part = FloatsOf(source.weight);
    all_weights.insert(all_weights.end(), part.begin(), part.end());
  }
  const std::vector<float> x = RandomFloats(rng, kRows * kCols);
  std::vector<float> expected = SimpleProduct(all_weights, x, 124, kCols);
  for (int32_t row = 0; row < kRows; ++row) {
    for (int32_t i = 0; i < 19; ++i) expected[row * 124 + 32 + i] += bias[i];
  }

  const KernelTable& kernels = KernelsOf(BestIsa());
  for (WeightsMode mode : {WeightsMode::kNative, WeightsMode::kF32}) {
    LargePages memory;
    const absl::StatusOr<Linear> linear = Linear::Create(sources, mode, kernels, pool, memory);
    ASSERT_TRUE(linear.ok()) << linear.status();
    EXPECT_EQ(linear->n(), 124);
    Activations quantized(kRows, kCols);
    RoundedActivations rounded(kRows, kCols);
    const PreparedRows prepared{.quantized = quantized.view(), .rounded = rounded.view()};
    for (int32_t row = 0; row < kRows; ++row) {
      linear->PrepareRow(x.data() + row * kCols, row, ActivationBits::k16, prepared);
    }
    std::vector<float> y(kRows * 130, -7.0f);
    linear->Run({.x = x.data(), .prepared = prepared}, kRows, y.data(), 130, pool);
    for (int32_t row = 0; row < kRows; ++row) {
      for (int32_t i = 0; i < 124; ++i) {
        const float tolerance = mode != WeightsMode::kNative ? 1e-4f : i < 104 ? 1e-3f : 3e-2f;
        ASSERT_NEAR(y[row * 130 + i], expected[row * 124 + i], tolerance) << row << " " << i;
      }
      for (int32_t i = 124; i < 130; ++i) ASSERT_EQ(y[row * 130 + i], -7.0f);
    }
  }
}

// gate and up: packed together, packed apart, of floats, and one of each; last columns that fill no
// panel; more rows than a tile has.
TEST(LinearTest, PairsAreTheSameBitsAndEachIsInOneTile) {
  constexpr int32_t kCols = 64;
  std::mt19937 rng(3);
  const KernelTable& kernels = KernelsOf(BestIsa());
  struct Case {
    int32_t height;
    bool quantised[2];
    int32_t rows;
  };
  for (const Case& of : {Case{208, {true, true}, 3},
                         {208, {true, true}, Linear::kPairRows + 20},
                         {199, {true, true}, 3},
                         {200, {false, false}, 40},
                         {200, {true, false}, 40}}) {
    const int32_t height = of.height, rows = of.rows, n = 2 * height;
    SCOPED_TRACE(testing::Message() << height << " columns, " << rows << " rows");
    const std::vector<std::byte> bytes = RandomQ8(rng, n, kCols);
    const std::vector<float> floats = RandomFloats(rng, static_cast<size_t>(n) * kCols);
    const std::vector<float> bias = RandomFloats(rng, static_cast<size_t>(height));
    const auto source = [&](int32_t side) {
      WeightTensor tensor = TensorOf(floats, height, kCols);
      if (of.quantised[side])
        tensor = {.type = TensorType::kQ8_0, .rows = height, .cols = kCols, .data = bytes.data()};
      tensor.data += side * RowBytes(tensor.type, kCols) * height;
      return Linear::Source{.weight = tensor, .bias = TensorOf(bias, 1, height)};
    };
    const Linear::Source sources[] = {source(0), source(1)};
    const std::vector<float> x = RandomFloats(rng, static_cast<size_t>(rows) * kCols);
    for (int32_t workers : {1, 3, 40}) {
      WorkerPool pool(workers);
      LargePages memory;
      const absl::StatusOr<Linear> linear =
          Linear::Create(sources, WeightsMode::kNative, kernels, pool, memory);
      ASSERT_TRUE(linear.ok()) << linear.status();
      Activations quantized(rows, kCols);
      const LinearInput input{.x = x.data(),
                              .prepared = {.quantized = quantized.view(), .rounded = {}}};
      for (int32_t row = 0; row < rows; ++row) {
        linear->PrepareRow(x.data() + row * kCols, row, ActivationBits::kMixed, input.prepared);
      }
      std::vector<float> expected(static_cast<size_t>(rows) * n), y(expected.size(), NAN);
      linear->Run(input, rows, expected.data(), n, pool);
      std::vector<std::atomic<int32_t>> times(static_cast<size_t>(rows) * height);
      std::vector<float> scratch(static_cast<size_t>(workers * Linear::kPairFloats));
      linear->Announce(pool);
      linear->RunPairs(input, rows, scratch.data(), pool, [&](const Linear::PairTile& tile) {
        for (int64_t row = tile.row_begin; row < tile.row_end; ++row) {
          const float* const values = tile.values + (row - tile.row_begin) * tile.stride;
          for (int32_t column = tile.begin; column < tile.end; ++column) {
            ++times[static_cast<size_t>(row * height + column)];
            float* const out = &y[static_cast<size_t>(row * n + column)];
            out[0] = values[column - tile.begin];
            out[height] = values[tile.second + column - tile.begin];
          }
        }
      });
      EXPECT_EQ(y, expected);
      for (const auto& of_pair : times) ASSERT_EQ(of_pair.load(), 1);
    }
  }
}

}  // namespace
}  // namespace holdfast
