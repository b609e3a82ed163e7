#include "server/bench_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/engine_bound.h"
#include "tests/unit/engine/random_model.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

constexpr SpeedSamples kShort = {.count = 3, .length = absl::Microseconds(100)};

absl::StatusOr<EngineReport> Measure(const LoadedModel& model, const EngineSpeedOptions& speed,
                                     CpuEngineOptions engine = {.threads = 2}) {
  return BenchEngine(model, {.speed = speed, .engine = engine, .machine = kShort});
}

std::string Refusal(std::vector<CommandLine::Argument> arguments) {
  const auto options =
      BenchEngineOptionsOf({.verb = Verb::kBenchEngine, .arguments = std::move(arguments)}, {});
  return options.ok() ? "" : std::string(options.status().message());
}

TEST(BenchEngineTest, ArgumentsBecomeOptionsAndTheContextIsThePromptsUnlessGiven) {
  DaemonConfig config;
  config.engine.isa = "scalar";
  config.engine.threads = 3;
  config.model.activations = "16bit";
  CommandLine line{.arguments = {{"--prompt", "40"}, {"--generate", "9"}, {"--streams", "4"}}};
  auto options = BenchEngineOptionsOf(line, config);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->speed.prompt_tokens, 40);
  EXPECT_EQ(options->speed.generate_tokens, 9);
  EXPECT_EQ(options->speed.streams, 4);
  EXPECT_EQ(options->speed.context_tokens, 40);
  EXPECT_EQ(options->engine.isa, Isa::kScalar);
  EXPECT_EQ(options->engine.threads, 3);
  EXPECT_EQ(options->engine.activations, ActivationBits::k16);
  line.arguments.push_back({"--context", "0"});
  options = BenchEngineOptionsOf(line, config);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->speed.context_tokens, 0);
}

TEST(BenchEngineTest, NumbersThatMeanNothingAreRefusedByTheirFlag) {
  EXPECT_THAT(Refusal({{"--prompt", "0"}}), HasSubstr("--prompt"));
  EXPECT_THAT(Refusal({{"--generate", "many"}}), HasSubstr("--generate"));
  EXPECT_THAT(Refusal({{"--streams", "-1"}}), HasSubstr("--streams"));
  EXPECT_THAT(Refusal({{"--context", "-1"}}), HasSubstr("--context"));
  EXPECT_THAT(Refusal({{"--runs", "0"}}), HasSubstr("--runs"));
}

TEST(BenchEngineTest, WhatTheModelsContextCannotHoldIsRefusedWithBothNumbers) {
  RandomModel random({});  // a context of 600
  const auto prompt = Measure(random.model, {.prompt_tokens = 601});
  EXPECT_THAT(prompt.status().message(), HasSubstr("601"));
  EXPECT_THAT(prompt.status().message(), HasSubstr("600"));
  EXPECT_THAT(prompt.status().message(), HasSubstr("--prompt"));
  const auto behind =
      Measure(random.model, {.prompt_tokens = 8, .generate_tokens = 5, .context_tokens = 596});
  EXPECT_THAT(behind.status().message(), HasSubstr("5 tokens behind 596"));
  EXPECT_THAT(behind.status().message(), HasSubstr("--context"));
}

TEST(BenchEngineTest, EveryFigureIsThereWithItsSpreadItsBoundAndItsShareOfIt) {
  RandomModel random({.type = TensorType::kQ4_1});
  const auto report = Measure(
      random.model,
      {.prompt_tokens = 100, .generate_tokens = 5, .streams = 3, .context_tokens = 300, .runs = 2});
  ASSERT_TRUE(report.ok()) << report.status();
  const auto json = nlohmann::json::parse(FormatEngineJson(*report), nullptr, false);
  ASSERT_TRUE(json.is_object());
  for (const std::string what : {"prefill", "decode"}) {
    SCOPED_TRACE(what);
    const double median = json[what + "_tokens_per_second"];
    const double bound = json[what + "_bound_tokens_per_second"];
    EXPECT_GT(json[what + "_tokens_per_second_lowest"], 0.0);
    EXPECT_GE(median, json[what + "_tokens_per_second_lowest"]);
    EXPECT_LE(median, json[what + "_tokens_per_second_highest"]);
    EXPECT_GT(bound, 0.0);
    EXPECT_DOUBLE_EQ(json[what + "_share_of_bound"], median / bound);
  }
  EXPECT_GT(json["resident_bytes"], 1 << 20);
  EXPECT_EQ(json["isa"], IsaName(BestIsa()));
  EXPECT_EQ(json["threads"], 2);
  EXPECT_EQ(json["context_tokens"], 300);
  // 305 tokens are 20 blocks, of two layers with two heads of 16 places, each K and V, f16.
  EXPECT_EQ(json["kv_bytes"], 3 * 20 * 2 * 2 * 16 * 16 * 2 * 2);
  const std::string text = FormatEngineText(*report);
  EXPECT_THAT(text, HasSubstr("prefill"));
  EXPECT_THAT(text, HasSubstr("reading"));
}

