// What a tenant gets beside others: places, blocks and service by its weight, whatever they send.
#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1};

SchedulerOptions TwoTenants(SchedulerOptions options = {}) {
  options.tenants = {{.name = "a"}, {.name = "b"}};
  return options;
}

Request Of(TenantIndex tenant, uint64_t id, int32_t prompt, int32_t max_tokens) {
  const auto from = static_cast<TokenId>(id < 1000 ? id : id - 500);
  Request request = MakeRequest(id, MakePrompt(prompt, from), max_tokens);
  request.tenant = tenant;
  return request;
}

double CountOf(const MetricsRegistry& registry, const std::string& name) {
  const std::string text = registry.Serialize();
  const size_t at = text.find("\n" + name + " ");
  CHECK(at != std::string::npos);
  return std::stod(text.substr(at + name.size() + 2));
}

// `count` requests of each tenant, in turn.
void SubmitInTurn(SchedulerBench& bench, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    ASSERT_TRUE(bench.Submit(Of(kA, 1 + i, 20, 4)));
    ASSERT_TRUE(bench.Submit(Of(kB, 1001 + i, 20, 4)));
  }
}

// How many of those that ended as number `begin` to `end` were B's.
int32_t NumOfB(const SchedulerBench& bench, size_t begin, size_t end) {
  int32_t count = 0;
  for (size_t i = begin; i < end; ++i) count += Number(bench.sink.order_done()[i]) > 1000 ? 1 : 0;
  return count;
}

TEST(SchedulerTenantsTest, AQueueOfOneTenantDoesNotHoldUpAnother) {
  SchedulerBench bench({.num_sequence_slots = 1}, TwoTenants());
  for (uint64_t id = 1; id <= 10; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 4)));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 20, 4)));
  bench.RunToEnd();
  // The first of A's runs already; B has been served less than A then.
  EXPECT_EQ(bench.sink.order_done()[1], RequestId{1001});
}

TEST(SchedulerTenantsTest, ServiceGoesByWeight) {
  SchedulerOptions options = TwoTenants();
  options.tenants[1].weight = 3;
  SchedulerBench bench({.num_sequence_slots = 1}, options);
  SubmitInTurn(bench, 40);
  bench.RunToEnd();
  EXPECT_EQ(NumOfB(bench, 0, 40), 30);
}

TEST(SchedulerTenantsTest, NewWeightsCountForWhatIsServedFromThenOn) {
  SchedulerOptions options = TwoTenants();
  SchedulerBench bench({.num_sequence_slots = 1}, options);
  SubmitInTurn(bench, 40);
  while (bench.sink.order_done().size() < 20) ASSERT_TRUE(bench.Step());
  options.tenants[1].weight = 3;
  bench.scheduler->SetTenants(options.tenants, {}, bench.now);
  bench.RunToEnd();
  EXPECT_EQ(NumOfB(bench, 0, 20), 10);
  EXPECT_EQ(NumOfB(bench, 20, 52), 24);
}

TEST(SchedulerTenantsTest, AnOldWeightIsNotPaidForAnyLonger) {
  SchedulerOptions options = TwoTenants();
  options.tenants[0].weight = 0.01;
  SchedulerBench bench({.num_sequence_slots = 1}, options);
  SubmitInTurn(bench, 60);
  while (bench.sink.order_done().size() < 10) ASSERT_TRUE(bench.Step());
  options.tenants[0].weight = 1;
  bench.scheduler->SetTenants(options.tenants, {}, bench.now);
  while (bench.sink.order_done().size() < 40) ASSERT_TRUE(bench.Step());
  EXPECT_LE(NumOfB(bench, 10, 40), 16);
}

