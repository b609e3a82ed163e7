#include "scheduler/scheduler.h"

#include "gtest/gtest.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/unit/kvstore/cached_tokens.h"

namespace holdfast {
namespace {

// What the request's choices say when it is alone, with a large pool and no cache.
std::map<int32_t, RecordedChoice> Alone(const Request& request) {
  SchedulerBench bench({}, {.prefix_cache = false});
  const RequestId id = request.id;
  CHECK(bench.Submit(request));
  bench.RunToEnd();
  return bench.sink[id].choices;
}

TEST(SchedulerTest, ARequestRunsToItsLength) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(20), 5)));
  bench.RunToEnd();
  const RecordedRequest& recorded = bench.sink[RequestId{1}];
  EXPECT_EQ(recorded.choices.at(0).tokens.size(), 5u);
  EXPECT_EQ(recorded.choices.at(0).end, SequenceEnd::kLength);
  EXPECT_TRUE(recorded.done->ok());
  EXPECT_EQ(bench.engine.num_steps(), 5);
  EXPECT_EQ(bench.engine.num_rows(), 24);  // the last token drawn is never computed
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
}

TEST(SchedulerTest, AStopTokenEndsTheSequenceAndIsDelivered) {
  Request request = MakeRequest(1, MakePrompt(20), 50);
  const std::vector<TokenId> tokens = Alone(request).at(0).tokens;
  request.stop_tokens = {tokens[3]};
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(request));
  bench.RunToEnd();
  const RecordedChoice& choice = bench.sink[RequestId{1}].choices.at(0);
  EXPECT_EQ(choice.tokens, std::vector<TokenId>(tokens.begin(), tokens.begin() + 4));
  EXPECT_EQ(choice.end, SequenceEnd::kStopToken);
}

TEST(SchedulerTest, ASequenceMayFillTheWholeContext) {
  SchedulerBench bench({.context_tokens = 64, .num_blocks = 4});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(40), 24)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{1}].choices.at(0).tokens.size(), 24u);
}

TEST(SchedulerTest, WhatCannotBeServedEndsAtOnce) {
  SchedulerBench bench({.context_tokens = 64});
  EXPECT_FALSE(bench.Submit(MakeRequest(1, {}, 5)));
  EXPECT_FALSE(bench.Submit(MakeRequest(2, MakePrompt(60), 5)));
  EXPECT_FALSE(bench.Submit(MakeRequest(3, {1000}, 5)));
  EXPECT_FALSE(bench.Submit(MakeRequest(4, {1}, -1)));
  Request many = MakeRequest(5, {1}, 1);
  many.num_choices = kChoicesMax + 1;
  EXPECT_FALSE(bench.Submit(many));
  for (uint64_t id = 1; id <= 5; ++id) {
    EXPECT_EQ(bench.sink[RequestId{id}].done->code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(bench.Step());
}

TEST(SchedulerTest, StartIsRefusedWhenOneLongestSequenceDoesNotFit) {
  FakeEngine engine({.context_tokens = 65, .num_blocks = 4});
  MetricsRegistry registry;
  SchedulerMetrics metrics(registry, {}, 4);
  RecordingSink sink;
  const auto scheduler = Scheduler::Create(engine.info(), {}, metrics, sink);
  EXPECT_EQ(scheduler.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Scheduler::Create(engine.info(), {.running_max = 0}, metrics, sink).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SchedulerTest, DecodesGoFirstAndPrefillsAreCutIntoChunksInOrder) {
  SchedulerBench bench({}, {.step_tokens_max = 20, .chunk_tokens_max = 12});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(10, 1), 8)));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(30, 2), 2)));
  ASSERT_TRUE(bench.Submit(MakeRequest(3, MakePrompt(30, 3), 2)));
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  ASSERT_EQ(bench.plan.sequences.size(), 3u);
  EXPECT_EQ(bench.plan.sequences[0].num_tokens, 1);
  EXPECT_EQ(bench.plan.sequences[1].num_tokens, 12);
  EXPECT_EQ(bench.plan.sequences[2].num_tokens, 7);
  EXPECT_EQ(bench.plan.opens.size(), 2u);
  bench.Finish();
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  EXPECT_EQ(bench.plan.sequences[1].first_position, 12);
  EXPECT_EQ(bench.plan.sequences[1].num_tokens, 12);
  EXPECT_FALSE(bench.plan.sequences[1].samples);
  EXPECT_TRUE(bench.plan.opens.empty());
  bench.Finish();
  bench.RunToEnd();
}

