#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

// The names are a contract: dashboards, and the endpoint pickers that read vLLM's.
TEST(SchedulerMetricsTest, TheNamesAndCountsAreThere) {
  SchedulerOptions options;
  options.tenants = {{.name = "red"}, {.name = "blue"}};
  options.model_name = "tiny";
  SchedulerBench bench({}, options);
  for (uint64_t id = 1; id <= 2; ++id) {
    Request request = MakeRequest(id, MakePrompt(50), 4);
    request.tenant = TenantIndex{1};
    ASSERT_TRUE(bench.Submit(request));
    bench.RunToEnd();
  }
  const std::string text = bench.registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_prompt_tokens_total{tenant=\"blue\"} 100\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_cached_tokens_total{tenant=\"blue\"} 48\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_completion_tokens_total{tenant=\"blue\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_prompt_tokens_total{tenant=\"red\"} 0\n"));
  EXPECT_THAT(text,
              HasSubstr("holdfast_scheduler_shed_total{reason=\"queue\",tenant=\"red\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_queue_seconds_count{tenant=\"blue\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_step_seconds_count 8\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_step_rows_sum 58\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_preemptions_total 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_running_sequences 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_waiting_sequences 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_blocks{state=\"free\"} 61\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_blocks{state=\"held\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_blocks{state=\"evictable\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_hit_blocks_total 3\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_published_blocks_total 3\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"tiny\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_waiting{model_name=\"tiny\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"tiny\"} 0\n"));
  EXPECT_THAT(text, ContainsRegex("vllm:cache_config_info\\{[^}]*block_size=\"16\""));
  EXPECT_THAT(text, ContainsRegex("vllm:lora_requests_info\\{[^}]*max_lora=\"0\"[^}]*\\} 0\n"));
  EXPECT_THAT(text, ContainsRegex("vllm:cache_config_info\\{[^}]*num_gpu_blocks=\"64\""));
}

TEST(SchedulerMetricsTest, EveryReasonAndEveryMetricOfProgramsIsThereFromTheStart) {
  SchedulerOptions options;
  options.tenants = {{.name = "red"}};
  SchedulerBench bench({}, options);
  const std::string text = bench.registry.Serialize();
  for (size_t i = 0; i < kNumWaitReasons; ++i) {
    const std::string reason = WaitReasonName(static_cast<WaitReason>(i));
    EXPECT_THAT(text,
                HasSubstr("holdfast_scheduler_waiting_by_reason{reason=\"" + reason + "\"} 0\n"));
  }
  for (const char* state : {"asked", "paused", "provisional", "wanted"}) {
    EXPECT_THAT(text,
                HasSubstr(std::string("holdfast_scheduler_pins{state=\"") + state + "\"} 0\n"));
  }
  for (const char* result :
       {"hit", "mismatch", "expired", "forced", "displaced", "replaced", "declined", "final"}) {
    EXPECT_THAT(text, HasSubstr(std::string("holdfast_scheduler_pin_results_total{result=\"") +
                                result + "\"} 0\n"));
  }
  for (const char* source : {"cold", "tenant", "tool", "fixed", "break_even", "declared"}) {
    EXPECT_THAT(text, HasSubstr(std::string("holdfast_scheduler_ttl_seconds_count{source=\"") +
                                source + "\"} 0\n"));
  }
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_tool_seconds_count{tool=\"named\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_tool_seconds_count{tool=\"unnamed\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_program_seconds_count 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_pin_mismatch_tokens_total 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_pinned_bytes{tenant=\"red\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_memoryfulness{tenant=\"red\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_follow_up_queue_seconds{tenant=\"red\"} 0\n"));
}