TEST(SchedulerTenantsTest, NewBoundsHoldForWhoComesAndNobodyIsPutOut) {
  SchedulerOptions options = TwoTenants();
  SchedulerBench bench({.context_tokens = 128, .num_sequence_slots = 4}, options);
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 20)));
  ASSERT_TRUE(bench.Step());
  ASSERT_EQ(bench.scheduler->num_running(), 3);
  options.tenants[0].running_max = 1;
  options.tenants[0].waiting_max = 1;
  bench.scheduler->SetTenants(options.tenants, {}, bench.now);
  EXPECT_EQ(bench.scheduler->RequestsAtOnceMax(kA), 2);
  ASSERT_TRUE(bench.Submit(Of(kA, 4, 20, 20)));
  EXPECT_FALSE(bench.Submit(Of(kA, 5, 20, 20)));
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 3);
  bench.RunToEnd();
  bench.scheduler->CheckInvariants();
  for (uint64_t id = 1; id <= 4; ++id) EXPECT_TRUE(bench.sink.done(RequestId{id}));
  EXPECT_EQ(bench.sink.order_done().back(), RequestId{4});
}

TEST(SchedulerTenantsTest, ATenantThatComesWhileOthersRunHasItsPartFromThenOn) {
  SchedulerOptions options;
  options.tenants = {{.name = "a"}};
  SchedulerBench bench({.num_sequence_slots = 1}, options);
  for (uint64_t id = 1; id <= 60; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 4)));
  while (bench.sink.order_done().size() < 10) ASSERT_TRUE(bench.Step());
  options.tenants.push_back({.name = "b", .waiting_max = 39, .weight = 3});
  bench.metrics.AddTenants(NamesOf(options.tenants));
  bench.scheduler->SetTenants(options.tenants, {}, bench.now);
  bench.scheduler->CheckInvariants();
  for (uint64_t id = 1001; id <= 1040; ++id) ASSERT_TRUE(bench.Submit(Of(kB, id, 20, 4)));
  EXPECT_FALSE(bench.Submit(Of(kB, 1041, 20, 4)));
  while (bench.sink.order_done().size() < 50) ASSERT_TRUE(bench.Step());
  bench.scheduler->CheckInvariants();
  EXPECT_NEAR(NumOfB(bench, 10, 50), 30, 1);
  bench.RunToEnd();
  EXPECT_NE(bench.registry.Serialize().find(
                "holdfast_scheduler_completion_tokens_total{tenant=\"b\"} 160"),
            std::string::npos);
}

TEST(SchedulerTenantsTest, ATenantThatComesHasItsPartOfTheCacheAndOthersMayHaveLess) {
  SchedulerOptions options;
  options.tenants = {{.name = "a"}};
  SchedulerBench bench({.context_tokens = 128, .num_blocks = 16}, options);
  bench.RunToEnd();
  for (uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE(bench.Submit(Of(kA, id, 60, 4)));
    bench.RunToEnd();
  }
  options.tenants.push_back({.name = "b"});
  std::vector<TenantShares> shares(2);
  shares[0].tiers[0].ceiling_blocks = 4;
  shares[1].tiers[0].floor_blocks = 4;
  bench.metrics.AddTenants(NamesOf(options.tenants));
  bench.scheduler->SetTenants(options.tenants, shares, bench.now);
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 60, 4)));
  bench.RunToEnd();
  const int32_t of_b = bench.scheduler->store().used_blocks(TierKind::kDevice, kB);
  for (uint64_t id = 11; id <= 20; ++id) {
    ASSERT_TRUE(bench.Submit(Of(kA, id, 60, 4)));
    bench.RunToEnd();
  }
  bench.scheduler->CheckInvariants();
  EXPECT_EQ(bench.scheduler->store().used_blocks(TierKind::kDevice, kB), of_b);
  EXPECT_GT(of_b, 0);
}

