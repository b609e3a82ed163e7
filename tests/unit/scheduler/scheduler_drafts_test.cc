// Drafts in the scheduler: who gets rows for them, what comes of them, and that no answer changes.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

constexpr RequestId kId{1};

// Text that goes round in a circle of twelve tokens, seven times of eight or always.
FakeEngineOptions Repeating(int32_t of_8 = 7) {
  return {.num_blocks = 64, .repeats_of_8 = of_8, .repeat_period = 12};
}
SchedulerOptions Drafting(Speculation speculation = Speculation::kAlways) {
  return {.speculation = speculation, .draft_tokens_max = 6};
}

// Its prompt has gone round twice.
Request Circling(uint64_t id, int32_t max_tokens) {
  Request request = MakeRequest(id, MakePrompt(12, static_cast<TokenId>(id)), max_tokens);
  const std::vector<TokenId> once = request.prompt;
  request.prompt.insert(request.prompt.end(), once.begin(), once.end());
  request.sampling.top_logprobs = 2;
  request.sampling.seed = id;
  return request;
}

RecordedChoice Alone(const FakeEngineOptions& engine, Request request) {
  SchedulerBench bench(engine, {.prefix_cache = false});
  const RequestId id = request.id;
  CHECK(bench.Submit(std::move(request)));
  bench.RunToEnd();
  return bench.sink[id].choices.at(0);
}

double Drafted(const SchedulerBench& bench) {
  return MetricValues(bench.registry).Sum("holdfast_scheduler_draft_tokens_total");
}
double Accepted(const SchedulerBench& bench) {
  return MetricValues(bench.registry).Sum("holdfast_scheduler_accepted_draft_tokens_total");
}

// Plans until a step has at least so many of the first sequence.
void PlanDrafts(SchedulerBench& bench, int32_t at_least = 1) {
  CHECK(bench.Plan());
  while (bench.plan.sequences[0].num_drafts < at_least) {
    bench.Finish();
    CHECK(bench.Plan());
  }
}

TEST(SchedulerDraftsTest, SeveralTokensComeOfAStepAndTheAnswerIsTheSame) {
  const Request request = Circling(1, 100);
  SchedulerBench bench(Repeating(), Drafting());
  ASSERT_TRUE(bench.Submit(request));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices.at(0), Alone(Repeating(), request));
  EXPECT_LT(bench.engine.num_steps(), 60);
  EXPECT_EQ(Drafted(bench), bench.engine.num_drafts());
  EXPECT_EQ(Accepted(bench), 100 - bench.engine.num_steps());
  EXPECT_LT(Accepted(bench), Drafted(bench));  // some were wrong
}

TEST(SchedulerDraftsTest, NoneAreComputedWhereTheyAreOff) {
  SchedulerBench bench(Repeating(8), Drafting(Speculation::kOff));
  ASSERT_TRUE(bench.Submit(Circling(1, 50)));
  bench.RunToEnd();
  EXPECT_EQ(bench.engine.num_drafts(), 0);
  EXPECT_EQ(bench.engine.num_steps(), 50);
}

TEST(SchedulerDraftsTest, TextThatDoesNotRepeatHasNone) {
  SchedulerBench bench(Repeating(0), Drafting());
  ASSERT_TRUE(bench.Submit(MakeRequest(1, MakePrompt(40), 50)));
  bench.RunToEnd();
  EXPECT_EQ(bench.engine.num_drafts(), 0);
}

TEST(SchedulerDraftsTest, NoneGoBeyondMaxTokensOrTheContext) {
  for (const int32_t max_tokens : {1, 2, 3, 5, 30, 256 - 24}) {
    const Request request = Circling(1, max_tokens);
    SchedulerBench bench(Repeating(8), Drafting());
    ASSERT_TRUE(bench.Submit(request));
    int64_t rows_max = 24 + max_tokens - 1;  // of tokens that anybody could want
    bench.RunToEnd();
    EXPECT_EQ(bench.sink[kId].choices.at(0), Alone(Repeating(8), request));
    EXPECT_EQ(bench.sink[kId].choices.at(0).end, SequenceEnd::kLength);
    EXPECT_EQ(bench.engine.num_rows(), rows_max) << max_tokens;
  }
}

