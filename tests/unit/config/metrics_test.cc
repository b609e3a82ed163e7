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

TEST(MetricsTest, TenantsBeyondTheBoundAreAddedUpAndEachStillCountsForItself) {
  MetricsRegistry registry;
  registry.BoundLabel("tenant", 2);
  std::vector<Counter> counters;
  for (const char* name : {"d", "a", "c", "b"}) {
    const MetricLabels labels = {{"reason", "queue"}, {"tenant", name}};
    counters.push_back(registry.AddCounter("holdfast_test_total", "Help.", labels));
    registry.AddGauge("holdfast_test_bytes", "Bytes.", {{"tenant", name}}).Set(10);
    Histogram seconds =
        registry.AddHistogram("holdfast_test_seconds", "S.", {1, 2}, {{"tenant", name}});
    seconds.Observe(0.5);
    seconds.Observe(1.5);
  }
  for (size_t i = 0; i < counters.size(); ++i) counters[i].Add(static_cast<double>(i + 1));
  registry.AddCounter("holdfast_test_total", "Help.", {{"reason", "rate"}, {"tenant", "b"}}).Add(7);

  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{reason=\"queue\",tenant=\"d\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{reason=\"queue\",tenant=\"a\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{reason=\"queue\",tenant=\"other\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{reason=\"rate\",tenant=\"other\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_bytes{tenant=\"d\"} 10\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_bytes{tenant=\"other\"} 20\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_seconds_bucket{tenant=\"other\",le=\"1\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_seconds_bucket{tenant=\"other\",le=\"+Inf\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_seconds_sum{tenant=\"other\"} 4\n"));
  EXPECT_THAT(text, Not(HasSubstr("tenant=\"c\"")));
  EXPECT_THAT(text, Not(HasSubstr("tenant=\"b\"")));
  EXPECT_EQ(counters[3].value(), 4) << "what the usage ledger reads";
}

// Not where it comes among the first either: what `other` means must not depend on the file.
TEST(MetricsTest, ATenantNamedOtherIsAlwaysCountedWithThoseBeyondTheBound) {
  MetricsRegistry registry;
  registry.BoundLabel("tenant", 2);
  for (const char* name : {"other", "a", "b", "c"}) {
    registry.AddCounter("holdfast_test_total", "Help.", {{"tenant", name}}).Add();
  }
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"b\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"other\"} 2\n"));
}

TEST(MetricsTest, TenantsThatComeLaterTakeThePlacesThatAreLeft) {
  MetricsRegistry registry;
  registry.BoundLabel("tenant", 2);
  registry.AddCounter("holdfast_test_total", "Help.", {{"tenant", "a"}});
  EXPECT_THAT(registry.Serialize(), Not(HasSubstr("other")));
  for (const char* name : {"b", "c"}) {
    registry.AddCounter("holdfast_test_total", "Help.", {{"tenant", name}}).Add();
  }
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"a\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"b\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_test_total{tenant=\"other\"} 1\n"));
}

TEST(MetricsTest, GaugesWhoseSumSaysNothingAreLeftOutBeyondTheBound) {
  MetricsRegistry registry;
  registry.BoundLabel("tenant", 2);
  for (const char* name : {"a", "b", "c"}) {
    registry.AddGauge("holdfast_test_mean", "Mean.", {{"tenant", name}}, BeyondBound::kLeftOut)
        .Set(1);
  }
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("holdfast_test_mean{tenant=\"b\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("other")));
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
