// The engine on the default model, beside transformers with the same weights dequantised to f32:
// logits of the reference arithmetic, perplexity of the fast path, and promise 1 on real weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/cpu_engine.h"
#include "tests/parity/golden_file.h"
#include "tests/unit/engine/engine_driver.h"

namespace holdfast {
namespace {

std::string GoldenFolder() {
  return std::string(HOLDFAST_SOURCE_DIR) + "/tests/golden/default_model";
}

class DefaultModelTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (const char* path = std::getenv("HOLDFAST_MODEL"); path != nullptr && *path != '\0') {
      absl::StatusOr<LoadedModel> model = LoadModel(path);
      ASSERT_TRUE(model.ok()) << model.status();
      model_ = new LoadedModel(*std::move(model));
    }
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }
  void SetUp() override {
    if (model_ == nullptr) GTEST_SKIP() << "HOLDFAST_MODEL does not name the default model's file";
  }

  static CpuEngineOptions Options() { return {.threads = 2, .context_tokens = 1024}; }

  static LoadedModel* model_;
};

LoadedModel* DefaultModelTest::model_ = nullptr;

TEST_F(DefaultModelTest, ReferenceArithmeticGivesTransformersLogits) {
  CpuEngineOptions options = Options();
  options.weights_mode = WeightsMode::kF32;
  options.kv_dtype = KvDtype::kF32;
  const std::unique_ptr<CpuEngine> engine = MakeEngine(*model_, options);
  ASSERT_NE(engine, nullptr);
  for (const char* name : {"one_token", "chat", "code", "mixed", "long"}) {
    SCOPED_TRACE(name);
    const GoldenLogits golden =
        ReadGoldenLogits(GoldenFolder() + "/" + std::string(name) + ".logits");
    const auto num_tokens = static_cast<int32_t>(golden.positions);
    const std::vector<float> logits =
        AllLogits(*engine, golden.tokens, 512, Blocks(0, num_tokens / kBlockTokens + 1));
    double largest = 0.0;
    for (size_t i = 0; i < golden.positions; ++i) {
      const float* row = logits.data() + i * golden.vocabulary;
      const double range = golden.max[i] - golden.min[i];
      for (size_t rank = 0; rank < golden.top; ++rank) {
        const double ours = row[golden.IdOf(i, rank)];
        largest = std::max(largest, std::abs(ours - golden.logits[i * golden.top + rank]) / range);
      }
      ASSERT_EQ(std::max_element(row, row + golden.vocabulary) - row, golden.argmax[i])
          << "position " << i;
      ASSERT_NEAR(*std::min_element(row, row + golden.vocabulary), golden.min[i], 2e-3 * range);
    }
    EXPECT_LE(largest, 2e-3);
    RecordProperty(std::string(name) + "_largest_difference", std::to_string(largest));
  }
}

// Of the fixed text: 4,000 tokens in 8 windows.
double PerplexityOf(CpuEngine& engine, const GoldenPerplexity& golden) {
  double negative_log_likelihood = 0.0;
  size_t predictions = 0;
  for (const std::vector<TokenId>& tokens : golden.windows) {
    StepPlan plan;
    StepResult result;
    plan.opens.push_back({.slot = SequenceSlot{0}});
    AddRows(plan, SequenceSlot{0}, tokens, 0, static_cast<int32_t>(tokens.size()),
            Blocks(0, static_cast<int32_t>(tokens.size()) / kBlockTokens + 1))
        .prompt_top_logprobs = 0;
    EXPECT_TRUE(engine.Execute(plan, result).ok());
    EXPECT_EQ(result.prompt_logprobs.size(), tokens.size() - 1);
    for (const SampledToken& entry : result.prompt_logprobs) {
      EXPECT_FALSE(entry.undefined);
      negative_log_likelihood -= entry.logprob;
    }
    predictions += tokens.size() - 1;
  }
  return std::exp(negative_log_likelihood / static_cast<double>(predictions));
}