TEST(SchedulerDraftsTest, AStopTokenAmongThoseThatWereRightEndsTheAnswerThere) {
  Request request = Circling(1, 100);
  request.stop_tokens = {request.prompt[8]};
  const RecordedChoice alone = Alone(Repeating(8), request);
  ASSERT_EQ(alone.end, SequenceEnd::kStopToken);
  SchedulerBench bench(Repeating(8), Drafting());
  ASSERT_TRUE(bench.Submit(request));
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices.at(0), alone);
  EXPECT_GT(bench.engine.num_drafts(), 0);
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
}

TEST(SchedulerDraftsTest, AChoiceThatIsStoppedOrCancelledMeanwhileDropsAllThatTheStepDraws) {
  for (const bool cancel : {false, true}) {
    SchedulerBench bench(Repeating(8), Drafting());
    ASSERT_TRUE(bench.Submit(Circling(1, 100)));
    PlanDrafts(bench);
    const size_t before = bench.sink[kId].choices.at(0).tokens.size();
    if (cancel) {
      bench.scheduler->Cancel(kId);
    } else {
      bench.scheduler->StopChoice(kId, 0);
    }
    bench.Finish();
    EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), before);
    EXPECT_TRUE(bench.sink.done(kId));
    EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  }
}

// What is published after wrong drafts is what the right tokens have, or who finds it says other
// things.
TEST(SchedulerDraftsTest, KvOfWrongDraftsIsNeverFound) {
  SchedulerBench bench(Repeating(6), Drafting());
  Request first = Circling(1, 90);
  ASSERT_TRUE(bench.Submit(first));
  bench.RunToEnd();
  ASSERT_LT(Accepted(bench), Drafted(bench));
  Request next = Circling(2, 40);
  next.prompt = first.prompt;
  const std::vector<TokenId>& said = bench.sink[kId].choices.at(0).tokens;
  next.prompt.insert(next.prompt.end(), said.begin(), said.end());
  ASSERT_TRUE(bench.Submit(next));
  bench.RunToEnd();
  EXPECT_GE(bench.sink[next.id].prompt->cached_tokens, 96);
  EXPECT_EQ(bench.sink[next.id].choices.at(0), Alone(Repeating(6), next));
}

TEST(SchedulerDraftsTest, DraftsHaveRoomInTheBlocksOfTheirSequenceAndTakeNone) {
  SchedulerBench bench(Repeating(8), Drafting());
  ASSERT_TRUE(bench.Submit(Circling(1, 100)));
  while (bench.Plan()) {
    for (const PlanSequence& part : bench.plan.sequences) {
      const int32_t needed = part.first_position + part.num_tokens - part.num_drafts;
      EXPECT_EQ(part.num_blocks, BlocksFor(needed));
    }
    EXPECT_EQ(bench.scheduler->block_counts().held,
              bench.plan.sequences.empty() ? 0 : bench.plan.sequences[0].num_blocks);
    bench.Finish();
  }
}

TEST(SchedulerDraftsTest, TheyAreWhatTheStepsBudgetLeavesAndOthersRowsAreInPlace) {
  SchedulerOptions options = Drafting();
  options.step_tokens_max = 8;
  SchedulerBench bench(Repeating(), options);
  std::vector<Request> requests;
  for (uint64_t id = 1; id <= 5; ++id) {
    requests.push_back(Circling(id, 60));
    ASSERT_TRUE(bench.Submit(requests.back()));
  }
  bool all_with_some = false;
  while (bench.Plan()) {
    EXPECT_LE(bench.plan.tokens.size(), 8u);
    const auto drafting = std::count_if(bench.plan.sequences.begin(), bench.plan.sequences.end(),
                                        [](const PlanSequence& s) { return s.num_drafts > 0; });
    all_with_some |= drafting > 0 && bench.plan.sequences.size() == 5;
    bench.Finish();
    bench.scheduler->CheckInvariants();
  }
  EXPECT_TRUE(all_with_some);
  for (const Request& request : requests) {
    EXPECT_EQ(bench.sink[request.id].choices.at(0), Alone(Repeating(), request));
  }
}

