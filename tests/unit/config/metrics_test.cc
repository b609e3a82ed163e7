#include "config/base/metrics.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, CountersGaugesAndHistogramsArePrintedInPrometheusTextForm) {
  MetricsRegistry registry;
  Counter tokens = registry.AddCounter("holdfast_test_tokens_total", "Tokens.", {{"tenant", "a"}});
  tokens.Add();
  tokens.Add(2.0);
  Gauge running = registry.AddGauge("holdfast_test_running", "Running.");
  running.Set(5.0);
  running.Add(2.0);
  running.Add(-3.0);
  Histogram ttft = registry.AddHistogram("holdfast_test_ttft_seconds", "TTFT.", {0.1, 1.0});
  ttft.Observe(0.05);
  ttft.Observe(0.5);
  ttft.Observe(50.0);

  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("# HELP holdfast_test_tokens_total Tokens.\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE holdfast_test_tokens_total counter\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_tokens_total{tenant=\"a\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_running 4\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_ttft_seconds_bucket{le=\"0.1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_ttft_seconds_bucket{le=\"1\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_ttft_seconds_bucket{le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_ttft_seconds_count 3\n"));
}

TEST(MetricsTest, TheSameNameAndLabelsGiveTheSameMetricAgain) {
  MetricsRegistry registry;
  registry.AddCounter("holdfast_test_total", "Help.", {{"tenant", "a"}}).Add();
  registry.AddCounter("holdfast_test_total", "Help.", {{"tenant", "a"}}).Add();
  registry.AddCounter("holdfast_test_total", "Help.", {{"tenant", "b"}}).Add();
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"a\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"b\"} 1\n"));
}

// Peers' names carry a colon; endpoint pickers read them as they are.
TEST(MetricsTest, NamesWithAColonAreTaken) {
  MetricsRegistry registry;
  registry.AddGauge("vllm:num_requests_running", "Running.").Set(1);
  EXPECT_THAT(registry.Serialize(), HasSubstr("vllm:num_requests_running 1\n"));
}

TEST(MetricsTest, LabelValuesAreEscaped) {
  MetricsRegistry registry;
  registry.AddGauge("holdfast_test_g", "G.", {{"model", "a\"b\\c\nd"}}).Set(1);
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("{model=\"a\\\"b\\\\c\\nd\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("c\nd")));
}

TEST(MetricsTest, ManyThreadsCountWithoutLoss) {
  MetricsRegistry registry;
  Counter counter = registry.AddCounter("holdfast_test_total", "Help.");
  Gauge gauge = registry.AddGauge("holdfast_test_g", "Help.");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([counter, gauge]() mutable {
      for (int n = 0; n < 1000; ++n) {
        counter.Add();
        gauge.Add(1);
        gauge.Add(-1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(registry.Serialize(), HasSubstr("holdfast_test_total 4000\n"));
  EXPECT_THAT(registry.Serialize(), HasSubstr("holdfast_test_g 0\n"));
}

TEST(MetricsTest, LatencyBucketsRiseFromOneMillisecondToTwoMinutes) {
  const std::vector<double> buckets = LatencyBuckets();
  EXPECT_DOUBLE_EQ(buckets.front(), 0.001);
  EXPECT_DOUBLE_EQ(buckets.back(), 120.0);
  EXPECT_TRUE(std::is_sorted(buckets.begin(), buckets.end()));
}

}  // namespace
}  // namespace holdfast
