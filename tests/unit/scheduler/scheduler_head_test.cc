// What those near the head of the queue will find stays for them, and gives way to everybody who
// goes before them.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

// One place and 16 blocks, of which five hold what `Early` found out first, and five more what
// another did later.
struct Cached {
  explicit Cached(int32_t pin_window)
      : bench({.context_tokens = 256, .num_blocks = 16, .num_sequence_slots = 1},
              {.pin_window = pin_window}) {
    Serve(MakeRequest(1, Early(), 1));
    Serve(MakeRequest(2, MakePrompt(80, 2), 1));
  }
  static std::vector<TokenId> Early() { return MakePrompt(80, 1); }
  static Request GoesOnFromEarly(uint64_t id) {
    std::vector<TokenId> prompt = Early();
    prompt.push_back(5);
    return MakeRequest(id, std::move(prompt), 2);
  }
  void Serve(Request request) {
    bench.now += absl::Milliseconds(1);
    CHECK(bench.Submit(std::move(request)));
    bench.RunToEnd();
  }
  // One runs, with a prompt of 20 tokens; then one waits that goes on from Early.
  void LetOneWait(int32_t max_tokens) {
    CHECK(bench.Submit(MakeRequest(3, MakePrompt(20, 3), max_tokens)));
    CHECK(bench.Step());
    CHECK(bench.Submit(GoesOnFromEarly(4)));
  }
  int32_t held() const { return bench.scheduler->block_counts().held; }

  SchedulerBench bench;
};

TEST(SchedulerHeadTest, WhatTheNextWillFindIsNotEvictedWhileItWaits) {
  for (const int32_t pin_window : {0, 1}) {
    Cached cached(pin_window);
    cached.LetOneWait(130);  // ten blocks
    cached.bench.RunToEnd();
    const int32_t found = cached.bench.sink[RequestId{4}].prompt->cached_tokens;
    EXPECT_EQ(found == 80, pin_window == 1) << found;
  }
}

TEST(SchedulerHeadTest, WhoRunsAndGrowsIsNotPreemptedForIt) {
  Cached cached(8);
  cached.LetOneWait(236);  // the whole pool
  cached.bench.RunToEnd();
  EXPECT_TRUE(cached.bench.sink[RequestId{3}].done->ok());
  EXPECT_TRUE(cached.bench.sink[RequestId{4}].done->ok());
  EXPECT_THAT(cached.bench.registry.Serialize(),
              HasSubstr("holdfast_scheduler_preemptions_total 0\n"));
}

TEST(SchedulerHeadTest, WhoIsToGoFirstGetsItsBlocksFromThoseBehind) {
  Cached cached(8);
  cached.LetOneWait(20);
  ASSERT_TRUE(cached.bench.Step());
  EXPECT_EQ(cached.held(), 2 + 5);
  Request urgent = MakeRequest(5, MakePrompt(230, 7), 4);
  urgent.priority = -1;
  ASSERT_TRUE(cached.bench.Submit(urgent));
  cached.bench.RunToEnd();
  const std::vector<RequestId> expected = {RequestId{1}, RequestId{2}, RequestId{3}, RequestId{5},
                                           RequestId{4}};
  EXPECT_EQ(cached.bench.sink.order_done(), expected);
}

TEST(SchedulerHeadTest, WhoLeavesTheHeadOrTheQueueKeepsNothing) {
  Cached cached(1);
  cached.LetOneWait(10);
  ASSERT_TRUE(cached.bench.Step());
  EXPECT_EQ(cached.held(), 2 + 5);
  cached.bench.scheduler->Cancel(RequestId{4});
  EXPECT_EQ(cached.held(), 2);
  ASSERT_TRUE(cached.bench.Submit(Cached::GoesOnFromEarly(5)));
  ASSERT_TRUE(cached.bench.Step());
  EXPECT_EQ(cached.held(), 2 + 5);
  Request urgent = MakeRequest(6, MakePrompt(20, 7), 4);
  urgent.priority = -1;
  ASSERT_TRUE(cached.bench.Submit(urgent));
  ASSERT_TRUE(cached.bench.Step());
  EXPECT_EQ(cached.held(), 2);
  cached.bench.scheduler->CheckInvariants();
  cached.bench.RunToEnd();
}

TEST(SchedulerHeadTest, WhoWasPreemptedKeepsNothing) {
  SchedulerBench bench({.context_tokens = 256, .num_blocks = 16}, {.pin_window = 8});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(20, 1), 230)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(100, 2), 120)));
  ASSERT_TRUE(bench.Step());
  ASSERT_EQ(bench.scheduler->num_running(), 2);
  while (bench.scheduler->num_running() == 2) {
    ASSERT_TRUE(bench.Plan());
    if (bench.scheduler->num_running() == 2) bench.Finish();
  }
  EXPECT_GT(bench.scheduler->block_counts().evictable, 0);
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerHeadTest, OfTwoTenantsTheHeadsOfBothKeepWhatTheyWillFind) {
  SchedulerOptions options{.pin_window = 2};
  options.tenants = {{.name = "a"}, {.name = "b"}};
  SchedulerBench bench({.num_sequence_slots = 1}, options);
  uint64_t id = 0;
  for (const TenantIndex tenant : {TenantIndex{0}, TenantIndex{1}}) {
    ++id;
    Request request = MakeRequest(id, MakePrompt(40, static_cast<TokenId>(id)), 1);
    request.tenant = tenant;
    ASSERT_TRUE(bench.Submit(request));
  }
  bench.RunToEnd();
  ASSERT_TRUE(bench.Submit(MakeRequest(++id, MakePrompt(10, 9), 10)));
  ASSERT_TRUE(bench.Step());
  for (const TokenId from : {1, 1, 2, 2}) {
    Request request = MakeRequest(++id, MakePrompt(40, from), 1);
    request.tenant = TenantIndex{from - 1};
    ASSERT_TRUE(bench.Submit(request));
  }
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->block_counts().held, 1 + 2 + 2);
  bench.RunToEnd();
}

}  // namespace
}  // namespace holdfast
