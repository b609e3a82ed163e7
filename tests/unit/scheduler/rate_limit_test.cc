#include "scheduler/rate_limit.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);
const absl::Duration kTick = absl::Seconds(1) / 1024;  // exact, as all numbers below

// The bucket in whole numbers: a part is 2^-20 of a unit.
struct WholeBucket {
  int64_t parts_a_tick, burst_parts, level_parts, at_tick = 0;
  void FillUntil(int64_t tick) {
    if (tick > at_tick) {
      level_parts = std::min(burst_parts, level_parts + (tick - at_tick) * parts_a_tick);
    }
    at_tick = tick;
  }
};

// Walks at random beside a model in whole numbers, with a clock that now and then goes back. The
// seed replays a failure.
TEST(TokenBucketTest, AgreesWithAModelInWholeNumbersOnRandomWalks) {
  constexpr int64_t kUnit = 1 << 20;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const int64_t parts_a_tick = 1 + static_cast<int64_t>(rng() % 100'000);
    const int64_t burst = 1 + static_cast<int64_t>(rng() % 1000);
    WholeBucket model{parts_a_tick, burst * kUnit, burst * kUnit};
    TokenBucket bucket(static_cast<double>(parts_a_tick) / 1024, static_cast<double>(burst));
    int64_t tick = 0;
    for (int i = 0; i < 400; ++i) {
      tick += rng() % 10 == 0 ? -static_cast<int64_t>(rng() % 5000)
                              : static_cast<int64_t>(rng() % 2000);
      const absl::Time now = kStart + tick * kTick;
      const int64_t amount = static_cast<int64_t>(rng() % static_cast<uint32_t>(burst + 2));
      model.FillUntil(tick);
      const absl::Duration wait = bucket.TimeUntil(static_cast<double>(amount), now);
      ASSERT_EQ(bucket.level() * kUnit, static_cast<double>(model.level_parts));
      ASSERT_EQ(wait == absl::ZeroDuration(), amount * kUnit <= model.level_parts);
      if (wait == absl::ZeroDuration()) {
        bucket.Take(static_cast<double>(amount));
        model.level_parts -= amount * kUnit;
        if (rng() % 2 == 0) {
          const int64_t back = amount / 2;
          bucket.GiveBack(static_cast<double>(back));
          model.level_parts = std::min(model.burst_parts, model.level_parts + back * kUnit);
        }
      } else if (amount > burst) {
        ASSERT_EQ(wait, absl::InfiniteDuration());
      } else {
        TokenBucket later = bucket;
        ASSERT_EQ(later.TimeUntil(static_cast<double>(amount), now + wait), absl::ZeroDuration());
        TokenBucket sooner = bucket;
        if (wait > absl::Milliseconds(3)) {
          ASSERT_GT(
              sooner.TimeUntil(static_cast<double>(amount), now + wait - absl::Milliseconds(3)),
              absl::ZeroDuration());
        }
      }
    }
  }
}

TEST(TokenBucketTest, AClockThatGoesBackNeitherFillsTheBucketNorStopsIt) {
  TokenBucket bucket(1, 10);
  ASSERT_EQ(bucket.TimeUntil(10, kStart), absl::ZeroDuration());
  bucket.Take(10);
  EXPECT_GT(bucket.TimeUntil(1, kStart - absl::Hours(1)), absl::ZeroDuration());
  EXPECT_EQ(bucket.level(), 0);
  EXPECT_EQ(bucket.TimeUntil(2, kStart - absl::Hours(1) + absl::Seconds(2)), absl::ZeroDuration());
}

TEST(TokenBucketTest, WhatIsGivenBackNeverGoesBeyondTheBurst) {
  TokenBucket bucket(1, 10);
  EXPECT_EQ(bucket.TimeUntil(4, kStart), absl::ZeroDuration());
  bucket.Take(4);
  bucket.GiveBack(100);
  EXPECT_EQ(bucket.level(), 10);
}

TEST(TenantRatesTest, WithoutBoundsEverythingPasses) {
  TenantRates rates({});
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(rates.Check(TenantIndex{0}, int64_t{1} << 40).ok());
    ASSERT_FALSE(rates.TryTake(TenantIndex{0}, int64_t{1} << 40, kStart).has_value());
  }
}

TEST(TenantRatesTest, BurstsAreByDefaultThoseOfOneSecondAndOneMinute) {
  TenantRates rates({{.name = "a", .requests_per_second = 2.5},
                     {.name = "b", .requests_per_second = 0.1},
                     {.name = "c", .tokens_per_minute = 600}});
  for (const auto& [tenant, burst] : {std::pair(0, 3), std::pair(1, 1)}) {
    for (int i = 0; i < burst; ++i) {
      EXPECT_FALSE(rates.TryTake(TenantIndex{tenant}, 1, kStart).has_value());
    }
    EXPECT_TRUE(rates.TryTake(TenantIndex{tenant}, 1, kStart).has_value());
  }
  EXPECT_TRUE(rates.Check(TenantIndex{2}, 600).ok());
  EXPECT_FALSE(rates.TryTake(TenantIndex{2}, 600, kStart).has_value());
  const auto refused = rates.TryTake(TenantIndex{2}, 50, kStart);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->reason, ShedReason::kTokenRate);
  EXPECT_NEAR(absl::ToDoubleSeconds(refused->retry_after), 5, 0.01);
}