TEST(SchedulerTest, FirstComeIsFirstServed) {
  SchedulerBench bench({}, {.running_max = 1});
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_TRUE(
        bench.Submit(MakeRequest(id, MakePrompt(5 + static_cast<int32_t>(id * 11 % 7)), 3)));
  }
  bench.RunToEnd();
  const std::vector<RequestId> expected = {RequestId{1}, RequestId{2}, RequestId{3},
                                           RequestId{4}, RequestId{5}, RequestId{6}};
  EXPECT_EQ(bench.sink.order_done(), expected);
}

TEST(SchedulerTest, NobodyPassesOneWhoWaitsForBlocks) {
  SchedulerBench bench({.context_tokens = 128, .num_blocks = 8});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(80, 1), 10)));   // 5 of 8 blocks
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(100, 2), 10)));  // 7: waits
  ASSERT_TRUE(bench.Submit(MakeRequest(3, MakePrompt(5, 3), 2)));     // would fit
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 1);
  EXPECT_EQ(bench.scheduler->num_waiting(), 2);
  bench.RunToEnd();
  EXPECT_EQ(bench.sink.order_done().front(), RequestId{1});
}

TEST(SchedulerTest, ACachedPrefixNeedsNoPrefillAndChangesNoToken) {
  const Request again = MakeRequest(2, MakePrompt(50), 6);
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 6)));
  bench.RunToEnd();
  const int64_t rows_before = bench.engine.num_rows();
  ASSERT_TRUE(bench.Submit(again));
  bench.RunToEnd();
  const RecordedRequest& recorded = bench.sink[RequestId{2}];
  EXPECT_EQ(recorded.prompt->cached_tokens, 48);
  EXPECT_EQ(bench.engine.num_rows() - rows_before, 2 + 5);
  EXPECT_EQ(recorded.choices, Alone(again));
}

TEST(SchedulerTest, TheCompletionIsFoundAsPartOfTheNextTurnsPrompt) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(40), 30)));
  bench.RunToEnd();
  std::vector<TokenId> turn = MakePrompt(40);
  for (TokenId token : bench.sink[RequestId{1}].choices.at(0).tokens) turn.push_back(token);
  turn.push_back(5);
  const Request next = MakeRequest(2, turn, 4);
  ASSERT_TRUE(bench.Submit(next));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 64);
  EXPECT_EQ(bench.sink[RequestId{2}].choices, Alone(next));
}

TEST(SchedulerTest, AnotherScopeFindsNothing) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 2)));
  bench.RunToEnd();
  Request other = MakeRequest(2, MakePrompt(50), 2);
  other.reuse_scope[0] = 1;
  ASSERT_TRUE(bench.Submit(other));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 0);
}

TEST(SchedulerTest, WithoutReuseARequestNeitherFindsNorLeavesBlocks) {
  SchedulerBench bench({});
  for (uint64_t id = 1; id <= 2; ++id) {
    Request request = MakeRequest(id, MakePrompt(50), 20);
    request.reuse_prefix = false;
    ASSERT_TRUE(bench.Submit(request));
    bench.RunToEnd();
    EXPECT_EQ(bench.sink[RequestId{id}].prompt->cached_tokens, 0);
    EXPECT_EQ(bench.scheduler->block_counts(), (BlockCounts{.free = 64}));
  }
}

TEST(SchedulerTest, ABlockIsNotFoundBeforeTheStepThatFilledItHasCommitted) {
  SchedulerBench bench({}, {.step_tokens_max = 40, .chunk_tokens_max = 20});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 2)));
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  EXPECT_EQ(CachedTokens(bench.scheduler->store(), {}, MakePrompt(50)), 0);
  bench.Finish();
  EXPECT_EQ(CachedTokens(bench.scheduler->store(), {}, MakePrompt(50)), 16);
  bench.RunToEnd();
}

