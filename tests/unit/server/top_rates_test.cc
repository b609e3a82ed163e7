#include "server/top_rates.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

// As a daemon with tenants `a` and `b` writes it.
std::string Metrics(int prompt, int cached, int drawn, int ok, int shed, int fast, int slow) {
  return absl::StrCat(
      "holdfast_server_prompt_tokens_total{model=\"m\",tenant=\"a\"} ", prompt,
      "\nholdfast_server_cached_tokens_total{model=\"m\",tenant=\"a\"} ", cached,
      "\nholdfast_server_completion_tokens_total{model=\"m\",tenant=\"a\"} ", drawn,
      "\nholdfast_server_completion_tokens_total{model=\"m\",tenant=\"b\"} ", 7,
      "\nholdfast_server_requests_total{model=\"m\",outcome=\"ok\",tenant=\"a\"} ", ok,
      "\nholdfast_server_requests_total{model=\"m\",outcome=\"shed\",tenant=\"b\"} ", shed,
      "\nholdfast_server_time_to_first_token_seconds_bucket{tenant=\"a\",le=\"0.1\"} ", fast,
      "\nholdfast_server_time_to_first_token_seconds_bucket{tenant=\"a\",le=\"0.2\"} ", fast + slow,
      "\nholdfast_server_time_to_first_token_seconds_bucket{tenant=\"a\",le=\"+Inf\"} ",
      fast + slow, "\n");
}

TEST(TopRatesTest, RatesAreWhatCountersGrewByInASecond) {
  const TopRates rates =
      RatesBetween(ReadTopReading(Metrics(100, 10, 50, 1, 0, 0, 0), kStart),
                   ReadTopReading(Metrics(500, 310, 90, 9, 6, 0, 0), kStart + absl::Seconds(4)));
  EXPECT_EQ(rates.span, absl::Seconds(4));
  EXPECT_EQ(rates.all.completion_tokens, 10);
  EXPECT_EQ(rates.prompt_tokens_computed, 25);
  EXPECT_EQ(rates.all.hit_ratio, 0.75);
  EXPECT_EQ(rates.requests, 3.5);
  EXPECT_EQ(rates.requests_refused, 1.5);
  EXPECT_EQ(rates.first_token, std::nullopt);
  ASSERT_EQ(rates.tenants.size(), 2U);
  EXPECT_EQ(rates.tenants.at("a").completion_tokens, 10);
  EXPECT_EQ(rates.tenants.at("a").hit_ratio, 0.75);
  EXPECT_EQ(rates.tenants.at("b").completion_tokens, 0);
  EXPECT_EQ(rates.tenants.at("b").hit_ratio, std::nullopt);  // it had no prompt
}

TEST(TopRatesTest, QuantilesAreOfWhatCameBetweenTwoReadings) {
  const TopRates rates =
      RatesBetween(ReadTopReading(Metrics(0, 0, 0, 0, 0, 1000, 0), kStart),
                   ReadTopReading(Metrics(0, 0, 0, 0, 0, 1005, 5), kStart + absl::Seconds(2)));
  ASSERT_TRUE(rates.first_token.has_value());
  EXPECT_EQ(rates.first_token->p50, absl::Milliseconds(100));
  EXPECT_EQ(rates.first_token->p95, absl::Milliseconds(190));
  EXPECT_EQ(rates.next_token, std::nullopt);
}

TEST(TopRatesTest, AQuantileBeyondTheLastBoundIsAtLeastThat) {
  const TopReading::Buckets before, after = {{0.5, 1}, {1.0, 1}, {HUGE_VAL, 10}};
  EXPECT_EQ(QuantileBetween(before, after, 0.95), absl::Seconds(1));
  EXPECT_EQ(QuantileBetween(before, after, 0.05), absl::Milliseconds(250));
  EXPECT_EQ(QuantileBetween(after, after, 0.5), std::nullopt);
  EXPECT_EQ(QuantileBetween({}, {}, 0.5), std::nullopt);
}

TEST(TopRatesTest, RatesTellOfTheLastTenSeconds) {
  TopHistory history;
  const auto add = [&](int seconds) {
    return history.Add(
        ReadTopReading(Metrics(0, 0, 10 * seconds, 0, 0, 0, 0), kStart + absl::Seconds(seconds)));
  };
  EXPECT_EQ(add(0), std::nullopt);
  EXPECT_EQ(add(4)->span, absl::Seconds(4));
  EXPECT_EQ(add(8)->span, absl::Seconds(8));
  EXPECT_EQ(add(12)->span, absl::Seconds(8));
  // Further apart than that: of the one before.
  const auto late = add(100);
  EXPECT_EQ(late->span, absl::Seconds(88));
  EXPECT_EQ(late->all.completion_tokens, 10);
}

TEST(TopRatesTest, ADaemonThatBeganAnewHasNoRatesYet) {
  TopHistory history;
  history.Add(ReadTopReading(Metrics(100, 0, 0, 5, 0, 0, 0), kStart));
  EXPECT_TRUE(history.Add(ReadTopReading(Metrics(200, 0, 0, 6, 0, 0, 0), kStart + absl::Seconds(1)))
                  .has_value());
  EXPECT_EQ(history.Add(ReadTopReading(Metrics(10, 0, 0, 7, 0, 0, 0), kStart + absl::Seconds(2))),
            std::nullopt);
  EXPECT_EQ(
      history.Add(ReadTopReading(Metrics(20, 0, 0, 8, 0, 0, 0), kStart + absl::Seconds(3)))->span,
      absl::Seconds(1));
}

TEST(TopRatesTest, TextThatIsNoMetricsHasNoRates) {
  TopHistory history;
  history.Add(ReadTopReading("<html>", kStart));
  const auto rates = history.Add(ReadTopReading("", kStart + absl::Seconds(1)));
  ASSERT_TRUE(rates.has_value());
  EXPECT_EQ(rates->all.completion_tokens, 0);
  EXPECT_TRUE(rates->tenants.empty());
}

}  // namespace
}  // namespace holdfast
