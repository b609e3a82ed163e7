// Preemption by recompute: who is preempted, that no token is lost or said twice, and that everyone
// comes to an end.
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

std::map<int32_t, RecordedChoice> Alone(const Request& request) {
  SchedulerBench bench({}, {.prefix_cache = false});
  const RequestId id = request.id;
  CHECK(bench.Submit(request));
  bench.RunToEnd();
  return bench.sink[id].choices;
}

double CountOf(const MetricsRegistry& registry, const std::string& name) {
  const std::string text = registry.Serialize();
  const size_t at = text.find("\n" + name + " ");
  CHECK(at != std::string::npos);
  return std::stod(text.substr(at + name.size() + 2));
}

// 8 blocks; each request grows from 3 to 6 of them.
constexpr FakeEngineOptions kTight = {.context_tokens = 128, .num_blocks = 8};

TEST(PreemptionTest, TheLatestToArriveGivesWayAndLosesNoToken) {
  const Request first = MakeRequest(1, MakePrompt(40, 1), 50);
  const Request second = MakeRequest(2, MakePrompt(40, 2), 50);
  for (const bool prefix_cache : {true, false}) {
    SchedulerBench bench(kTight, {.prefix_cache = prefix_cache});
    ASSERT_TRUE(bench.Submit(first));
    ASSERT_TRUE(bench.Submit(second));
    bench.RunToEnd();
    EXPECT_GE(CountOf(bench.registry, "holdfast_scheduler_preemptions_total"), 1);
    EXPECT_EQ(bench.sink[RequestId{1}].choices, Alone(first));
    EXPECT_EQ(bench.sink[RequestId{2}].choices, Alone(second));
    const std::vector<RequestId> expected = {RequestId{1}, RequestId{2}};
    EXPECT_EQ(bench.sink.order_done(), expected);
    bench.scheduler->CheckInvariants();
  }
}

TEST(PreemptionTest, ASlotIsOpenedAgainWithWhatWasAlreadyDrawn) {
  SchedulerBench bench(kTight);
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(40, 1), 50)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(40, 2), 50)));
  std::vector<size_t> completions_at_open;
  bench.engine.OnExecute([&](const StepPlan& plan) {
    for (const SequenceOpen& open : plan.opens) {
      EXPECT_EQ(open.prompt.size(), 40u);
      completions_at_open.push_back(open.completion.size());
    }
  });
  bench.RunToEnd();
  ASSERT_GE(completions_at_open.size(), 3u);
  EXPECT_EQ(completions_at_open[0], 0u);
  EXPECT_EQ(completions_at_open[1], 0u);
  EXPECT_GT(completions_at_open[2], 0u);
}

TEST(PreemptionTest, WhatAPreemptedSequenceHadPublishedItMayFindAgain) {
  SchedulerBench bench(kTight);
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(40, 1), 28)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(40, 2), 50)));
  bench.RunToEnd();
  EXPECT_EQ(CountOf(bench.registry, "holdfast_scheduler_preemptions_total"), 1);
  EXPECT_LT(CountOf(bench.registry, "holdfast_scheduler_recomputed_tokens_total"), 40);
  // The cached tokens that are told are those of the first admission.
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 0);
}

TEST(PreemptionTest, APromptPreemptedWhileItIsScoredIsScoredOnceAndWhole) {
  // 1 grows while 2 is in the midst of its prompt, one row a step.
  SchedulerBench bench({.context_tokens = 128, .num_blocks = 8, .step_tokens_max = 33},
                       {.step_tokens_max = 33, .chunk_tokens_max = 32});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(32, 1), 90)));
  Request scored = MakeRequest(2, MakePrompt(70, 2), 3);
  scored.prompt_top_logprobs = 0;
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(scored));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->prompt_logprobs.size(), 69u);
  EXPECT_EQ(bench.sink[RequestId{2}].choices, Alone(scored));
}

TEST(PreemptionTest, APromptPreemptedWhileItIsPooledIsPooledAnewAndWhole) {
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    Request pooled = MakeRequest(2, MakePrompt(70, 2), 0);
    pooled.pooling = pooling;
    SchedulerBench alone({});
    ASSERT_TRUE(alone.Submit(pooled));
    alone.RunToEnd();
    SchedulerBench bench({.context_tokens = 128, .num_blocks = 8, .step_tokens_max = 33},
                         {.step_tokens_max = 33, .chunk_tokens_max = 7});
    ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(32, 1), 90)));
    ASSERT_TRUE(bench.Step());
    ASSERT_TRUE(bench.Submit(pooled));
    bench.RunToEnd();
    EXPECT_EQ(bench.sink[RequestId{2}].prompt->pooled, alone.sink[RequestId{2}].prompt->pooled);
  }
}

TEST(PreemptionTest, EveryoneEndsHoweverTightThePool) {
  for (int32_t num_blocks = 8; num_blocks <= 12; ++num_blocks) {
    SCOPED_TRACE(testing::Message() << num_blocks << " blocks");
    SchedulerBench bench({.context_tokens = 128, .num_blocks = num_blocks},
                         {.running_max = 8, .chunk_tokens_max = 24});
    std::vector<Request> requests;
    for (uint64_t id = 1; id <= 12; ++id) {
      const auto size = static_cast<int32_t>(1 + id * 29 % 64);
      Request request = MakeRequest(id, MakePrompt(size, static_cast<TokenId>(id % 3)), 64);
      request.num_choices = id % 4 == 0 ? 3 : 1;
      requests.push_back(request);
      ASSERT_TRUE(bench.Submit(request));
    }
    bench.RunToEnd(20'000);
    for (const Request& request : requests) {
      EXPECT_EQ(bench.sink[request.id].choices, Alone(request));
    }
    bench.scheduler->CheckInvariants();
    EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  }
}

TEST(PreemptionTest, TheOldestIsNeverPreemptedWhileOthersRun) {
  SchedulerBench bench(kTight, {.running_max = 8});
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(20, static_cast<TokenId>(id)), 100)));
  }
  std::map<SequenceSlot, std::vector<TokenId>> opened;
  int opens_of_first = 0;
  bench.engine.OnExecute([&](const StepPlan& plan) {
    for (const SequenceOpen& open : plan.opens) {
      if (open.prompt == MakePrompt(20, 1)) ++opens_of_first;
    }
  });
  bench.RunToEnd();
  EXPECT_EQ(opens_of_first, 1);
  EXPECT_EQ(bench.sink.order_done().front(), RequestId{1});
}

}  // namespace
}  // namespace holdfast