TEST(SchedulerTenantsTest, PlacesBeyondAShareAreGivenBackWhenAnotherWantsIts) {
  SchedulerBench bench({.context_tokens = 128, .num_sequence_slots = 4}, TwoTenants());
  for (uint64_t id = 1; id <= 8; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 100)));
  for (int32_t i = 0; i < 10; ++i) ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 4);
  for (uint64_t id = 1001; id <= 1004; ++id) ASSERT_TRUE(bench.Submit(Of(kB, id, 20, 4)));
  for (int32_t i = 0; i < 8; ++i) ASSERT_TRUE(bench.Step());
  // Two places are B's, and no more are taken back for it.
  EXPECT_EQ(CountOf(bench.registry, "holdfast_scheduler_preemptions_total"), 2);
  EXPECT_TRUE(bench.sink.done(RequestId{1001}));
  EXPECT_TRUE(bench.sink.done(RequestId{1002}));
  EXPECT_FALSE(bench.sink.done(RequestId{1}));
  bench.RunToEnd();
  bench.scheduler->CheckInvariants();
  for (uint64_t id = 1; id <= 8; ++id) {
    SchedulerBench alone({.context_tokens = 128}, TwoTenants());
    ASSERT_TRUE(alone.Submit(Of(kA, id, 20, 100)));
    alone.RunToEnd();
    EXPECT_EQ(bench.sink[RequestId{id}].choices, alone.sink[RequestId{id}].choices);
  }
}

TEST(SchedulerTenantsTest, BlocksBeyondAShareAreGivenBackWhenAnotherWantsIts) {
  // 16 blocks; A fills them by growing.
  SchedulerBench bench({.context_tokens = 128, .num_blocks = 16}, TwoTenants());
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 40, 80)));
  for (int32_t i = 0; i < 16; ++i) ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 60, 10)));
  for (int32_t i = 0; i < 14; ++i) ASSERT_TRUE(bench.Step());
  EXPECT_TRUE(bench.sink.done(RequestId{1001}));
  EXPECT_EQ(bench.sink.order_done().front(), RequestId{1001});
  bench.RunToEnd();
  bench.scheduler->CheckInvariants();
}

TEST(SchedulerTenantsTest, ASequenceIsTakenBackForOthersTwiceAtMost) {
  SchedulerBench bench({.context_tokens = 256, .num_sequence_slots = 2}, TwoTenants());
  ASSERT_TRUE(bench.Submit(Of(kA, 1, 20, 200)));
  ASSERT_TRUE(bench.Submit(Of(kA, 2, 20, 200)));
  for (uint64_t i = 0; i < 30; ++i) {
    ASSERT_TRUE(bench.Step());
    ASSERT_TRUE(bench.Step());
    ASSERT_TRUE(bench.Submit(Of(kB, 1001 + i, 20, 4)));
  }
  bench.RunToEnd();
  EXPECT_LE(CountOf(bench.registry, "holdfast_scheduler_preemptions_total"), 4);
  EXPECT_GE(CountOf(bench.registry, "holdfast_scheduler_preemptions_total"), 1);
}

TEST(SchedulerTenantsTest, RowsOfAStepGoToTheLeastServedTenantsPrefillFirst) {
  SchedulerBench bench({.context_tokens = 256, .step_tokens_max = 32},
                       TwoTenants({.step_tokens_max = 32, .chunk_tokens_max = 32}));
  ASSERT_TRUE(bench.Submit(Of(kA, 1, 200, 2)));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 60, 2)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink.order_done()[0], RequestId{1001});
}

TEST(SchedulerTenantsTest, OfATenantTheMoreImportantGoesFirstAndOfAnotherItChangesNothing) {
  SchedulerBench bench({.num_sequence_slots = 1}, TwoTenants());
  ASSERT_TRUE(bench.Submit(Of(kA, 1, 20, 4)));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(Of(kA, 2, 20, 4)));
  Request urgent = Of(kA, 3, 20, 4);
  urgent.priority = -5;
  ASSERT_TRUE(bench.Submit(urgent));
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 20, 4)));
  bench.RunToEnd();
  const std::vector<RequestId> expected = {RequestId{1}, RequestId{1001}, RequestId{3},
                                           RequestId{2}};
  EXPECT_EQ(bench.sink.order_done(), expected);
}