TEST(BenchEngineTest, EveryPathThatRunsHereCanBeMeasured) {
  RandomModel random({.type = TensorType::kQ8_0});
  for (const Isa isa : kIsas) {
    if (!IsaSupported(isa)) continue;
    const auto report = Measure(random.model, {.prompt_tokens = 3, .generate_tokens = 2, .runs = 1},
                                {.threads = 1, .isa = isa});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->isa, IsaName(isa));
    EXPECT_GT(report->speed.prefill_tokens_per_second.lowest, 0.0);
  }
}

TEST(BenchEngineTest, MoreStreamsThanAStepHasRowsGetAStepOfTheirOwn) {
  RandomModel random({});
  const auto report =
      Measure(random.model, {.prompt_tokens = 20, .generate_tokens = 2, .streams = 40, .runs = 1},
              {.threads = 1, .step_tokens_max = 16});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(report->speed.decode_tokens_per_second.lowest, 0.0);
}

// The random model by hand: two layers of hidden 64 and intermediate 96, four heads of 16 and two
// of KV; 101 words.
TEST(EngineBoundTest, CountsOneProductAWeightAndWhatFollowsTheLastKvOnlyWhereATokenIsDrawn) {
  RandomModel random({.type = TensorType::kQ4_1});
  const ModelWork work = WorkOf(random.model.weights, WeightsMode::kNative);
  constexpr int64_t kQkv = 64 * 64 + 2 * 32 * 64, kRest = 64 * 64 + 3 * 64 * 96;
  constexpr int64_t kRow = 2 * kQkv + kRest, kDraw = kRest + 101 * 64;
  EXPECT_EQ(work.row_multiply_adds, (PerArithmetic<int64_t>{kRow, 0}));
  EXPECT_EQ(work.draw_multiply_adds, (PerArithmetic<int64_t>{kDraw, 0}));
  EXPECT_DOUBLE_EQ(SecondsOf(work, 10.0, 1.0, {2e9, 0.0, 0.0}), (10 * kRow + kDraw) / 1e9);
}

TEST(EngineBoundTest, CountsWeightsByWhatMultipliesThem) {
  RandomModel quantised({.type = TensorType::kQ8_0});
  EXPECT_GT(WorkOf(quantised.model.weights, WeightsMode::kF32).row_multiply_adds[1], 0);
  EXPECT_EQ(WorkOf(quantised.model.weights, WeightsMode::kF32).row_multiply_adds[0], 0);
  RandomModel halves({.type = TensorType::kF16}), bf16({.type = TensorType::kBf16});
  const auto rows_of = [](const RandomModel& random) {
    return WorkOf(random.model.weights, WeightsMode::kNative).row_multiply_adds;
  };
  EXPECT_EQ(rows_of(halves), (PerArithmetic<int64_t>{0, rows_of(halves)[1], 0}));
  EXPECT_EQ(rows_of(bf16), (PerArithmetic<int64_t>{0, 0, rows_of(halves)[1]}));
}

TEST(EngineBoundTest, CountsKvUpToTheWindow) {
  const KvLayout layout{.num_layers = 2, .num_kv_heads = 3, .head_dim = 8, .dtype = KvDtype::kF16};
  ModelConfig config;
  const double token_bytes = 2.0 * 3 * 8 * 2 * 2;
  EXPECT_DOUBLE_EQ(KvBytesRead(config, layout, 100.0), 100 * token_bytes);
  config.sliding_window = 40;
  EXPECT_DOUBLE_EQ(KvBytesRead(config, layout, 100.0), 40 * token_bytes);
  config.layer_has_window = {true, false};
  EXPECT_DOUBLE_EQ(KvBytesRead(config, layout, 100.0), 70 * token_bytes);
}

}  // namespace
}  // namespace holdfast