TEST(SchedulerTest, ASequenceWithoutAFiniteNumberEndsItsOwnRequestAlone) {
  constexpr TokenId kPoison = 999;
  const SchedulerOptions options = {.chunk_tokens_max = 32};
  SchedulerBench alone({}, options), bench({}, options);
  const std::vector<TokenId> good = MakePrompt(50, 1);
  ASSERT_TRUE(alone.Submit(MakeRequest(1, good, 12)));
  alone.RunToEnd();

  std::vector<TokenId> bad = MakePrompt(64, 2);
  bad[60] = kPoison;
  bench.engine.PoisonToken(kPoison);
  ASSERT_TRUE(bench.Submit(MakeRequest(1, good, 12)));
  Request drawn = MakeRequest(2, bad, 12);
  ASSERT_TRUE(bench.Submit(std::move(drawn)));
  std::vector<TokenId> other = MakePrompt(64, 3);
  other[40] = kPoison;
  Request scored = MakeRequest(3, other, 0);
  scored.prompt_top_logprobs = 2;
  ASSERT_TRUE(bench.Submit(std::move(scored)));
  bench.RunToEnd();

  EXPECT_TRUE(bench.sink[RequestId{1}].done->ok());
  EXPECT_EQ(bench.sink[RequestId{1}].choices, alone.sink[RequestId{1}].choices);
  for (uint64_t id : {2, 3}) {
    EXPECT_EQ(bench.sink[RequestId{id}].done->code(), absl::StatusCode::kInternal);
    EXPECT_FALSE(bench.sink[RequestId{id}].prompt.has_value());
  }
  // The chunk that was good stays findable, the one that was not does not.
  EXPECT_EQ(CachedTokens(bench.scheduler->store(), {}, bad), 32);
  EXPECT_EQ(CachedTokens(bench.scheduler->store(), {}, other), 32);
  bench.scheduler->CheckInvariants();
}

TEST(SchedulerTest, FurtherChoicesWaitForTheFirstPromptAndFindIt) {
  Request request = MakeRequest(1, MakePrompt(64), 5);
  request.num_choices = 4;
  request.sampling.seed = 77;
  SchedulerBench bench({}, {.chunk_tokens_max = 32});
  ASSERT_TRUE(bench.Submit(request));
  bench.RunToEnd();
  // The prompt once; of it one token again by each further choice, as the last must be computed:
  // the rest of its last block is copied.
  EXPECT_EQ(bench.engine.num_rows(), 64 + 3 * 1 + 4 * 4);
  EXPECT_EQ(bench.engine.num_copies(), 3);
  const RecordedRequest& recorded = bench.sink[RequestId{1}];
  ASSERT_EQ(recorded.choices.size(), 4u);
  for (int32_t choice = 0; choice < 4; ++choice) {
    Request single = MakeRequest(9, MakePrompt(64), 5);
    single.sampling.seed = 77 + static_cast<uint64_t>(choice);
    EXPECT_EQ(recorded.choices.at(choice), Alone(single).at(0)) << "choice " << choice;
  }
  EXPECT_NE(recorded.choices.at(0).tokens, recorded.choices.at(1).tokens);
}

TEST(SchedulerTest, LogprobsAreDeliveredOnlyWhenAskedFor) {
  SchedulerBench bench({});
  Request request = MakeRequest(1, MakePrompt(10), 3);
  request.sampling.top_logprobs = 2;
  ASSERT_TRUE(bench.Submit(request));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(10), 3)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{1}].choices.at(0).tops.back().size(), 2u);
  EXPECT_LT(bench.sink[RequestId{1}].choices.at(0).logprobs.back(), 0.0f);
  EXPECT_TRUE(bench.sink[RequestId{2}].choices.at(0).tops.back().empty());
}

Request Embedding(uint64_t id, const std::vector<TokenId>& prompt, Pooling pooling) {
  Request request = MakeRequest(id, prompt, 0);
  request.pooling = pooling;
  return request;
}

