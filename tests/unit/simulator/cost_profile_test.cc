#include "simulator/cost_profile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace holdfast {
namespace {

TEST(StepShapeTest, CountsRowsAndThePlacesThatTheyAttendTo) {
  StepPlan plan;
  plan.sequences.push_back({.first_position = 10, .num_tokens = 1, .samples = true});
  plan.sequences.push_back({.first_position = 5, .num_tokens = 1, .samples = true});
  plan.sequences.push_back({.first_position = 0, .num_tokens = 3, .samples = true});
  plan.sequences.push_back({.first_position = 100, .num_tokens = 2});
  const StepShape wanted = {.decode_rows = 2,
                            .prefill_rows = 5,
                            .prompt_ends = 1,
                            .decode_places = 11 + 6,
                            .prefill_places = 1 + 2 + 3 + 101 + 102,
                            .longest_decode = 11};
  EXPECT_EQ(ShapeOf(plan), wanted);
}

std::vector<MeasuredStep> StepsOf(const StepCost& cost, double noise, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<MeasuredStep> steps;
  for (int i = 0; i < 300; ++i) {
    StepShape shape = {.decode_rows = static_cast<int32_t>(rng() % 64),
                       .prefill_rows = static_cast<int32_t>(rng() % 512)};
    shape.prompt_ends = static_cast<int32_t>(rng() % 2);
    shape.longest_decode = static_cast<int64_t>(rng() % 4096);
    shape.decode_places = shape.decode_rows * shape.longest_decode;
    shape.prefill_places = shape.prefill_rows * static_cast<int64_t>(rng() % 4096);
    const double factor = 1 + noise * (static_cast<double>(rng() % 2001) / 1000.0 - 1);
    steps.push_back({.shape = shape, .seconds = cost.SecondsOf(shape) * factor});
  }
  return steps;
}

// Memory's time for a few rows, then a row's for each.
const StepCost kCost = {.decode_row = 2e-4,
                        .prompt_end = 1e-3,
                        .decode_place = 3e-8,
                        .prefill_place = 2e-8,
                        .longest_place = 1e-7,
                        .batch = {{1, 4e-3}, {100, 5e-3}, {500, 80e-3}}};

TEST(StepCostTest, RowsBetweenTwoThatWereMeasuredLieOnALine) {
  const StepCost cost = {.batch = {{2, 4e-3}, {4, 6e-3}, {8, 20e-3}}};
  const auto seconds = [&](int32_t decodes, int32_t prefills) {
    return cost.SecondsOf({.decode_rows = decodes, .prefill_rows = prefills});
  };
  EXPECT_DOUBLE_EQ(seconds(1, 0), 4e-3);
  EXPECT_DOUBLE_EQ(seconds(1, 2), 5e-3);
  EXPECT_DOUBLE_EQ(seconds(0, 4), 6e-3);
  EXPECT_DOUBLE_EQ(seconds(6, 0), 13e-3);
  EXPECT_DOUBLE_EQ(seconds(0, 12), 34e-3);  // beyond the last as before it
  EXPECT_DOUBLE_EQ(StepCost{.step = 1e-3}.SecondsOf({.decode_rows = 5}), 1e-3);
}

TEST(FitStepCostTest, FindsTheCostsThatMadeTheSteps) {
  // All on the knots of the truth, which are then among those of the fit.
  std::vector<MeasuredStep> steps = StepsOf(kCost, 0, 1);
  for (MeasuredStep& step : steps) {
    StepShape& shape = step.shape;
    shape.prefill_rows = shape.decode_rows <= 1 ? 1 - shape.decode_rows : 100 - shape.decode_rows;
    if (shape.prompt_ends == 1) shape.prefill_rows += 400;
    step.seconds = kCost.SecondsOf(shape);
  }
  const auto fit = FitStepCost(steps);
  ASSERT_TRUE(fit.ok());
  EXPECT_NEAR(fit->cost.decode_row, kCost.decode_row, 1e-8);
  EXPECT_NEAR(fit->cost.prompt_end, kCost.prompt_end, 1e-7);
  EXPECT_NEAR(fit->cost.decode_place, kCost.decode_place, 1e-11);
  EXPECT_NEAR(fit->cost.prefill_place, kCost.prefill_place, 1e-11);
  EXPECT_NEAR(fit->cost.longest_place, kCost.longest_place, 1e-9);
  EXPECT_LT(fit->quality.max_error, 1e-6);
  EXPECT_EQ(fit->quality.steps, static_cast<int32_t>(steps.size()));
}

TEST(FitStepCostTest, NoiseMovesThePredictionsLessThanItself) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const auto fit = FitStepCost(StepsOf(kCost, 0.1, seed));
    ASSERT_TRUE(fit.ok());
    double sum = 0;
    for (const MeasuredStep& exact : StepsOf(kCost, 0, seed + 100)) {
      const double error = std::abs(fit->cost.SecondsOf(exact.shape) / exact.seconds - 1);
      sum += error;
      EXPECT_LT(error, 0.3) << seed;  // of few rows there are few steps
    }
    EXPECT_LT(sum / 300, 0.025) << seed;
  }
}