TEST(TenantRatesTest, WhoLacksOneOfBothTakesNeither) {
  TenantRates rates({{.name = "a",
                      .requests_per_second = 1,
                      .requests_burst = 2,
                      .tokens_per_minute = 60,
                      .tokens_burst = 10}});
  const TenantIndex a{0};
  EXPECT_FALSE(rates.TryTake(a, 9, kStart).has_value());
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(rates.TryTake(a, 2, kStart)->reason, ShedReason::kTokenRate);
  }
  EXPECT_FALSE(rates.TryTake(a, 1, kStart).has_value()) << "its request was still there";
  EXPECT_EQ(rates.TryTake(a, 0, kStart)->reason, ShedReason::kRequestRate);
  rates.GiveBack(a, 10, kStart);
  const absl::Time later = kStart + absl::Seconds(1) + absl::Milliseconds(1);
  EXPECT_FALSE(rates.TryTake(a, 10, later).has_value()) << "and so were its tokens";
}

TEST(TenantRatesTest, WhatCanNeverPassIsAFaultThatNamesTheBound) {
  const TenantRates rates({{.name = "a", .tokens_per_minute = 6000, .tokens_burst = 100}});
  EXPECT_TRUE(rates.Check(TenantIndex{0}, 100).ok());
  const absl::Status status = rates.Check(TenantIndex{0}, 101);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("may have 101 tokens"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("ask for 100 at once (tokens_burst)"));
}

// ---- Through the scheduler

std::vector<Request> Body(uint64_t first, int count, int32_t prompt, int32_t max_tokens) {
  std::vector<Request> body;
  for (int i = 0; i < count; ++i) {
    const uint64_t id = first + static_cast<uint64_t>(i);
    body.push_back(MakeRequest(id, MakePrompt(prompt, static_cast<TokenId>(id)), max_tokens));
  }
  return body;
}

TEST(SchedulerRatesTest, ABodyCountsAsOneRequestAndIsToldWhenTheNextIsThere) {
  SchedulerBench bench({}, {.tenants = {{.name = "red", .requests_per_second = 0.5}}});
  EXPECT_TRUE(bench.scheduler->SubmitAll(Body(1, 3, 10, 2), bench.now));
  bench.now += absl::Milliseconds(500);
  EXPECT_FALSE(bench.scheduler->SubmitAll(Body(11, 2, 10, 2), bench.now));
  for (const uint64_t id : {11, 12}) {
    const auto& refused = bench.sink[RequestId{id}];
    EXPECT_EQ(refused.done->code(), absl::StatusCode::kResourceExhausted);
    EXPECT_NEAR(absl::ToDoubleSeconds(refused.retry_after.value()), 1.5, 0.01);
  }
  EXPECT_THAT(
      bench.registry.Serialize(),
      HasSubstr("holdfast_scheduler_shed_total{reason=\"request_rate\",tenant=\"red\"} 1\n"));
  bench.now += bench.sink[RequestId{11}].retry_after.value();
  EXPECT_TRUE(bench.scheduler->SubmitAll(Body(21, 2, 10, 2), bench.now));
  bench.RunToEnd();
}

TEST(SchedulerRatesTest, OneTenantsRateIsNothingToAnother) {
  SchedulerBench bench(
      {}, {.tenants = {{.name = "red", .requests_per_second = 0.5}, {.name = "blue"}}});
  EXPECT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(10), 2)));
  EXPECT_FALSE(bench.Submit(MakeRequest(2, MakePrompt(10), 2)));
  for (uint64_t id = 3; id < 9; ++id) {
    Request request = MakeRequest(id, MakePrompt(10), 2);
    request.tenant = TenantIndex{1};
    EXPECT_TRUE(bench.Submit(std::move(request)));
  }
  bench.RunToEnd();
}