TEST(SchedulerTenantsTest, OfflineRequestsRunWhenNobodyElseWaitsAndGiveWayAtOnce) {
  SchedulerBench bench({.context_tokens = 128, .num_sequence_slots = 2}, {});
  for (uint64_t id = 1; id <= 3; ++id) {
    Request offline = MakeRequest(id, MakePrompt(20, static_cast<TokenId>(id)), 60);
    offline.offline = true;
    ASSERT_TRUE(bench.Submit(offline));
  }
  for (int32_t i = 0; i < 5; ++i) ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 2);
  for (uint64_t id = 11; id <= 13; ++id) {
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(20, static_cast<TokenId>(id)), 4)));
  }
  bench.RunToEnd();
  bench.scheduler->CheckInvariants();
  const std::vector<RequestId> expected = {RequestId{11}, RequestId{12}, RequestId{13},
                                           RequestId{1},  RequestId{2},  RequestId{3}};
  EXPECT_EQ(bench.sink.order_done(), expected);
}

TEST(SchedulerTenantsTest, AnOfflinePromptTakesFewRowsOfAStep) {
  SchedulerBench bench({}, {.offline_step_tokens_max = 16});
  Request offline = MakeRequest(1, MakePrompt(100), 4);
  offline.offline = true;
  ASSERT_TRUE(bench.Submit(offline));
  ASSERT_TRUE(bench.Plan());
  EXPECT_EQ(bench.plan.tokens.size(), 16u);
  bench.Finish();
  bench.RunToEnd();
  EXPECT_TRUE(bench.sink[RequestId{1}].done->ok());
}

TEST(SchedulerTenantsTest, ALongPromptLeavesRowsToOthersThatDraw) {
  SchedulerBench bench({.context_tokens = 256}, {.long_prefill_tokens_max = 32});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(20), 20)));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(200, 2), 4)));
  ASSERT_TRUE(bench.Plan());
  EXPECT_EQ(bench.plan.tokens.size(), 33u);
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, AFloodOfOneTenantDoesNotGetAnotherRefused) {
  SchedulerBench bench({.num_sequence_slots = 1}, TwoTenants({.waiting_max = 10}));
  int32_t refused = 0;
  for (uint64_t id = 1; id <= 30; ++id) refused += bench.Submit(Of(kA, id, 20, 4)) ? 0 : 1;
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(bench.Submit(Of(kB, 1001, 20, 4)));
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, WhoWouldWaitLongerThanTheBoundIsRefusedWithATimeAndOnlyThen) {
  SchedulerBench bench({.num_sequence_slots = 1},
                       TwoTenants({.queue_wait_max = absl::Milliseconds(200)}));
  uint64_t id = 1;
  for (; id <= 60; ++id) {  // of four steps each, and one comes in every step
    bench.Submit(Of(kA, id, 20, 4));
    bench.Step();
  }
  ASSERT_FALSE(bench.Submit(Of(kA, id, 20, 4)));
  const RecordedRequest& refused = bench.sink[RequestId{id}];
  EXPECT_EQ(refused.done->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LE(bench.scheduler->num_waiting(kA), 8);  // 200 ms of 40 ms each, about
  EXPECT_GE(bench.scheduler->num_waiting(kA), 3);
  EXPECT_TRUE(bench.Submit(Of(kB, 1001, 20, 4)));  // whose queue is empty
  Request offline = Of(kA, 2000, 20, 4);
  offline.offline = true;
  EXPECT_TRUE(bench.Submit(offline));
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, NobodyIsRefusedForAWaitWhilePlacesAreFree) {
  SchedulerBench bench({.num_sequence_slots = 4},
                       TwoTenants({.queue_wait_max = absl::Milliseconds(50)}));
  ASSERT_TRUE(bench.Submit(Of(kA, 1, 20, 100)));  // runs at once, and for a second
  bench.RunToEnd();
  ASSERT_TRUE(bench.Submit(Of(kA, 2, 20, 4)));
  ASSERT_TRUE(bench.Plan());
  for (uint64_t id = 3; id <= 5; ++id) EXPECT_TRUE(bench.Submit(Of(kA, id, 20, 4))) << id;
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, WhoWouldWaitForBlocksIsRefusedThoughPlacesAreFree) {
  SchedulerBench bench({.context_tokens = 80, .num_blocks = 5, .num_sequence_slots = 16},
                       TwoTenants({.queue_wait_max = absl::Milliseconds(200)}));
  int32_t refused = 0;
  for (uint64_t id = 1; id <= 60; ++id) {  // of two blocks each: two or so run at once
    refused += bench.Submit(Of(kA, id, 20, 4)) ? 0 : 1;
    bench.Step();
  }
  EXPECT_LE(bench.scheduler->num_waiting(kA), 16);
  EXPECT_GT(refused, 0);
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, AShortPromptOfWhoHasHadNothingIsComputedWholeBesideAFlood) {
  SchedulerBench bench({.context_tokens = 256, .step_tokens_max = 64},
                       TwoTenants({.step_tokens_max = 64, .chunk_tokens_max = 64}));
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 200, 2)));
  for (int32_t step = 0; step < 4; ++step) bench.Step();
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 60, 2)));
  ASSERT_TRUE(bench.Plan());
  EXPECT_TRUE(
      std::any_of(bench.plan.sequences.begin(), bench.plan.sequences.end(),
                  [](const PlanSequence& part) {  // not the half of the step that is its part
                    return part.num_tokens == 60 && part.samples;
                  }));
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, AnOwedPromptIsComputedWithoutTheDecodesOfWhoOwesThem) {
  SchedulerBench bench({.context_tokens = 256}, TwoTenants());
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 100)));
  for (int32_t step = 0; step < 4; ++step) ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 20, 8)));
  ASSERT_TRUE(bench.Plan());
  ASSERT_EQ(bench.plan.sequences.size(), 1u);
  EXPECT_EQ(bench.plan.sequences[0].num_tokens, 20);
  bench.Finish();
  ASSERT_TRUE(bench.Plan());
  EXPECT_EQ(bench.plan.sequences.size(), 5u);  // all go on
  bench.Finish();
  bench.RunToEnd();
  bench.scheduler->CheckInvariants();
  for (uint64_t id = 1; id <= 4; ++id) {
    SchedulerBench alone({.context_tokens = 256}, TwoTenants());
    ASSERT_TRUE(alone.Submit(Of(kA, id, 20, 100)));
    alone.RunToEnd();
    EXPECT_EQ(bench.sink[RequestId{id}].choices, alone.sink[RequestId{id}].choices);
  }
}

