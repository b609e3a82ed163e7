// One choice of a request that has said enough, while its siblings go on.
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

constexpr RequestId kId{1};

Request TwoChoices(int32_t max_tokens = 12) {
  Request request = MakeRequest(1, MakePrompt(40), max_tokens);
  request.num_choices = 2;
  return request;
}

std::map<int32_t, RecordedChoice> Whole(const Request& request) {
  SchedulerBench bench({});
  CHECK(bench.Submit(request));
  bench.RunToEnd();
  return bench.sink[kId].choices;
}

// Steps until both choices have `count` tokens or more.
void StepToTokens(SchedulerBench& bench, size_t count) {
  while (bench.sink[kId].choices.size() < 2 ||
         bench.sink[kId].choices.at(0).tokens.size() < count ||
         bench.sink[kId].choices.at(1).tokens.size() < count) {
    ASSERT_TRUE(bench.Step());
  }
}

TEST(StopChoiceTest, BetweenStepsItEndsAtOnceAndItsSiblingSaysTheSame) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(TwoChoices()));
  StepToTokens(bench, 2);
  const size_t tokens = bench.sink[kId].choices.at(0).tokens.size();
  const int32_t held = bench.scheduler->block_counts().held;
  bench.scheduler->StopChoice(kId, 0);
  bench.scheduler->StopChoice(kId, 0);  // twice
  EXPECT_EQ(bench.scheduler->num_running(), 1);
  EXPECT_LT(bench.scheduler->block_counts().held, held);
  bench.scheduler->CheckInvariants();
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), tokens);
  EXPECT_FALSE(bench.sink[kId].choices.at(0).end.has_value());
  EXPECT_EQ(bench.sink[kId].choices.at(1), Whole(TwoChoices()).at(1));
  EXPECT_TRUE(bench.sink[kId].done->ok());
}

TEST(StopChoiceTest, DuringAStepTheTokenOfThatStepIsDropped) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(TwoChoices()));
  StepToTokens(bench, 2);
  const size_t tokens = bench.sink[kId].choices.at(1).tokens.size();
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  bench.scheduler->StopChoice(kId, 1);
  EXPECT_EQ(bench.scheduler->num_running(), 2);  // its blocks are lent to the step
  bench.Finish();
  EXPECT_EQ(bench.scheduler->num_running(), 1);
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices.at(1).tokens.size(), tokens);
  EXPECT_EQ(bench.sink[kId].choices.at(0), Whole(TwoChoices()).at(0));
  EXPECT_TRUE(bench.sink[kId].done->ok());
}

TEST(StopChoiceTest, ItsRowsAreNoLongerComputed) {
  SchedulerBench both({}), stopped({});
  ASSERT_TRUE(both.Submit(TwoChoices(30)));
  both.RunToEnd();
  ASSERT_TRUE(stopped.Submit(TwoChoices(30)));
  StepToTokens(stopped, 2);
  stopped.scheduler->StopChoice(kId, 1);
  stopped.RunToEnd();
  EXPECT_EQ(both.engine.num_rows() - stopped.engine.num_rows(), 28);
}

TEST(StopChoiceTest, TheLastOneEndsTheRequestWell) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(TwoChoices()));
  StepToTokens(bench, 1);
  bench.scheduler->StopChoice(kId, 1);
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  bench.scheduler->StopChoice(kId, 0);
  bench.Finish();
  EXPECT_TRUE(bench.scheduler->idle());
  EXPECT_TRUE(bench.sink[kId].done->ok());
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
}

TEST(StopChoiceTest, APreemptedOneLeavesTheQueue) {
  // Two sequences of 3 blocks fit with one to spare; both need a fourth.
  SchedulerBench bench({.context_tokens = 96, .num_blocks = 7}, {.prefix_cache = false});
  ASSERT_TRUE(bench.Submit(TwoChoices(40)));
  StepToTokens(bench, 1);
  while (bench.scheduler->num_waiting() == 0) ASSERT_TRUE(bench.Step());
  bench.scheduler->StopChoice(kId, 1);
  EXPECT_EQ(bench.scheduler->num_waiting(), 0);
  bench.scheduler->CheckInvariants();
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), 40u);
}

TEST(StopChoiceTest, WithoutATokenOrForSomeoneUnknownNothingHappens) {
  SchedulerBench bench({}, {.chunk_tokens_max = 16});
  ASSERT_TRUE(bench.Submit(TwoChoices()));
  bench.scheduler->StopChoice(kId, 0);
  ASSERT_TRUE(bench.Step());
  for (const int32_t choice : {-1, 0, 1, 2}) bench.scheduler->StopChoice(kId, choice);
  bench.scheduler->StopChoice(RequestId{9}, 0);
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[kId].choices, Whole(TwoChoices()));
  bench.scheduler->StopChoice(kId, 0);  // gone
}

TEST(StopChoiceTest, ACancelOfTheRequestInTheSameStepWins) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(TwoChoices()));
  StepToTokens(bench, 1);
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.plan));
  bench.scheduler->StopChoice(kId, 0);
  bench.scheduler->Cancel(kId);
  bench.scheduler->StopChoice(kId, 1);
  bench.Finish();
  EXPECT_EQ(bench.sink[kId].done->code(), absl::StatusCode::kCancelled);
  bench.scheduler->CheckInvariants();
}

}  // namespace
}  // namespace holdfast
