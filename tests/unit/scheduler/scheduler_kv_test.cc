// What the scheduler does with the store's tiers, pins and knowledge of what is being computed.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/sim_media.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

// A device of eight blocks above 64 on the host; moves end when told.
struct Tiered {
  explicit Tiered(uint32_t fail_one_in = 0)
      : bench({.context_tokens = 128, .num_blocks = 8}, Options(host)),
        mover(bench.engine, &host, nullptr, 1, fail_one_in) {
    bench.UseMover(mover);
  }
  static SchedulerOptions Options(SimTier& host) {
    SchedulerOptions options;
    options.tenants = {{.name = "red"}, {.name = "blue"}};
    options.kv.host = &host;
    options.kv.low_water = 1.0;
    return options;
  }
  RecordedRequest Serve(Request request) {
    const RequestId id = request.id;
    CHECK(bench.Submit(std::move(request)));
    bench.RunToEnd();
    return bench.sink[id];
  }

  SimTier host{TierKind::kHost, 64};
  SchedulerBench bench;
  SimMover mover;
};

Request Turn(uint64_t id, TokenId from) { return MakeRequest(id, MakePrompt(90, from), 3); }

TEST(SchedulerKvTest, OneThatWaitsForItsBlocksHoldsNobodyUp) {
  Tiered tiered;
  const RecordedChoice first = tiered.Serve(Turn(1, 0)).choices.at(0);
  tiered.Serve(Turn(2, 1));  // the first one's blocks had to go
  ASSERT_TRUE(tiered.bench.Submit(Turn(3, 0)));
  EXPECT_FALSE(tiered.bench.Plan());  // all of it is on its way, and nobody else is there
  EXPECT_EQ(tiered.bench.scheduler->num_running(), 1);
  ASSERT_TRUE(tiered.bench.Submit(MakeRequest(4, MakePrompt(10, 7), 2)));
  ASSERT_TRUE(tiered.bench.Step());
  EXPECT_EQ(tiered.bench.plan.sequences.size(), 1u);
  tiered.bench.RunToEnd();
  EXPECT_EQ(tiered.bench.sink[RequestId{3}].choices.at(0), first);
  EXPECT_EQ(tiered.bench.sink[RequestId{3}].prompt->cached_tokens, 80);
}

TEST(SchedulerKvTest, CancellingOneThatWaitsForItsBlocksEndsItAtOnce) {
  Tiered tiered;
  tiered.Serve(Turn(1, 0));
  tiered.Serve(Turn(2, 1));
  ASSERT_TRUE(tiered.bench.Submit(Turn(3, 0)));
  EXPECT_FALSE(tiered.bench.Plan());
  tiered.bench.scheduler->Cancel(RequestId{3});
  ASSERT_TRUE(tiered.bench.sink.done(RequestId{3}));
  tiered.bench.scheduler->CheckInvariants();
  tiered.bench.RunToEnd();
  EXPECT_EQ(tiered.Serve(Turn(4, 0)).prompt->cached_tokens, 80);  // what arrived stayed findable
}

TEST(SchedulerKvTest, WhatCannotComeBackIsComputedAndNotCountedAsCached) {
  Tiered tiered(1);  // nothing is ever moved
  const RecordedChoice first = tiered.Serve(Turn(1, 0)).choices.at(0);
  tiered.Serve(Turn(2, 1));
  const RecordedRequest again = tiered.Serve(Turn(3, 0));
  EXPECT_EQ(again.choices.at(0), first);
  EXPECT_LT(again.prompt->cached_tokens, 80);
}

TEST(SchedulerKvTest, HitsByTierAddUpToWhatClientsAreTold) {
  Tiered tiered;
  int64_t told = 0;
  uint64_t id = 0;
  for (int round = 0; round < 3; ++round) {
    for (TokenId from : {0, 1, 0}) {
      Request request = Turn(++id, from);
      request.tenant = TenantIndex{1};
      request.num_choices = 2;
      told += tiered.Serve(request).prompt->cached_tokens;
    }
  }
  const std::string text = tiered.bench.registry.Serialize();
  const auto hits = [&](const std::string& tier) {
    const std::string name =
        "holdfast_kvstore_hit_tokens_total{tenant=\"blue\",tier=\"" + tier + "\"} ";
    const size_t at = text.find(name);
    CHECK(at != std::string::npos);
    return std::stoll(text.substr(at + name.size()));
  };
  EXPECT_GT(hits("host"), 0);
  EXPECT_EQ(hits("device") + hits("host") + hits("disk"), told);
  EXPECT_THAT(text, HasSubstr("holdfast_scheduler_cached_tokens_total{tenant=\"blue\"} " +
                              std::to_string(told) + "\n"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_moves_total{kind=\"restore\",result=\"done\"}"));
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_blocks{state=\"moving\"} 0\n"));
  const MetricValues values(tiered.bench.registry);
  const KvStore& store = tiered.bench.scheduler->store();
  EXPECT_GT(store.used_blocks(TierKind::kHost), 0);
  EXPECT_EQ(values.Sum("holdfast_kvstore_tier_blocks", {"tier=\"host\"", "state=\"used\""}),
            store.used_blocks(TierKind::kHost));
  EXPECT_EQ(values.Sum("holdfast_kvstore_tier_blocks", {"tier=\"host\""}), 64);
  EXPECT_EQ(values.Sum("holdfast_kvstore_tier_blocks", {"tier=\"disk\""}), 0);
  EXPECT_THAT(text, HasSubstr("holdfast_kvstore_residency_seconds_count"));
}