TEST(SchedulerTenantsTest, NoDecodeMakesRoomForOwedPromptsTwiceInARow) {
  SchedulerBench bench({.context_tokens = 256}, TwoTenants());
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 100)));
  for (int32_t step = 0; step < 4; ++step) ASSERT_TRUE(bench.Step());
  int32_t without = 0;
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(bench.Submit(Of(kB, 1001 + i, 20, 1)));
    ASSERT_TRUE(bench.Plan());
    const bool goes_on = bench.plan.sequences.size() >= 4;
    without = goes_on ? 0 : without + 1;
    EXPECT_LE(without, 1);
    bench.Finish();
  }
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, WayIsMadeInTheVeryPlanThatFirstSeesWhoNeedsIt) {
  SchedulerBench bench({.num_sequence_slots = 2}, TwoTenants());
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 20, 50)));
  for (int32_t step = 0; step < 3; ++step) bench.Step();
  ASSERT_EQ(bench.scheduler->num_running(), 2);
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 20, 4)));
  ASSERT_TRUE(bench.Plan());
  EXPECT_EQ(bench.scheduler->num_waiting(kB), 0);
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, WhatIsTakenBackIsEnoughForWhomItIsTakenBack) {
  SchedulerOptions options = TwoTenants();
  options.tenants.push_back({.name = "c"});
  SchedulerBench bench({.context_tokens = 512, .num_blocks = 60, .step_tokens_max = 1024}, [&] {
    options.step_tokens_max = options.chunk_tokens_max = 1024;
    return options;
  }());
  // One who has just been here counts when B is asked to leave room for others, so that 24 of 60
  // blocks are more than its part, and not where half of what A has is B's by right.
  ASSERT_TRUE(bench.Submit(Of(TenantIndex{2}, 2001, 10, 1)));
  bench.RunToEnd();
  for (uint64_t id = 1; id <= 6; ++id) ASSERT_TRUE(bench.Submit(Of(kA, id, 120, 100)));
  for (int32_t step = 0; step < 3; ++step) ASSERT_TRUE(bench.Step());
  ASSERT_EQ(bench.scheduler->num_running(), 6);  // of eight blocks each
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 380, 4)));
  ASSERT_TRUE(bench.Plan());
  EXPECT_GT(CountOf(bench.registry, "holdfast_scheduler_preemptions_total"), 0);
  EXPECT_EQ(bench.scheduler->num_waiting(kB), 0);
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, TwoTenantsPromptsShareTheRowsOfAStep) {
  SchedulerBench bench({.context_tokens = 256, .step_tokens_max = 64},
                       TwoTenants({.step_tokens_max = 64, .chunk_tokens_max = 64}));
  ASSERT_TRUE(bench.Submit(Of(kA, 1, 200, 2)));
  ASSERT_TRUE(bench.Submit(Of(kB, 1001, 200, 2)));
  ASSERT_TRUE(bench.Plan());
  ASSERT_EQ(bench.plan.sequences.size(), 2u);
  EXPECT_EQ(bench.plan.sequences[0].num_tokens, 32);
  EXPECT_EQ(bench.plan.sequences[1].num_tokens, 32);
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerTenantsTest, OfflineSequencesThatDrawWaitForThePromptsOfOthers) {
  SchedulerBench bench({}, {});
  for (uint64_t id = 1; id <= 4; ++id) {
    Request offline = MakeRequest(id, MakePrompt(10, static_cast<TokenId>(id)), 60);
    offline.offline = true;
    ASSERT_TRUE(bench.Submit(offline));
  }
  for (int32_t i = 0; i < 3; ++i) ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(MakeRequest(11, MakePrompt(20, 11), 4)));
  ASSERT_TRUE(bench.Plan());
  EXPECT_EQ(bench.plan.tokens.size(), 21u);  // a sixteenth of twenty rows
  bench.Finish();
  ASSERT_TRUE(bench.Plan());
  EXPECT_EQ(bench.plan.tokens.size(), 5u);
  bench.Finish();
  bench.RunToEnd();
}