TEST(SchedulerRatesTest, WhatWasCachedOrNotDrawnIsGivenBackAtTheEnd) {
  // As good as no refill.
  SchedulerBench bench({},
                       {.tenants = {{.name = "red", .tokens_per_minute = 1, .tokens_burst = 201}}});
  const auto ask = [&](uint64_t id, int32_t max_tokens) {
    return MakeRequest(id, MakePrompt(50), max_tokens);
  };
  // What the bucket holds: asks for more and more, and each time leaves.
  uint64_t next_id = 1000;
  const auto left = [&] {
    int32_t most = 0;
    for (int32_t tokens = 2; tokens <= 201; ++tokens) {
      const uint64_t id = next_id++;
      if (!bench.Submit(MakeRequest(id, MakePrompt(1), tokens - 1))) break;
      bench.scheduler->Cancel(RequestId{id});
      most = tokens;
    }
    return most;
  };
  ASSERT_TRUE(bench.Submit(ask(1, 151)));
  ASSERT_FALSE(bench.Submit(ask(2, 1)));
  EXPECT_GT(bench.sink[RequestId{2}].retry_after.value(), absl::Minutes(50));
  bench.scheduler->Cancel(RequestId{1});
  EXPECT_EQ(left(), 201) << "it never ran";

  ASSERT_TRUE(bench.Submit(ask(3, 100)));
  EXPECT_EQ(left(), 51);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(bench.Step());
  bench.scheduler->StopChoice(RequestId{3}, 0);
  bench.RunToEnd();
  const auto drawn = static_cast<int32_t>(bench.sink[RequestId{3}].choices.at(0).tokens.size());
  ASSERT_EQ(drawn, 4);
  EXPECT_EQ(left(), 201 - 50 - drawn);

  ASSERT_TRUE(bench.Submit(ask(4, 3)));
  bench.RunToEnd();
  ASSERT_EQ(bench.sink[RequestId{4}].prompt->cached_tokens, 48) << "three blocks";
  EXPECT_EQ(left(), 201 - 50 - drawn - 2 - 3);
}

TEST(SchedulerRatesTest, AskingForMoreThanTheBurstIsAFaultAndNotAReasonToWait) {
  SchedulerBench bench({}, {.tenants = {{.name = "red", .tokens_per_minute = 30}}});
  EXPECT_FALSE(bench.scheduler->SubmitAll(Body(1, 2, 10, 6), bench.now));  // 32 together
  for (const uint64_t id : {1, 2}) {
    EXPECT_EQ(bench.sink[RequestId{id}].done->code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(bench.sink[RequestId{id}].retry_after.has_value());
  }
  EXPECT_TRUE(bench.scheduler->SubmitAll(Body(11, 2, 10, 5), bench.now));
  bench.RunToEnd();
}

TEST(SchedulerRatesTest, AFullQueueTellsHowFastItMovesAndTakesNothingOfTheRate) {
  SchedulerBench bench(
      {}, {.running_max = 1,
           .waiting_max = 1,
           .tenants = {{.name = "red", .requests_per_second = 1, .requests_burst = 2}}});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(10), 2)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(10), 2)));
  ASSERT_FALSE(bench.Submit(MakeRequest(3, MakePrompt(10), 2)));
  EXPECT_THAT(bench.registry.Serialize(), HasSubstr("reason=\"queue\",tenant=\"red\"} 1\n"));
  const absl::Duration told = bench.sink[RequestId{3}].retry_after.value();
  EXPECT_GE(told, kRetryAfterMin);
  EXPECT_LE(told, kRetryAfterMax);
  bench.RunToEnd();
}

TEST(TokenBucketTest, ANewRateGivesNothingAndTakesWhatHasNoRoom) {
  TokenBucket bucket(1, 10);
  EXPECT_EQ(bucket.TimeUntil(10, kStart), absl::ZeroDuration());
  bucket.Take(6);
  bucket.SetRate(2, 100, kStart + absl::Seconds(1));
  EXPECT_EQ(bucket.level(), 5);
  EXPECT_EQ(bucket.TimeUntil(7, kStart + absl::Seconds(2)), absl::ZeroDuration());
  bucket.SetRate(2, 3, kStart + absl::Seconds(2));
  EXPECT_EQ(bucket.level(), 3);
}

TEST(TenantRatesTest, ABoundThatIsTakenAwayOrComesHoldsForWhoAsksFromThenOn) {
  std::vector<TenantConfig> tenants = {{.name = "a", .requests_per_second = 1}, {.name = "b"}};
  TenantRates rates(tenants);
  const TenantIndex a{0}, b{1};
  EXPECT_FALSE(rates.TryTake(a, 1, kStart).has_value());
  EXPECT_TRUE(rates.TryTake(a, 1, kStart).has_value());
  tenants[0].requests_per_second = 0;
  tenants[1].tokens_per_minute = 60;
  rates.SetBounds(tenants, kStart);
  EXPECT_FALSE(rates.TryTake(a, 1, kStart).has_value());
  EXPECT_FALSE(rates.TryTake(b, 60, kStart).has_value());
  EXPECT_TRUE(rates.TryTake(b, 1, kStart).has_value());
  EXPECT_FALSE(rates.Check(b, 61).ok());
  // Who came before there was a bound took nothing of it.
  rates.GiveBack(b, 50, kStart - absl::Seconds(1));
  EXPECT_TRUE(rates.TryTake(b, 1, kStart).has_value());
  rates.GiveBack(b, 50, kStart);
  EXPECT_FALSE(rates.TryTake(b, 50, kStart).has_value());
}

}  // namespace
}  // namespace holdfast