TEST(SchedulerMetricsTest, WhatBecameOfPinsIsCounted) {
  SchedulerBench bench({}, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  const auto value = [&](const std::string& series) {
    return MetricValues(bench.registry)
        .Sum(series.substr(0, series.find('{')), {series.substr(series.find('{') + 1)});
  };
  const auto run = [&](uint64_t id, std::vector<TokenId> prompt, bool final = false) {
    Request turn = MakeRequest(id, std::move(prompt), 4);
    turn.session = "agent";
    turn.tool_hint = {.name = "ls"};
    turn.session_final = final;
    CHECK(bench.Submit(turn));
    if (bench.Step()) {
      bench.RunToEnd();
    }
  };
  const std::vector<TokenId> first = MakePrompt(50);
  run(1, first);
  EXPECT_EQ(value("holdfast_scheduler_pins{state=\"paused\""), 1);
  EXPECT_EQ(value("holdfast_scheduler_pinned_bytes{tenant=\"default\""),
            4.0 * static_cast<double>(bench.engine.info().kv_layout.block_bytes()));
  std::vector<TokenId> second = first;
  const std::vector<TokenId>& said = bench.sink[RequestId{1}].choices.at(0).tokens;
  second.insert(second.end(), said.begin(), said.end());
  second.push_back(3);
  bench.now += absl::Seconds(1);
  run(2, second);
  EXPECT_EQ(value("holdfast_scheduler_pin_results_total{result=\"hit\""), 1);
  EXPECT_EQ(value("holdfast_scheduler_tool_seconds_count{tool=\"named\""), 1);
  EXPECT_EQ(value("holdfast_scheduler_ttl_seconds_count{source=\"fixed\""), 2);
  run(3, std::vector<TokenId>(second.begin(), second.begin() + 40));
  EXPECT_EQ(value("holdfast_scheduler_pin_results_total{result=\"mismatch\""), 1);
  EXPECT_EQ(value("holdfast_scheduler_pin_mismatch_tokens_total{"), 7) << "of 39, 32 in blocks";
  bench.now += absl::Seconds(3);
  EXPECT_FALSE(bench.Plan());
  EXPECT_EQ(value("holdfast_scheduler_pin_results_total{result=\"expired\""), 1);
  run(4, first, true);
  EXPECT_EQ(value("holdfast_scheduler_program_seconds_count{"), 1);
  EXPECT_EQ(value("holdfast_scheduler_pinned_bytes{tenant=\"default\""), 0);
}

TEST(SchedulerMetricsTest, GaugesFollowTheSteps) {
  SchedulerBench bench({}, {.running_max = 1});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 4)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(50, 2), 4)));
  ASSERT_TRUE(bench.Step());
  const std::string text = bench.registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_running_sequences 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_waiting_sequences 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_running_requests{tenant=\"default\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_waiting_requests{tenant=\"default\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_blocks{state=\"held\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"\"} 0.0625\n"));
  bench.RunToEnd();
  const MetricValues values(bench.registry);
  EXPECT_EQ(values.Sum("holdfast_scheduler_running_requests"), 0);
  EXPECT_EQ(values.Sum("holdfast_scheduler_waiting_requests"), 0);
  EXPECT_EQ(values.Sum("holdfast_kvstore_tier_blocks"), 0) << "there is no lower tier";
}

TEST(SchedulerMetricsTest, OfTenantsBeyondTheBoundCountsAreAddedUpAndEstimatesLeftOut) {
  MetricsRegistry registry;
  registry.BoundLabel("tenant", 1);
  SchedulerOptions options;
  options.tenants = {{.name = "red"}, {.name = "blue"}, {.name = "green"}};
  SchedulerMetrics metrics(registry, options, 64);
  metrics.Of(TenantIndex{1}).prompt_tokens.Add(3);
  metrics.Of(TenantIndex{2}).prompt_tokens.Add(4);
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_prompt_tokens_total{tenant=\"red\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_prompt_tokens_total{tenant=\"other\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_memoryfulness{tenant=\"red\"} 1\n"));
  for (const char* name : {"memoryfulness", "follow_up_queue_seconds"}) {
    const std::string series = std::string("holdfast_scheduler_") + name + "{tenant=\"other\"}";
    EXPECT_THAT(text, Not(HasSubstr(series)));
  }
}

}  // namespace
}  // namespace holdfast