TEST(SchedulerDraftsTest, NoneIsPlannedBesideAStepWithDraftsAndOthersArePlannedAheadAgain) {
  SchedulerBench bench(Repeating(), Drafting());
  ASSERT_TRUE(bench.Submit(Circling(1, 60)));
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(30, 5), 120)));
  int with_drafts = 0, ahead = 0;
  while (bench.Plan()) {
    const bool drafts = std::any_of(bench.plan.sequences.begin(), bench.plan.sequences.end(),
                                    [](const PlanSequence& s) { return s.num_drafts > 0; });
    with_drafts += drafts;
    EXPECT_FALSE(drafts && bench.scheduler->may_plan());
    ahead += bench.PlanAhead();
    bench.Finish();
  }
  EXPECT_GT(with_drafts, 5);
  EXPECT_GT(ahead, 10);
  EXPECT_EQ(bench.sink[kId].choices.at(0), Alone(Repeating(), Circling(1, 60)));
}

TEST(SchedulerDraftsTest, ARightDraftForWhichThereIsNoNumberEndsTheRequestAndThoseBeforeItCount) {
  SchedulerBench bench(Repeating(8), Drafting());
  const Request request = Circling(1, 100);
  ASSERT_TRUE(bench.Submit(request));
  PlanDrafts(bench, 3);
  const PlanSequence& part = bench.plan.sequences[0];
  const size_t before = bench.sink[kId].choices.at(0).tokens.size();
  bench.engine.PoisonToken(bench.plan.TokensOf(part)[2]);
  bench.Finish();
  EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), before + 2);
  ASSERT_TRUE(bench.sink.done(kId));
  EXPECT_EQ(bench.sink[kId].done->code(), absl::StatusCode::kInternal);
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
}

TEST(SchedulerDraftsTest, ATenantIsChargedARowOfAPromptForEachDraftAndNothingForTheTokenOfOne) {
  SchedulerOptions options = Drafting();
  options.tenants = {{.name = "a"}, {.name = "b"}};
  SchedulerBench bench(Repeating(), options);
  ASSERT_TRUE(bench.Submit(Circling(1, 60)));
  bench.RunToEnd();
  const double drafted = Drafted(bench), accepted = Accepted(bench);
  ASSERT_GT(accepted, 10);
  // 24 of the prompt; the last token drawn is computed by nobody.
  EXPECT_DOUBLE_EQ(bench.scheduler->served(TenantIndex{0}), 24 + 2 * (59 - accepted) + drafted);
}

TEST(SchedulerDraftsTest, AutoDraftsOnceRowsAreKnownToBeCheapAndGuessesToBeRight) {
  for (const bool cheap : {true, false}) {
    SchedulerBench bench(Repeating(8), Drafting(Speculation::kAuto));
    ASSERT_TRUE(bench.Submit(Circling(1, 200)));
    while (bench.Plan()) {
      const auto rows = static_cast<double>(bench.plan.tokens.size());
      bench.now += absl::Milliseconds(cheap ? rows : 20 * rows - 10);  // and 10 by the bench
      bench.Finish();
    }
    if (cheap) {
      EXPECT_GT(Accepted(bench), 100);
    } else {
      EXPECT_LT(Drafted(bench), 40);  // tried, and left
    }
  }
}

TEST(SchedulerDraftsTest, PromptsThatFillAStepLeaveNoRoomForDrafts) {
  SchedulerOptions options = Drafting();
  options.step_tokens_max = 40;
  SchedulerBench bench(Repeating(8), options);
  ASSERT_TRUE(bench.Submit(Circling(1, 100)));
  PlanDrafts(bench);
  bench.Finish();
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(60, 9), 2)));
  ASSERT_TRUE(bench.Plan());
  ASSERT_EQ(bench.plan.tokens.size(), 40u);
  for (const PlanSequence& part : bench.plan.sequences) EXPECT_EQ(part.num_drafts, 0);
  bench.Finish();
  bench.RunToEnd();
}

}  // namespace
}  // namespace holdfast
