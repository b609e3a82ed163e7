// A step that is planned while the one before it runs.
#include <algorithm>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/step_forecast.h"
#include "tests/sim/scheduler_bench.h"
#include "tests/sim/sim_media.h"

namespace holdfast {
namespace {

constexpr RequestId kId{1};

Request Short(int32_t max_tokens) { return MakeRequest(1, MakePrompt(20), max_tokens); }

RecordedChoice Whole(const Request& request) {
  SchedulerBench bench({});
  CHECK(bench.Submit(request));
  bench.RunToEnd();
  return bench.sink[kId].choices.at(0);
}

TEST(PlanAheadTest, WhoIsBeingDrawnATokenGetsTheRowForItAndSaysWhatItSaysAnyway) {
  const Request request = Short(40);
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(request));
  int ahead = 0;
  while (bench.Plan()) {
    if (bench.PlanAhead()) {
      ++ahead;
      ASSERT_EQ(bench.next_plan.sequences.size(), 1u);
      const PlanSequence& part = bench.next_plan.sequences[0];
      EXPECT_EQ(part.draw, 0);
      EXPECT_EQ(part.num_tokens, 1);
      EXPECT_TRUE(part.samples);
    }
    bench.scheduler->CheckInvariants();
    bench.Finish();
    bench.scheduler->CheckInvariants();
  }
  EXPECT_GE(ahead, 30);
  EXPECT_EQ(bench.sink[kId].choices.at(0), Whole(request));
  EXPECT_EQ(bench.engine.num_rows(), 20 + 39);  // none in vain
}

TEST(PlanAheadTest, WhoEndsByLengthGetsNoRowBesideItsLast) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Short(1)));
  ASSERT_TRUE(bench.Plan());
  EXPECT_FALSE(bench.PlanAhead());
  bench.Finish();
  EXPECT_TRUE(bench.scheduler->idle());
}

TEST(PlanAheadTest, WhoEndsByAStopTokenIsOverAtOnceThoughOneMoreRowIsComputed) {
  Request request = Short(40);
  const RecordedChoice whole = Whole(request);
  request.stop_tokens = {whole.tokens[2]};
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(request));
  while (!bench.sink.done(kId)) {
    ASSERT_TRUE(bench.Plan());
    (void)bench.PlanAhead();
    bench.Finish();
    bench.scheduler->CheckInvariants();
  }
  EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), 3u);
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  ASSERT_TRUE(bench.scheduler->step_running());  // the row in vain
  bench.Finish();
  EXPECT_EQ(bench.sink[kId].choices.at(0).tokens.size(), 3u);
  EXPECT_TRUE(bench.scheduler->idle() && !bench.scheduler->step_running());
}

TEST(PlanAheadTest, ACancelTakesEffectWithTheNextCommitAlsoWhenTwoStepsRun) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Short(40)));
  ASSERT_TRUE(bench.Plan());
  ASSERT_TRUE(bench.PlanAhead());
  bench.scheduler->Cancel(kId);
  EXPECT_FALSE(bench.sink.done(kId));
  bench.Finish();
  ASSERT_TRUE(bench.sink.done(kId));
  EXPECT_EQ(bench.sink[kId].done->code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(bench.scheduler->block_counts().held, 0);
  bench.Finish();
  bench.scheduler->CheckInvariants();
  EXPECT_TRUE(bench.sink[kId].choices.empty());
}

