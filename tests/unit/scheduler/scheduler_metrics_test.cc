#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

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

TEST(SchedulerMetricsTest, GaugesFollowTheSteps) {
  SchedulerBench bench({}, {.running_max = 1});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 4)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(50, 2), 4)));
  ASSERT_TRUE(bench.Step());
  const std::string text = bench.registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_running_sequences 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_waiting_sequences 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_blocks{state=\"held\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"\"} 0.0625\n"));
  bench.RunToEnd();
}

}  // namespace
}  // namespace holdfast