TEST(SchedulerTest, APooledStateComesWithThePromptAndNothingIsDrawn) {
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    std::vector<float> whole;
    for (const int32_t chunk : {256, 64, 16, 7, 1}) {
      SCOPED_TRACE(testing::Message() << "chunk " << chunk);
      SchedulerBench bench({}, {.chunk_tokens_max = chunk});
      ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 20)));
      ASSERT_TRUE(bench.Submit(Embedding(2, MakePrompt(70, 3), pooling)));
      bench.RunToEnd();
      const RecordedRequest& recorded = bench.sink[RequestId{2}];
      EXPECT_TRUE(recorded.done->ok() && recorded.choices.empty());
      ASSERT_EQ(recorded.prompt->pooled.size(), 2u);
      if (whole.empty()) whole = recorded.prompt->pooled;
      EXPECT_EQ(recorded.prompt->pooled, whole);
      EXPECT_TRUE(bench.sink[RequestId{1}].prompt->pooled.empty());
      EXPECT_EQ(bench.scheduler->block_counts().held, 0);
    }
  }
}

TEST(SchedulerTest, TheLastTokensStateIsPooledBehindWhatIsFoundAndAMeanFindsAndKeepsNothing) {
  SchedulerBench bench({});
  const std::vector<TokenId> prompt = MakePrompt(50);
  ASSERT_TRUE(bench.Submit(Embedding(1, prompt, Pooling::kMean)));
  bench.RunToEnd();
  EXPECT_EQ(CachedTokens(bench.scheduler->store(), {}, prompt), 0);
  for (uint64_t id : {2, 3}) {
    ASSERT_TRUE(bench.Submit(Embedding(id, prompt, Pooling::kLast)));
    bench.RunToEnd();
  }
  EXPECT_EQ(bench.sink[RequestId{2}].prompt->cached_tokens, 0);
  EXPECT_EQ(bench.sink[RequestId{3}].prompt->cached_tokens, 48);
  EXPECT_EQ(bench.sink[RequestId{3}].prompt->pooled, bench.sink[RequestId{2}].prompt->pooled);
  ASSERT_TRUE(bench.Submit(Embedding(4, prompt, Pooling::kMean)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{4}].prompt->cached_tokens, 0);
  EXPECT_EQ(bench.sink[RequestId{4}].prompt->pooled, bench.sink[RequestId{1}].prompt->pooled);
}

TEST(SchedulerTest, AnEmbeddingWithoutAFiniteNumberEndsItsOwnRequestAlone) {
  SchedulerBench bench({});
  bench.engine.PoisonToken(999);
  std::vector<TokenId> bad = MakePrompt(20, 2);
  bad[10] = 999;
  ASSERT_TRUE(bench.Submit(Embedding(1, bad, Pooling::kMean)));
  ASSERT_TRUE(bench.Submit(Embedding(2, MakePrompt(20, 1), Pooling::kMean)));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{1}].done->code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(bench.sink[RequestId{1}].prompt.has_value());
  EXPECT_TRUE(bench.sink[RequestId{2}].done->ok());
}

TEST(SchedulerTest, AnEmbeddingThatIsCancelledInTheMidstOfItsPromptGivesItsBlocksBack) {
  SchedulerBench bench({}, {.chunk_tokens_max = 16});
  ASSERT_TRUE(bench.Submit(Embedding(1, MakePrompt(60), Pooling::kMean)));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Plan());
  bench.scheduler->Cancel(RequestId{1});
  bench.Finish();
  EXPECT_EQ(bench.sink[RequestId{1}].done->code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  EXPECT_TRUE(bench.scheduler->idle());
}

TEST(SchedulerTest, AnEmbeddingDrawsNothing) {
  SchedulerBench bench({});
  Request request = Embedding(1, MakePrompt(10), Pooling::kLast);
  request.max_tokens = 1;
  EXPECT_FALSE(bench.Submit(request));
  EXPECT_EQ(bench.sink[RequestId{1}].done->code(), absl::StatusCode::kInvalidArgument);
}

Request PromptScoring(uint64_t id, int32_t prompt_size, int32_t max_tokens) {
  Request request = MakeRequest(id, MakePrompt(prompt_size), max_tokens);
  request.prompt_top_logprobs = 1;
  return request;
}