// KVShare's K8: half of 40 queued prompts are mostly found, half not at all.
TEST(SchedulerTenantsTest, ShorterWorkFirstLowersTheMeanTimeToTheFirstToken) {
  const auto mean_rows_before_first_token = [](WaitOrder order) {
    SchedulerBench bench({.num_blocks = 400, .num_sequence_slots = 1, .step_tokens_max = 64},
                         {.step_tokens_max = 64, .order = order});
    std::vector<TokenId> shared = MakePrompt(160, 5);
    CHECK(bench.Submit(MakeRequest(1, shared, 1)));
    bench.RunToEnd();
    int64_t rows_before = bench.engine.num_rows();
    for (uint64_t i = 0; i < 40; ++i) {
      const auto from = static_cast<TokenId>(100 + i);
      std::vector<TokenId> prompt = i % 2 == 0 ? MakePrompt(176, from) : shared;
      if (i % 2 == 1) {
        const std::vector<TokenId> own = MakePrompt(16, from);
        prompt.insert(prompt.end(), own.begin(), own.end());
      }
      CHECK(bench.Submit(MakeRequest(10 + i, prompt, 1)));
    }
    double sum = 0;
    size_t done = bench.sink.order_done().size();
    const size_t first = done;
    while (bench.Step()) {
      for (; done < bench.sink.order_done().size(); ++done) {
        sum += static_cast<double>(bench.engine.num_rows() - rows_before);
      }
    }
    CHECK(done - first == 40);
    return sum / 40;
  };
  const double fcfs = mean_rows_before_first_token(WaitOrder::kArrival);
  EXPECT_LT(mean_rows_before_first_token(WaitOrder::kHitRate), 0.85 * fcfs);
  EXPECT_LT(mean_rows_before_first_token(WaitOrder::kRemainingWork), 0.85 * fcfs);
}

}  // namespace
}  // namespace holdfast
