#include "server/metrics_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace holdfast {
namespace {

using testing::ElementsAre;

std::vector<MetricSample> Read(std::string_view text) {
  std::vector<MetricSample> samples;
  ReadMetrics(
      text, [](std::string_view name) { return name != "unwanted"; },
      [&](const MetricSample& sample) { samples.push_back(sample); });
  return samples;
}

TEST(MetricsTextTest, ASampleHasItsNameItsLabelsAndItsValue) {
  const auto samples = Read(
      "# HELP up Whether {it} is 1\n"
      "# TYPE up counter\n"
      "up 1\n"
      "unwanted{tenant=\"a\"} 2\n"
      "tokens_total{tenant=\"a\",model=\"m\"} 3.5e2 1700000000\n"
      "seconds_bucket{le=\"+Inf\"} 4");
  ASSERT_EQ(samples.size(), 3U);
  EXPECT_EQ(samples[0].name, "up");
  EXPECT_EQ(samples[0].value, 1);
  EXPECT_EQ(samples[0].Label("tenant"), "");
  EXPECT_EQ(samples[1].name, "tokens_total");
  EXPECT_EQ(samples[1].Label("tenant"), "a");
  EXPECT_EQ(samples[1].Label("model"), "m");
  EXPECT_EQ(samples[1].value, 350);
  EXPECT_EQ(samples[2].Label("le"), "+Inf");
  EXPECT_EQ(samples[2].value, 4);
}

TEST(MetricsTextTest, ALabelsValueMayHoldWhatElseWouldEndIt) {
  const auto samples = Read(R"(x{a="}\" 1",b="\\n\n",c=""} 2)");
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_EQ(samples[0].Label("a"), "}\" 1");
  EXPECT_EQ(samples[0].Label("b"), "\\n\n");
  EXPECT_EQ(samples[0].Label("c"), "");
  EXPECT_EQ(samples[0].value, 2);
}

TEST(MetricsTextTest, WhatIsNoSampleIsPassedOver) {
  for (const char* text :
       {"", "\n\n", "x", "x ", "x{", "x{a", "x{a=\"", "x{a=\"b", "x{a=\"b\\", "x{a=\"b\"",
        "x{a=\"b\"}", "x{a=\"b\"}1", "x one", "{", " 1 2 3", "<html><body class=\"x\"> 1"}) {
    EXPECT_TRUE(Read(text).empty()) << text;
  }
}

}  // namespace
}  // namespace holdfast