TEST(SchedulerTest, PromptLogprobsComeOnceForTheWholePromptWhateverTheChunks) {
  std::optional<PromptEvent> first;
  for (int32_t chunk : {1, 7, 16, 64, 256}) {
    SCOPED_TRACE(testing::Message() << "chunk " << chunk);
    SchedulerBench bench({}, {.chunk_tokens_max = chunk});
    ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 2)));  // warms the cache
    bench.RunToEnd();
    ASSERT_TRUE(bench.Submit(PromptScoring(2, 50, 3)));
    bench.RunToEnd();
    const PromptEvent& prompt = *bench.sink[RequestId{2}].prompt;
    EXPECT_EQ(prompt.cached_tokens, 0);
    ASSERT_EQ(prompt.prompt_logprobs.size(), 49u);
    for (size_t i = 0; i < 49; ++i) {
      EXPECT_EQ(prompt.prompt_logprobs[i].chosen.token, MakePrompt(50)[i + 1]);
      EXPECT_EQ(prompt.prompt_logprobs[i].top.size(), 1u);
      if (first) {
        EXPECT_EQ(prompt.prompt_logprobs[i].chosen, first->prompt_logprobs[i].chosen);
        EXPECT_EQ(prompt.prompt_logprobs[i].top, first->prompt_logprobs[i].top);
      }
    }
    EXPECT_EQ(bench.sink[RequestId{2}].choices.at(0).tokens.size(), 3u);
    if (!first) first = prompt;
  }
}

TEST(SchedulerTest, AScoredPromptWithoutCompletionEndsAfterThePrompt) {
  for (int32_t size : {1, 16, 50}) {
    SchedulerBench bench({}, {.chunk_tokens_max = 20});
    Request request = PromptScoring(1, size, 0);
    request.num_choices = 2;
    ASSERT_TRUE(bench.Submit(request));
    bench.RunToEnd();
    const RecordedRequest& recorded = bench.sink[RequestId{1}];
    EXPECT_EQ(recorded.prompt->prompt_logprobs.size(), static_cast<size_t>(size) - 1);
    EXPECT_TRUE(recorded.choices.empty());
    EXPECT_TRUE(recorded.done->ok());
    EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  }
}

TEST(SchedulerTest, ACancelBetweenStepsEndsTheRequestAtOnce) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 20)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(50, 2), 20)));
  bench.scheduler->Cancel(RequestId{2});  // still waiting
  EXPECT_EQ(bench.sink[RequestId{2}].done->code(), absl::StatusCode::kCancelled);
  ASSERT_TRUE(bench.Step());
  bench.scheduler->Cancel(RequestId{1});
  EXPECT_EQ(bench.sink[RequestId{1}].done->code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  EXPECT_TRUE(bench.scheduler->idle());
  bench.scheduler->CheckInvariants();
}

TEST(SchedulerTest, ACancelDuringAStepDropsItsResultAndFreesTheBlocksWithIt) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 20)));
  ASSERT_TRUE(bench.Submit(PromptScoring(2, 40, 5)));
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  bench.scheduler->Cancel(RequestId{1});
  bench.scheduler->Cancel(RequestId{1});
  bench.scheduler->Cancel(RequestId{2});
  EXPECT_FALSE(bench.sink.done(RequestId{1}));
  EXPECT_GT(bench.scheduler->block_counts().held, 0);  // the engine still writes to them
  bench.Finish();
  EXPECT_EQ(bench.sink[RequestId{1}].done->code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(bench.sink[RequestId{1}].choices.empty());
  EXPECT_FALSE(bench.sink[RequestId{2}].prompt.has_value());
  EXPECT_EQ(bench.scheduler->block_counts(), (BlockCounts{.free = 64}));
  EXPECT_FALSE(bench.Step());
}

TEST(SchedulerTest, ACancelForSomeoneUnknownOrGoneDoesNothing) {
  SchedulerBench bench({});
  bench.scheduler->Cancel(RequestId{9});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(5), 1)));
  bench.RunToEnd();
  bench.scheduler->Cancel(RequestId{1});
  EXPECT_TRUE(bench.sink[RequestId{1}].done->ok());
}