TEST(PlanAheadTest, AllThatRunsEndsWithAStepThatFails) {
  SchedulerBench bench({});
  ASSERT_TRUE(bench.Submit(Short(40)));
  ASSERT_TRUE(bench.Plan());
  ASSERT_TRUE(bench.PlanAhead());
  bench.engine.FailStep(0);
  bench.Finish();
  ASSERT_TRUE(bench.sink.done(kId));
  EXPECT_EQ(bench.sink[kId].done->code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(bench.scheduler->step_running());
  ASSERT_TRUE(bench.Submit(MakeRequest(2, MakePrompt(5), 2)));
  bench.RunToEnd();
  EXPECT_TRUE(bench.sink[RequestId{2}].done->ok());
}

TEST(PlanAheadTest, ARestoreIntoWhatAStepMayStillReadWaitsForThatStep) {
  SimTier host(TierKind::kHost, 64);
  SchedulerOptions options;
  options.kv.host = &host;
  options.kv.low_water = 1.0;
  SchedulerBench bench({.context_tokens = 128, .num_blocks = 8}, options);
  SimMover mover(bench.engine, &host, nullptr, 1, 0);
  bench.UseMover(mover);
  const auto serve = [&](uint64_t id, TokenId from) {
    CHECK(bench.Submit(MakeRequest(id, MakePrompt(60, from), 2)));
    bench.RunToEnd();
  };
  serve(1, 0);
  serve(2, 1);
  serve(3, 2);  // the first one's blocks had to go
  ASSERT_TRUE(bench.Submit(MakeRequest(4, MakePrompt(10, 7), 20)));
  ASSERT_TRUE(bench.Plan());
  ASSERT_TRUE(bench.Submit(MakeRequest(5, MakePrompt(60, 0), 2)));
  const auto num_restores = [&](const std::vector<MoveJob>& jobs) {
    return std::count_if(jobs.begin(), jobs.end(),
                         [](const MoveJob& job) { return job.kind == MoveKind::kRestore; });
  };
  ASSERT_TRUE(bench.scheduler->Plan(bench.now, bench.next_plan));
  bench.has_next = true;
  std::vector<MoveJob> jobs;
  bench.scheduler->TakeMoves(jobs);
  EXPECT_EQ(num_restores(jobs), 0);
  mover.Take(jobs);
  bench.Finish();
  bench.scheduler->TakeMoves(jobs);
  EXPECT_GT(num_restores(jobs), 0);
  mover.Take(jobs);
  bench.RunToEnd();
  EXPECT_EQ(bench.sink[RequestId{5}].prompt->cached_tokens, 48);
  EXPECT_EQ(bench.sink[RequestId{5}].choices.at(0), bench.sink[RequestId{1}].choices.at(0));
}

// Three that draw tokens in seven blocks, until one can grow only at the cost of the last.
struct Full {
  Full() : bench({.context_tokens = 112, .num_blocks = 7}) {
    for (uint64_t id = 1; id <= 3; ++id) {
      CHECK(bench.Submit(MakeRequest(id, MakePrompt(10, static_cast<TokenId>(id)), 60)));
    }
    while (bench.scheduler->num_running() < 3 || bench.plan.tokens.size() != 3) {
      CHECK(bench.Step());
    }
  }
  // Runs a step, and plans beside it whenever that may be; whether the last one was sent back then.
  bool PlanBesideSendsBackTheLast() {
    CHECK(bench.Plan());
    bench.PlanAhead();
    return bench.scheduler->num_running() < 3;
  }
  SchedulerBench bench;
};

TEST(PlanAheadTest, WhoseEndIsAwaitedIsNotSentBackByThePlanBesideIt) {
  int32_t steps = 0;
  {
    Full full;
    while (!full.PlanBesideSendsBackTheLast()) {
      full.bench.Finish();
      ASSERT_LT(++steps, 100);
    }
  }
  for (const bool cancels : {false, true}) {
    Full full;
    for (int32_t i = 0; i < steps; ++i) {
      ASSERT_FALSE(full.PlanBesideSendsBackTheLast());
      full.bench.Finish();
    }
    ASSERT_TRUE(full.bench.Plan());
    if (cancels) full.bench.scheduler->Cancel(RequestId{3});
    full.bench.scheduler->StopChoice(RequestId{3}, 0);
    full.bench.PlanAhead();
    if (cancels) full.bench.scheduler->StopChoice(RequestId{3}, 0);
    full.bench.Finish();
    full.bench.scheduler->CheckInvariants();
    ASSERT_TRUE(full.bench.sink.done(RequestId{3}));
    full.bench.RunToEnd();
    EXPECT_EQ(full.bench.sink.order_done().size(), 3u);
  }
}

TEST(StepForecastTest, AStepOfDecodesTakesAsLongAsTheLastOfAboutAsMany) {
  StepForecast forecast;
  EXPECT_EQ(forecast.Of({.decode_rows = 16}), std::nullopt);
  forecast.OnStep({.decode_rows = 16}, absl::Milliseconds(9));
  EXPECT_EQ(forecast.Of({.decode_rows = 18}), absl::Milliseconds(9));
  EXPECT_EQ(forecast.Of({.decode_rows = 19}), std::nullopt);
  EXPECT_EQ(forecast.Of({.decode_rows = 13}), std::nullopt);
}

TEST(StepForecastTest, OfPrefillsNothingIsTold) {
  StepForecast forecast;
  forecast.OnStep({.decode_rows = 4}, absl::Milliseconds(5));
  forecast.OnStep({.decode_rows = 4, .prefill_rows = 100}, absl::Milliseconds(300));
  EXPECT_EQ(forecast.Of({.decode_rows = 4}), absl::Milliseconds(5));
  EXPECT_EQ(forecast.Of({.decode_rows = 4, .prefill_rows = 100}), std::nullopt);
}

}  // namespace
}  // namespace holdfast