double ReferencePerplexity(const GoldenPerplexity& golden) {
  double negative_log_likelihood = 0.0;
  size_t predictions = 0;
  for (size_t w = 0; w < golden.windows.size(); ++w) {
    negative_log_likelihood += golden.negative_log_likelihood[w];
    predictions += golden.windows[w].size() - 1;
  }
  return std::exp(negative_log_likelihood / static_cast<double>(predictions));
}

// What docs/models.md states.
TEST_F(DefaultModelTest, FastPathsPerplexityIsWithinATenthOfAPercentOfTheReference) {
  const GoldenPerplexity golden = ReadGoldenPerplexity(GoldenFolder() + "/perplexity.bin");
  const double reference = ReferencePerplexity(golden);
  CpuEngineOptions options = Options();
  const double mixed = PerplexityOf(*MakeEngine(*model_, options), golden);
  options.activations = ActivationBits::k16;
  const double wide = PerplexityOf(*MakeEngine(*model_, options), golden);
  std::printf("perplexity by activations: mixed %.4f, 16bit %.4f; reference %.4f\n", mixed, wide,
              reference);
  EXPECT_NEAR(mixed / reference, 1.0, 0.001);
  EXPECT_NEAR(wide / reference, 1.0, 0.0001);
}

// What docs/kv_types.md states.
TEST_F(DefaultModelTest, KvOfInt8CostsLessThanThreeThousandthsOfPerplexity) {
  const GoldenPerplexity golden = ReadGoldenPerplexity(GoldenFolder() + "/perplexity.bin");
  const auto with_kv = [&](KvDtype dtype) {
    CpuEngineOptions options = Options();
    options.kv_dtype = dtype;
    options.activations = ActivationBits::k16;  // whose rounding would hide that of f16
    return PerplexityOf(*MakeEngine(*model_, options), golden);
  };
  const double f32 = with_kv(KvDtype::kF32), f16 = with_kv(KvDtype::kF16);
  const double i8 = with_kv(KvDtype::kI8);
  std::printf("perplexity by KV: f32 %.4f, f16 %.4f, i8 %.4f (%+.3f %%)\n", f32, f16, i8,
              100.0 * (i8 / f16 - 1.0));
  EXPECT_NEAR(i8 / f16, 1.0, 0.003);
  EXPECT_NEAR(f16 / f32, 1.0, 0.0003);
}

TEST_F(DefaultModelTest, ARowsLogitsAreItsOwn) {
  const GoldenLogits golden = ReadGoldenLogits(GoldenFolder() + "/chat.logits");
  const std::vector<TokenId> tokens(golden.tokens.begin(), golden.tokens.begin() + 40);
  const std::vector<TokenId> others(golden.tokens.rbegin(), golden.tokens.rbegin() + 30);
  CpuEngineOptions options = Options();
  options.threads = 1;
  const std::vector<float> expected =
      AllLogits(*MakeEngine(*model_, options), tokens, 512, Blocks(0, 3));
  const auto same = [&](const std::vector<float>& logits) {
    return logits.size() == expected.size() &&
           std::memcmp(logits.data(), expected.data(), sizeof(float) * expected.size()) == 0;
  };
  options.threads = 2;
  const std::unique_ptr<CpuEngine> engine = MakeEngine(*model_, options);
  for (int32_t chunk : {1, 7}) {
    EXPECT_TRUE(same(AllLogits(*engine, tokens, chunk, Blocks(3, 9, 4),
                               {.tokens = others, .blocks = Blocks(20, 2)})))
        << "chunks of " << chunk;
  }
  for (Isa isa : {Isa::kScalar, Isa::kAvx2}) {
    if (!IsaSupported(isa)) continue;
    options.isa = isa;
    EXPECT_TRUE(same(AllLogits(*MakeEngine(*model_, options), tokens, 512, Blocks(0, 3))))
        << IsaName(isa);
  }
}

}  // namespace
}  // namespace holdfast