TEST(SchedulerTest, ACancelTakesAllChoicesWithIt) {
  SchedulerBench bench({}, {.running_max = 2});
  Request request = MakeRequest(1, MakePrompt(20), 20);
  request.num_choices = 4;
  ASSERT_TRUE(bench.Submit(request));
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 2);
  EXPECT_EQ(bench.scheduler->num_waiting(), 2);
  bench.scheduler->Cancel(RequestId{1});
  EXPECT_TRUE(bench.scheduler->idle());
  bench.scheduler->CheckInvariants();
}

TEST(SchedulerTest, ARequestPastTheQueueIsShedAndTheRestGoOn) {
  SchedulerBench bench({}, {.running_max = 1, .waiting_max = 2});
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(bench.Submit(MakeRequest(id, {1, 2}, 2)));
  EXPECT_FALSE(bench.Submit(MakeRequest(4, {1, 2}, 2)));
  EXPECT_EQ(bench.sink[RequestId{4}].done->code(), absl::StatusCode::kResourceExhausted);
  bench.RunToEnd();
  for (uint64_t id = 1; id <= 3; ++id) EXPECT_TRUE(bench.sink[RequestId{id}].done->ok());
  EXPECT_TRUE(bench.Submit(MakeRequest(5, {1, 2}, 2)));
  bench.RunToEnd();
}

TEST(SchedulerTest, ATenantsBoundHoldsItsOwnRequestsAndNotOthers) {
  SchedulerOptions options;
  options.tenants = {{.name = "a", .running_max = 1, .waiting_max = 2}, {.name = "b"}};
  SchedulerBench bench({}, options);
  const auto submit = [&](uint64_t id, int32_t tenant, int32_t num_choices) {
    Request request = MakeRequest(id, MakePrompt(20, static_cast<TokenId>(id)), 4);
    request.tenant = TenantIndex{tenant};
    request.num_choices = num_choices;
    return bench.Submit(request);
  };
  ASSERT_TRUE(submit(1, 0, 2));
  ASSERT_TRUE(submit(2, 0, 1));
  ASSERT_TRUE(submit(3, 0, 1));
  EXPECT_FALSE(submit(4, 0, 1));  // one may run, two may wait
  ASSERT_TRUE(submit(5, 1, 1));
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 2);  // 1 of a, 5 of b
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.scheduler->num_running(), 3);  // the second choice of 1 counts with the first
  bench.RunToEnd();
  const std::vector<RequestId> expected = {RequestId{4}, RequestId{5}, RequestId{1}, RequestId{2},
                                           RequestId{3}};
  EXPECT_EQ(bench.sink.order_done(), expected);
  EXPECT_EQ(bench.sink[RequestId{4}].done->code(), absl::StatusCode::kResourceExhausted);
}

TEST(SchedulerTest, WhenTheEngineFailsAllEndAndTheCacheIsForgotten) {
  SchedulerBench bench({}, {.running_max = 2});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 2)));
  bench.RunToEnd();
  EXPECT_GT(bench.scheduler->block_counts().evictable, 0);
  for (uint64_t id = 2; id <= 4; ++id)
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(50), 9)));
  bench.engine.FailStep(bench.engine.num_steps() + 1);
  ASSERT_TRUE(bench.Step());
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  bench.scheduler->Cancel(RequestId{3});
  bench.Finish();
  for (uint64_t id = 2; id <= 4; ++id) {
    EXPECT_EQ(bench.sink[RequestId{id}].done->code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(bench.scheduler->block_counts(), (BlockCounts{.free = 64}));
  bench.scheduler->CheckInvariants();
  const Request after = MakeRequest(5, MakePrompt(50), 5);
  ASSERT_TRUE(bench.Submit(after));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{5}].prompt->cached_tokens, 0);
  EXPECT_EQ(bench.sink[RequestId{5}].choices, Alone(after));
}

TEST(SchedulerTest, AWarmDecodeStepAllocatesNoRowsAnew) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(50), 40)));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(bench.Step());
  const TokenId* tokens = bench.plan.tokens.data();
  const BlockId* blocks = bench.plan.blocks.data();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.plan.tokens.data(), tokens);
  EXPECT_EQ(bench.plan.blocks.data(), blocks);
  bench.RunToEnd();
}

}  // namespace
}  // namespace holdfast