TEST(FitStepCostTest, NoCostIsBelowZero) {
  // Steps that a negative cost of places would fit best.
  std::vector<MeasuredStep> steps;
  for (int rows = 1; rows < 50; ++rows) {
    const StepShape shape = {.decode_rows = rows, .decode_places = int64_t{rows} * rows};
    steps.push_back({.shape = shape, .seconds = 1e-3 * std::sqrt(rows)});
  }
  const auto fit = FitStepCost(steps);
  ASSERT_TRUE(fit.ok());
  for (const double cost : {fit->cost.decode_row, fit->cost.prompt_end, fit->cost.decode_place,
                            fit->cost.prefill_place, fit->cost.longest_place}) {
    EXPECT_GE(cost, 0);
  }
  ASSERT_FALSE(fit->cost.batch.empty());
  for (const RowsCost& cost : fit->cost.batch) EXPECT_GE(cost.seconds, 0);
  EXPECT_LT(fit->quality.max_error, 0.05);
}

// One context alone, as a small measurement has it: rows and the places that they read go together.
TEST(FitStepCostTest, MoreRowsTakeNoLessTimeThoughPlacesCouldExplainIt) {
  std::vector<MeasuredStep> steps;
  for (const int32_t rows : {1, 2, 4, 16, 32, 64}) {
    steps.push_back({.shape = {.prefill_rows = rows, .prefill_places = rows * (rows + 1) / 2},
                     .seconds = rows == 64 ? 0.050 : 0.004 + 0.0006 * rows});
  }
  const absl::StatusOr<StepFit> fit = FitStepCost(steps);
  ASSERT_TRUE(fit.ok());
  const std::vector<RowsCost>& batch = fit->cost.batch;
  for (size_t i = 1; i < batch.size(); ++i) EXPECT_GE(batch[i].seconds, batch[i - 1].seconds);
  EXPECT_GT(batch.back().seconds, 0);
}

TEST(FitStepCostTest, RefusesStepsThatSayNothing) {
  EXPECT_FALSE(FitStepCost({}).ok());
  const std::vector<MeasuredStep> timeless = {{.shape = {.decode_rows = 1}, .seconds = 0}};
  EXPECT_FALSE(FitStepCost(timeless).ok());
}

CostProfile SomeProfile() {
  return {.binding = {.model_digest = "ab12",
                      .kv_layout = {.num_layers = 3, .num_kv_heads = 2, .head_dim = 64},
                      .device = "a processor",
                      .threads = 2},
          .vocab_size = 1000,
          .context_tokens = 4096,
          .step = kCost,
          .between_steps_seconds = 1e-4,
          .host = {.restore_bytes_per_second = 1e9, .store_bytes_per_second = 2e9},
          .disk = {.restore_bytes_per_second = 1e8,
                   .store_bytes_per_second = 2e8,
                   .block_seconds = 1e-4},
          .fit = {.steps = 100, .mean_error = 0.01, .p95_error = 0.03, .max_error = 0.1}};
}

TEST(CostProfileTest, IsTheSameAfterWritingAndReading) {
  const CostProfile profile = SomeProfile();
  const auto read = ParseCostProfile(FormatCostProfile(profile));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->binding, profile.binding);
  EXPECT_EQ(read->vocab_size, profile.vocab_size);
  EXPECT_EQ(read->context_tokens, profile.context_tokens);
  EXPECT_EQ(read->step, profile.step);
  EXPECT_EQ(read->between_steps_seconds, profile.between_steps_seconds);
  EXPECT_EQ(read->host, profile.host);
  EXPECT_EQ(read->disk, profile.disk);
  EXPECT_EQ(read->fit, profile.fit);
}

TEST(CostProfileTest, NamesTheFieldThatIsWrong) {
  const std::string good = FormatCostProfile(SomeProfile());
  const auto message_after = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    return std::string(ParseCostProfile(bad).status().message());
  };
  EXPECT_EQ(message_after("\"decode_row\": ", "\"decode_row\": -"),
            "cost profile: step_seconds.decode_row must not be below zero");
  EXPECT_EQ(message_after("\"threads\": 2", "\"thread\": 2"),
            "cost profile: binding.threads is missing");
  EXPECT_EQ(message_after("\"f16\"", "\"f17\""),
            "cost profile: binding.kv_layout.dtype is not a KV type");
  EXPECT_EQ(message_after("\"format\": 2", "\"format\": 1"), "cost profile: format is not 2");
  EXPECT_EQ(message_after("\"batch\": [", "\"batch\": [7, "),
            "cost profile: step_seconds.batch wanted pairs of rising rows and seconds");
  EXPECT_EQ(message_after("{", ""), "cost profile: not JSON");
  EXPECT_EQ(std::string(ParseCostProfile("[1]").status().message()),
            "cost profile:  wanted an object");
}

TEST(CostProfileTest, IsRefusedForAnythingButWhatItWasTakenOf) {
  const CostProfile profile = SomeProfile();
  EXPECT_TRUE(CheckBinding(profile, profile.binding).ok());
  ProfileBinding other = profile.binding;
  other.model_digest = "cd34";
  EXPECT_EQ(CheckBinding(profile, other).code(), absl::StatusCode::kFailedPrecondition);
  other = profile.binding;
  other.kv_layout.dtype = KvDtype::kI8;
  EXPECT_EQ(CheckBinding(profile, other).code(), absl::StatusCode::kFailedPrecondition);
  other = profile.binding;
  other.device = "another";
  EXPECT_EQ(CheckBinding(profile, other).code(), absl::StatusCode::kFailedPrecondition);
  other = profile.binding;
  other.threads = 4;
  EXPECT_EQ(CheckBinding(profile, other).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace holdfast
