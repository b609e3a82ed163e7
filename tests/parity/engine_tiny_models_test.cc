// The engine beside transformers, on tiny models: one for each difference between model families.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "engine/cpu_engine.h"
#include "tests/parity/golden_file.h"
#include "tests/unit/engine/engine_driver.h"

namespace holdfast {
namespace {

std::string ModelsFolder() { return std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/models"; }

std::vector<std::string> ModelNames() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(ModelsFolder(), error)) {
    if (std::filesystem::exists(entry.path() / "expected.logits")) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class TinyModelTest : public testing::TestWithParam<std::string> {
 protected:
  // Largest difference of a logit, as a share of its position's range.
  static double LargestDifference(const GoldenLogits& golden, const std::vector<float>& logits) {
    double largest = 0.0;
    for (size_t position = 0; position < golden.positions; ++position) {
      const double range = golden.max[position] - golden.min[position];
      for (size_t i = 0; i < golden.top; ++i) {
        const double ours = logits[position * golden.vocabulary + golden.IdOf(position, i)];
        const double difference = std::abs(ours - golden.logits[position * golden.top + i]);
        largest = std::max(largest, std::isfinite(ours) ? difference / range : INFINITY);
      }
    }
    return largest;
  }

  static TokenId Best(const std::vector<float>& logits, size_t position, size_t vocabulary) {
    const auto begin = logits.begin() + static_cast<ptrdiff_t>(position * vocabulary);
    return static_cast<TokenId>(
        std::max_element(begin, begin + static_cast<ptrdiff_t>(vocabulary)) - begin);
  }
};

TEST_P(TinyModelTest, LogitsAreTransformersLogits) {
  const std::string folder = ModelsFolder() + "/" + GetParam();
  const GoldenLogits golden = ReadGoldenLogits(folder + "/expected.logits");
  const absl::StatusOr<LoadedModel> model = LoadModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(model->config.vocab_size, static_cast<int32_t>(golden.vocabulary));
  const bool bf16 = model->weights.layers[0].q.type == TensorType::kBf16;

  for (Isa isa : {Isa::kScalar, BestIsa()}) {
    for (WeightsMode mode : {WeightsMode::kF32, WeightsMode::kNative}) {
      SCOPED_TRACE(testing::Message()
                   << IsaName(isa) << (mode == WeightsMode::kF32 ? ", f32" : ", native"));
      const std::unique_ptr<CpuEngine> engine = MakeEngine(
          *model, {.threads = 2, .isa = isa, .weights_mode = mode, .kv_dtype = KvDtype::kF32});
      ASSERT_NE(engine, nullptr);
      const std::vector<float> logits =
          AllLogits(*engine, golden.tokens, 29, Blocks(1, static_cast<int32_t>(golden.positions)));
      if (bf16 && mode == WeightsMode::kNative) {  // activations have 8 bits
        EXPECT_LE(LargestDifference(golden, logits), 2e-2);
        continue;
      }
      // f32 against f32: rounding alone, far below the 2e-3 that the default model is held to.
      EXPECT_LE(LargestDifference(golden, logits), 1e-4);
      for (size_t i = 0; i < golden.positions; ++i) {
        ASSERT_EQ(Best(logits, i, golden.vocabulary), golden.argmax[i]) << "position " << i;
      }
    }
  }
}

// The head is linear: what it makes of the last token's state are the last position's logits, and
// of the mean of all states the mean of all logits.
TEST_P(TinyModelTest, TheHeadMakesTransformersLogitsOfPooledStates) {
  const std::string folder = ModelsFolder() + "/" + GetParam();
  const GoldenLogits golden = ReadGoldenLogits(folder + "/expected.logits");
  ASSERT_EQ(golden.top, golden.vocabulary);
  const absl::StatusOr<LoadedModel> model = LoadModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::unique_ptr<CpuEngine> engine = MakeEngine(
      *model, {.threads = 2, .weights_mode = WeightsMode::kF32, .kv_dtype = KvDtype::kF32});
  ASSERT_NE(engine, nullptr);
  const WeightTensor& head = model->weights.head;
  std::vector<float> row(static_cast<size_t>(head.cols));
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    const std::vector<float> state = PooledState(*engine, golden.tokens, pooling, 29,
                                                 Blocks(1, static_cast<int32_t>(golden.positions)));
    const size_t first = pooling == Pooling::kMean ? 0 : golden.positions - 1;
    const size_t last = golden.positions - 1;
    for (size_t token = 0; token < golden.vocabulary; ++token) {
      DequantizeRow(head.type, head.data + token * RowBytes(head.type, head.cols), head.cols,
                    row.data());
      const double ours = std::inner_product(state.begin(), state.end(), row.begin(), 0.0);
      double theirs = 0.0;
      for (size_t i = first; i <= last; ++i) theirs += golden.logits[i * golden.top + token];
      theirs /= static_cast<double>(last - first + 1);
      ASSERT_NEAR(ours, theirs, 1e-4 * (golden.max[last] - golden.min[last])) << "token " << token;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TinyModelTest, testing::ValuesIn(ModelNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace holdfast
