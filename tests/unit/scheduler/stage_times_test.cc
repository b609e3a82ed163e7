// When a request came to its stages, as its end tells.
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/sim_media.h"

namespace holdfast {
namespace {

constexpr absl::Duration kWait = absl::Milliseconds(5);

Request Turn(uint64_t id, std::optional<std::string> tool) {
  Request request = MakeRequest(id, MakePrompt(20, 1), 2);
  request.session = "agent";
  if (tool) request.tool_hint = {.name = *tool};
  return request;
}

TEST(StageTimesTest, ARequestThatWaitsIsAdmittedWhenItRuns) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(20, 1), 2)));
  const absl::Time admitted = bench.now += kWait;
  bench.RunToEnd();
  const StageTimes& times = bench.sink[RequestId{1}].times;
  EXPECT_EQ(times.admitted, admitted);
  EXPECT_EQ(times.restored, absl::InfinitePast());
  EXPECT_EQ(times.tool_called, absl::InfinitePast());
  EXPECT_EQ(times.restored_tokens, 0);
}

TEST(StageTimesTest, ARequestThatNeverRanWasNotAdmitted) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(20, 1), 2)));
  bench.scheduler->Cancel(RequestId{1});
  EXPECT_EQ(bench.sink[RequestId{1}].times.admitted, absl::InfinitePast());
}

TEST(StageTimesTest, ATurnThatFollowsACallOfAToolKnowsSinceWhen) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Turn(1, "search")));
  bench.RunToEnd();
  const absl::Time ended = bench.now;
  bench.now += absl::Seconds(3);
  ASSERT_TRUE(bench.Submit(Turn(2, std::nullopt)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].times.tool_called, ended);
  EXPECT_EQ(bench.sink[RequestId{2}].times.tool, "search");
  // The second called none.
  ASSERT_TRUE(bench.Submit(Turn(3, std::nullopt)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{3}].times.tool_called, absl::InfinitePast());
}

// A device of eight blocks above 64 on the host.
struct Tiered {
  Tiered() { bench.UseMover(mover); }
  static SchedulerOptions Options(SimTier& host) {
    SchedulerOptions options;
    options.kv.host = &host;
    options.kv.low_water = 1.0;
    return options;
  }

  SimTier host{TierKind::kHost, 64};
  SchedulerBench bench{{.context_tokens = 128, .num_blocks = 8}, Options(host)};
  SimMover mover{bench.engine, &host, nullptr, 1, 0};
};

TEST(StageTimesTest, WhatLayLowerIsRestoredOnceItIsBack) {
  Tiered tiered;
  SchedulerBench& bench = tiered.bench;
  for (const uint64_t id : {1, 2}) {
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(90, static_cast<TokenId>(id)), 3)));
    bench.RunToEnd();
  }
  ASSERT_TRUE(bench.Submit(MakeRequest(3, MakePrompt(90, 1), 3)));
  const absl::Time admitted = bench.now;
  EXPECT_FALSE(bench.Plan());
  const absl::Time back = bench.now += kWait;
  bench.RunToEnd();
  const StageTimes& times = bench.sink[RequestId{3}].times;
  EXPECT_EQ(times.admitted, admitted);
  EXPECT_EQ(times.restored, back);
  EXPECT_EQ(times.restored_tokens, 48);  // of 80 that are known; two blocks had stayed
}

TEST(StageTimesTest, WhatComesBackAfterAPreemptionIsNotTakenForTheFirstWait) {
  Tiered tiered;
  SchedulerBench& bench = tiered.bench;
  for (const uint64_t id : {1, 2}) {
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(40, static_cast<TokenId>(id)), 50)));
  }
  bench.RunToEnd();
  EXPECT_GT(bench.scheduler->store().hit_tokens(TenantIndex{})[TierAt(TierKind::kHost)], 0);
  for (const uint64_t id : {1, 2}) {
    const StageTimes& times = bench.sink[RequestId{id}].times;
    EXPECT_NE(times.admitted, absl::InfinitePast());
    EXPECT_EQ(times.restored, absl::InfinitePast());
    EXPECT_EQ(times.restored_tokens, 0);
  }
}

}  // namespace
}  // namespace holdfast