TEST(SchedulerKvTest, OfTwoWithTheSamePromptOneComputesAndTheOtherWaits) {
  SchedulerBench bench({}, {.chunk_tokens_max = 32});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(90), 2)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(90), 2)));
  ASSERT_TRUE(bench.Submit(MakeRequest(3, MakePrompt(20, 5), 2)));
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 2);  // the third has passed the second
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 80);
  EXPECT_EQ(bench.engine.num_rows(), (90 + 1) + (10 + 1) + (20 + 1));
  EXPECT_EQ(bench.sink[RequestId{1}].choices, bench.sink[RequestId{2}].choices);
}

TEST(SchedulerKvTest, ThePrefillWaitedForIsCancelledAndTheWaiterComputes) {
  SchedulerBench bench({}, {.chunk_tokens_max = 32});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(90), 2)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(90), 2)));
  ASSERT_TRUE(bench.Step());
  bench.scheduler->Cancel(RequestId{1});
  bench.RunToEnd();
  EXPECT_TRUE(bench.sink[RequestId{2}].done->ok());
}

TEST(SchedulerKvTest, TheNextTurnOfASessionContinuesItsLastBlock) {
  SchedulerBench bench({});
  Request first = MakeRequest(1, MakePrompt(40), 4);
  first.session = "agent";
  first.retain = {.ttl = absl::Minutes(1)};
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 1);
  EXPECT_EQ(bench.scheduler->block_counts().held, 3);

  Request next = MakeRequest(2, MakePrompt(40), 2);
  for (TokenId token : bench.sink[RequestId{1}].choices.at(0).tokens) next.prompt.push_back(token);
  next.prompt.push_back(5);
  next.session = "agent";
  ASSERT_TRUE(bench.Submit(next));
  bench.RunToEnd();
  // All but the last drawn token, whose KV nobody computed, and the new one.
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 43);
  EXPECT_EQ(bench.engine.num_copies(), 1);
  EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 0);
  EXPECT_EQ(bench.scheduler->store().pins().num_ended(PinEnd::kFinal), 1u);
}

TEST(SchedulerKvTest, APinOfAnotherScopeOrTenantIsNeitherReadNorEnded) {
  SchedulerBench bench({}, {.tenants = {{.name = "red"}, {.name = "blue"}}});
  Request first = MakeRequest(1, MakePrompt(40), 4);
  first.session = "agent";
  first.retain = {.ttl = absl::Minutes(1)};
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  Request salted = MakeRequest(2, MakePrompt(41), 2);
  salted.session = "agent";
  salted.reuse_scope[0] = 1;
  Request others = MakeRequest(3, MakePrompt(41), 2);
  others.session = "agent";
  others.tenant = TenantIndex{1};
  others.reuse_scope[0] = 2;
  ASSERT_TRUE(bench.Submit(salted));
  ASSERT_TRUE(bench.Submit(others));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 0);
  EXPECT_EQ(bench.sink[RequestId{3}].prompt->cached_tokens, 0);
  EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 1);
}

TEST(SchedulerKvTest, PinsGiveWayBeforeARunningSequenceDoes) {
  SchedulerBench bench({.context_tokens = 128, .num_blocks = 8});
  Request first = MakeRequest(1, MakePrompt(40), 2);
  first.session = "agent";
  first.retain = {.ttl = absl::Hours(1)};
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  ASSERT_EQ(bench.scheduler->store().pins().num_pins(), 1);
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(70, 3), 58)));
  bench.RunToEnd();
  EXPECT_TRUE(bench.sink[RequestId{2}].done->ok());
  EXPECT_EQ(bench.scheduler->store().pins().num_ended(PinEnd::kForced), 1u);
  EXPECT_THAT(bench.registry.Serialize(), HasSubstr("holdfast_scheduler_preemptions_total 0\n"));
}

TEST(SchedulerKvTest, AFinalTurnOrABadEndLeavesNoPin) {
  SchedulerBench bench({});
  for (uint64_t id = 1; id <= 3; ++id) {
    Request request = MakeRequest(id, MakePrompt(40), 4);
    request.session = "agent";
    request.retain = {.ttl = absl::Minutes(1)};
    request.session_final = id == 2;
    request.num_choices = id == 3 ? 2 : 1;
    ASSERT_TRUE(bench.Submit(request));
    if (id == 3) {
      ASSERT_TRUE(bench.Step());
      ASSERT_TRUE(bench.Step());
      bench.scheduler->StopChoice(RequestId{3}, 0);  // leaves its pin
      EXPECT_EQ(bench.scheduler->store().pins().num_pins(), 1);
      bench.scheduler->Cancel(RequestId{3});
    }
    bench.RunToEnd();
    EXPECT_EQ(bench.scheduler->store().pins().num_pins(), id == 1 ? 1 : 0) << id;
  }
}

TEST(SchedulerKvTest, FloorsThatLeaveNoRoomForALongestSequenceAreRefused) {
  FakeEngine engine({.context_tokens = 128, .num_blocks = 10});
  MetricsRegistry registry;
  RecordingSink sink;
  SchedulerOptions options;
  options.tenants = {{.name = "red"}, {.name = "blue"}};
  options.kv.tenants.resize(2);
  options.kv.tenants[0].tiers[0].floor_blocks = 3;
  SchedulerMetrics metrics(registry, options, 10);
  const auto created = Scheduler::Create(engine.info(), options, metrics, sink);
  EXPECT_EQ(created.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(created.status().message()), HasSubstr("tenants.kv.device.floor"));
  options.kv.tenants[0].tiers[0].floor_blocks = 2;
  EXPECT_TRUE(Scheduler::Create(engine.info(), options, metrics, sink).ok());
}

}  // namespace
}  // namespace holdfast
