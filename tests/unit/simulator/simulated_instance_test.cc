#include "simulator/simulated_instance.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/simulator/workload_of_turns.h"

namespace holdfast {
namespace {

constexpr int64_t kMicros = 1000;

struct Outcome {
  std::vector<TurnRecord> turns;
  Tally tally{0};
};

Outcome RunAll(const Workload& workload, const InstanceOptions& options) {
  Outcome outcome;
  auto instance = SimulatedInstance::Create(
      workload, options, [&](const TurnRecord& turn) { outcome.turns.push_back(turn); });
  EXPECT_TRUE(instance.ok()) << instance.status();
  for (size_t i = 0; i < workload.programs.size(); ++i) {
    (*instance)->AddProgram(static_cast<int32_t>(i));
  }
  (*instance)->RunToEnd();
  (*instance)->scheduler().CheckInvariants();
  outcome.tally = (*instance)->TakeTally();
  return outcome;
}

// a: 32 tokens, 3 to make, at 0.    b: 16 tokens, 2 to make, at 5 ms.
//   0.0 ms  a's prompt                  10 + 3.2      = 13.2 ms   a's first token
//  13.2 ms  a's 2nd, b's prompt         10 + 1 + 1.6  = 12.6 ms   b's first token
//  25.8 ms  a's 3rd, b's 2nd            10 + 2        = 12   ms   both end
TEST(SimulatedInstanceTest, StepsTakeWhatTheProfileSays) {
  const Workload workload = WorkloadOf(
      {OneTurn(absl::ZeroDuration(), 1, 32, 3), OneTurn(absl::Milliseconds(5), 2, 16, 2)});
  const Outcome outcome = RunAll(workload, SmallInstance());
  ASSERT_EQ(outcome.turns.size(), 2u);
  const TurnRecord& a = outcome.turns[0];
  EXPECT_EQ(a.program, 0);
  EXPECT_EQ(a.arrival_nanos, 0);
  EXPECT_EQ(a.scheduled_nanos, 0);
  EXPECT_EQ(a.first_token_nanos, 13'200 * kMicros);
  EXPECT_EQ(a.end_nanos, 37'800 * kMicros);
  EXPECT_EQ(a.completion_tokens, 3);
  const TurnRecord& b = outcome.turns[1];
  EXPECT_EQ(b.arrival_nanos, 5'000 * kMicros);
  EXPECT_EQ(b.scheduled_nanos, 13'200 * kMicros);
  EXPECT_EQ(b.first_token_nanos, 25'800 * kMicros);
  EXPECT_EQ(b.end_nanos, 37'800 * kMicros);
  EXPECT_EQ(outcome.tally.steps, 3);
  EXPECT_EQ(outcome.tally.rows, 32 + 1 + 16 + 2);
  EXPECT_EQ(outcome.tally.busy_nanos, 37'800 * kMicros);
  EXPECT_EQ(outcome.tally.end_nanos, 37'800 * kMicros);
  EXPECT_EQ(outcome.tally.tenants[0].itl.count(), 3);
  EXPECT_EQ(outcome.tally.tenants[0].itl.max(), 12'600 * kMicros);
}

TEST(SimulatedInstanceTest, TheTimeBetweenStepsPassesToo) {
  InstanceOptions options = SmallInstance();
  options.profile.between_steps_seconds = 1e-3;
  const Outcome outcome = RunAll(WorkloadOf({OneTurn(absl::ZeroDuration(), 1, 32, 1)}), options);
  EXPECT_EQ(outcome.turns[0].end_nanos, 14'200 * kMicros);
}

TEST(SimulatedInstanceTest, EachTokenTakesTheTimeOfServingIt) {
  InstanceOptions options = SmallInstance();
  options.profile.token_seconds = 1e-3;
  const Workload workload = WorkloadOf(
      {OneTurn(absl::ZeroDuration(), 1, 32, 2), OneTurn(absl::ZeroDuration(), 2, 16, 2)});
  const Outcome outcome = RunAll(workload, options);
  // Two ends of prompts, then two decodes.
  EXPECT_EQ(outcome.tally.end_nanos, (10'000 + 4'800 + 2'000 + 10'000 + 2'000 + 2'000) * kMicros);
}

TEST(SimulatedInstanceTest, TheFirstStepAfterAPauseTakesMore) {
  InstanceOptions options = SmallInstance();
  options.profile.after_pause_seconds = 5e-3;
  // At once after the first one's end, and a pause later.
  const Workload workload = WorkloadOf({OneTurn(absl::ZeroDuration(), 1, 32, 1),
                                        OneTurn(absl::Milliseconds(19), 2, 32, 1),
                                        OneTurn(absl::Milliseconds(119), 3, 32, 1)});
  const Outcome outcome = RunAll(workload, options);
  ASSERT_EQ(outcome.turns.size(), 3u);
  EXPECT_EQ(outcome.turns[0].end_nanos, 18'200 * kMicros);
  EXPECT_EQ(outcome.turns[1].end_nanos, (19'000 + 13'200) * kMicros);
  EXPECT_EQ(outcome.turns[2].end_nanos, (119'000 + 18'200) * kMicros);
}

TEST(SimulatedInstanceTest, ATurnFindsTheKvOfTheOneBefore) {
  WorkloadProgram program = OneTurn(absl::ZeroDuration(), 1, 60, 5);
  program.turns.push_back(NextTurn(program, absl::Seconds(2), 2, 10, 1));
  const Outcome outcome = RunAll(WorkloadOf({program}), SmallInstance());
  ASSERT_EQ(outcome.turns.size(), 2u);
  const TurnRecord& next = outcome.turns[1];
  EXPECT_EQ(next.arrival_nanos, outcome.turns[0].end_nanos + 2'000'000 * kMicros);
  EXPECT_EQ(next.prompt_tokens, 75);
  EXPECT_EQ(next.kept_tokens, 65);
  EXPECT_EQ(next.cached_tokens, 64);  // whole blocks of the 64 that were computed
  EXPECT_EQ(outcome.tally.tenants[0].kept_recomputed_tokens, 1);
  EXPECT_EQ(outcome.tally.tenants[0].job.max(), next.end_nanos);
}

TEST(SimulatedInstanceTest, RunsThatAreSharedAreComputedOnce) {
  WorkloadProgram first = OneTurn(absl::ZeroDuration(), 7, 64, 1);
  WorkloadProgram second = OneTurn(absl::Seconds(1), 7, 64, 1);
  second.turns[0].runs.push_back({.id = 8, .num_tokens = 10});
  const Outcome outcome = RunAll(WorkloadOf({first, second}), SmallInstance());
  EXPECT_EQ(outcome.turns[0].cached_tokens, 0);
  EXPECT_EQ(outcome.turns[1].cached_tokens, 64);
}

TEST(SimulatedInstanceTest, TenantsShareNothing) {
  WorkloadProgram first = OneTurn(absl::ZeroDuration(), 7, 64, 1);
  WorkloadProgram second = OneTurn(absl::Seconds(1), 7, 65, 1);
  second.tenant = 1;
  const Outcome outcome = RunAll(WorkloadOf({first, second}, 2), SmallInstance());
  EXPECT_EQ(outcome.turns[1].cached_tokens, 0);
}

TEST(SimulatedInstanceTest, ProgramsWhoseTurnIsTooLongAreOver) {
  WorkloadProgram program = OneTurn(absl::ZeroDuration(), 1, 60, 5);
  program.turns.push_back(NextTurn(program, absl::Seconds(1), 2, 500, 1));
  program.turns.push_back(NextTurn(program, absl::Seconds(1), 3, 1, 1));
  const Outcome outcome = RunAll(WorkloadOf({program}), SmallInstance());
  ASSERT_EQ(outcome.turns.size(), 3u);
  EXPECT_EQ(outcome.turns[0].end, TurnEnd::kDone);
  EXPECT_EQ(outcome.turns[1].end, TurnEnd::kRefused);
  EXPECT_EQ(outcome.turns[2].end, TurnEnd::kAbandoned);
  const TenantTally& tenant = outcome.tally.tenants[0];
  EXPECT_EQ(tenant.turns_done, 1);
  EXPECT_EQ(tenant.turns_refused, 1);
  EXPECT_EQ(tenant.turns_abandoned, 1);
  EXPECT_EQ(tenant.programs_cut, 1);
  EXPECT_EQ(tenant.programs_done, 0);
}

TEST(SimulatedInstanceTest, ATurnIsCancelledWhenItsClientsPatienceIsOver) {
  WorkloadProgram leaves = OneTurn(absl::ZeroDuration(), 1, 32, 100);
  leaves.turns[0].patience = absl::Milliseconds(40);
  leaves.turns.push_back(NextTurn(leaves, absl::Seconds(1), 2, 10, 1));
  WorkloadProgram stays = OneTurn(absl::Milliseconds(1), 3, 16, 2);
  stays.turns[0].patience = absl::Minutes(1);
  const Outcome outcome = RunAll(WorkloadOf({leaves, stays}), SmallInstance());
  const TenantTally& tenant = outcome.tally.tenants[0];
  EXPECT_EQ(tenant.turns_cancelled, 1);
  EXPECT_EQ(tenant.turns_abandoned, 1);
  EXPECT_EQ(tenant.turns_done, 1);
  EXPECT_EQ(outcome.turns[1].end, TurnEnd::kCancelled);
  EXPECT_GE(outcome.turns[1].end_nanos, 40'000 * kMicros);
  EXPECT_LT(outcome.turns[1].end_nanos, 60'000 * kMicros);  // with the step that ran
}

TEST(SimulatedInstanceTest, WhatIsNotTakenIsRefusedAndTheOthersGoOn) {
  InstanceOptions options = SmallInstance();
  options.scheduler.running_max = 1;
  options.scheduler.waiting_max = 1;
  std::vector<WorkloadProgram> programs;
  for (uint64_t i = 0; i < 4; ++i) programs.push_back(OneTurn(absl::ZeroDuration(), i, 16, 2));
  const Outcome outcome = RunAll(WorkloadOf(std::move(programs)), options);
  EXPECT_EQ(outcome.tally.tenants[0].turns_done, 2);
  EXPECT_EQ(outcome.tally.tenants[0].turns_refused, 2);
}

TEST(SimulatedInstanceTest, TurnsThatKeepTheSloAreGood) {
  InstanceOptions options = SmallInstance();
  options.slo.ttft_nanos = 13'200 * kMicros;
  const Workload workload = WorkloadOf(
      {OneTurn(absl::ZeroDuration(), 1, 32, 3), OneTurn(absl::Milliseconds(5), 2, 16, 2)});
  EXPECT_EQ(RunAll(workload, options).tally.tenants[0].turns_good, 1);
  options.slo.e2e_nanos = 37'800 * kMicros - 1;
  EXPECT_EQ(RunAll(workload, options).tally.tenants[0].turns_good, 0);
}

TEST(SimulatedInstanceTest, RetainedKvOutlivesTheWaitForATool) {
  // The others take all other blocks while the first waits.
  WorkloadProgram agent = OneTurn(absl::ZeroDuration(), 1, 100, 4);
  agent.turns.push_back(NextTurn(agent, absl::Seconds(10), 2, 10, 1));
  const Workload workload = WorkloadOf(
      {agent, OneTurn(absl::Seconds(1), 3, 300, 20), OneTurn(absl::Seconds(5), 4, 300, 20)});
  InstanceOptions options = SmallInstance();
  options.engine.num_blocks = 34;
  EXPECT_LT(RunAll(workload, options).turns.back().cached_tokens, 50);
  options.retain = absl::Minutes(1);
  EXPECT_EQ(RunAll(workload, options).turns.back().cached_tokens, 103);
}

TEST(SimulatedInstanceTest, HostMemoryBringsBackWhatWasPushedOut) {
  WorkloadProgram agent = OneTurn(absl::ZeroDuration(), 1, 100, 4);
  agent.turns.push_back(NextTurn(agent, absl::Seconds(10), 2, 10, 1));
  const Workload workload = WorkloadOf(
      {agent, OneTurn(absl::Seconds(1), 3, 300, 20), OneTurn(absl::Seconds(5), 4, 300, 20)});
  InstanceOptions options = SmallInstance();
  options.engine.num_blocks = 34;
  options.host_blocks = 200;
  options.scheduler.kv.low_water = 1.0;  // all is copied ahead
  options.profile.host = {
      .restore_bytes_per_second = 1e6, .store_bytes_per_second = 1e6, .block_seconds = 1e-3};
  const Outcome outcome = RunAll(workload, options);
  EXPECT_EQ(outcome.turns.back().cached_tokens, 96);
  EXPECT_GE(outcome.tally.restores, 1);
  EXPECT_GT(outcome.turns.back().scheduled_nanos, outcome.turns.back().arrival_nanos);
}

// What holds of any workload on any instance.
class AnyWorkload : public testing::TestWithParam<uint32_t> {
 protected:
  InstanceOptions Options() const {
    InstanceOptions options = SmallInstance();
    options.engine.num_blocks = 32 + static_cast<int32_t>(GetParam() % 3) * 16;
    options.scheduler.waiting_max = 5;
    if (GetParam() % 2 == 1) {
      options.host_blocks = 64;
      options.disk_blocks = 128;
      options.retain = absl::Milliseconds(300);
      options.profile.host = {.restore_bytes_per_second = 1e6, .store_bytes_per_second = 1e6};
      options.profile.disk = {.restore_bytes_per_second = 1e5, .store_bytes_per_second = 1e5};
    }
    return options;
  }
};

TEST_P(AnyWorkload, EveryTurnEndsOnceAndTokensAddUp) {
  const Workload workload = RandomWorkload(GetParam());
  const Outcome outcome = RunAll(workload, Options());
  std::set<std::pair<int32_t, int32_t>> seen;
  int64_t prompt = 0, completion = 0, rows = 0, done = 0;
  for (const TurnRecord& turn : outcome.turns) {
    EXPECT_TRUE(seen.insert({turn.program, turn.turn}).second);
    if (turn.end != TurnEnd::kDone) continue;
    ++done;
    const WorkloadTurn& wanted =
        workload.programs[static_cast<size_t>(turn.program)].turns[static_cast<size_t>(turn.turn)];
    int32_t wanted_prompt = wanted.kept_tokens;
    for (const TokenRun& run : wanted.runs) wanted_prompt += run.num_tokens;
    EXPECT_EQ(turn.prompt_tokens, wanted_prompt);
    EXPECT_EQ(turn.completion_tokens, wanted.completion_tokens);
    EXPECT_LE(turn.arrival_nanos, turn.scheduled_nanos);
    EXPECT_LT(turn.scheduled_nanos, turn.first_token_nanos);
    EXPECT_LE(turn.first_token_nanos, turn.end_nanos);
    prompt += turn.prompt_tokens;
    completion += turn.completion_tokens;
    // Each token but the last is computed, unless it was found, and again after preemptions.
    rows += turn.prompt_tokens - turn.cached_tokens + turn.completion_tokens - 1 +
            turn.recomputed_tokens - turn.found_late_tokens;
  }
  EXPECT_EQ(static_cast<int64_t>(seen.size()), workload.num_turns());
  TenantTally sum;
  for (const TenantTally& tenant : outcome.tally.tenants) sum.Merge(tenant);
  EXPECT_EQ(sum.turns_done, done);
  EXPECT_EQ(sum.turns_done + sum.turns_refused + sum.turns_abandoned, workload.num_turns());
  EXPECT_EQ(sum.programs_done + sum.programs_cut, static_cast<int64_t>(workload.programs.size()));
  EXPECT_EQ(sum.prompt_tokens, prompt);
  EXPECT_EQ(sum.completion_tokens, completion);
  EXPECT_EQ(sum.ttft.count(), done);
  EXPECT_EQ(sum.itl.count(), completion - done);
  int64_t service = 0;
  for (size_t party = 0; party < outcome.tally.tenants.size(); ++party) {
    for (size_t window = 0; window < outcome.tally.service.num_windows(); ++window) {
      service += outcome.tally.service.Amount(party, window);
    }
  }
  EXPECT_EQ(service, outcome.tally.rows);
  EXPECT_EQ(rows, outcome.tally.rows);
}

TEST_P(AnyWorkload, NoTurnComesBeforeItsPredecessorsEndAndItsWait) {
  const Workload workload = RandomWorkload(GetParam());
  std::map<std::pair<int32_t, int32_t>, TurnRecord> turns;
  for (const TurnRecord& turn : RunAll(workload, Options()).turns) {
    turns[{turn.program, turn.turn}] = turn;
  }
  for (const auto& [id, turn] : turns) {
    if (turn.end == TurnEnd::kAbandoned) continue;
    const WorkloadProgram& program = workload.programs[static_cast<size_t>(id.first)];
    const WorkloadTurn& wanted = program.turns[static_cast<size_t>(id.second)];
    const int64_t earliest = id.second == 0 ? absl::ToInt64Nanoseconds(program.start)
                                            : turns[{id.first, id.second - 1}].end_nanos +
                                                  absl::ToInt64Nanoseconds(wanted.after);
    EXPECT_EQ(turn.arrival_nanos, earliest);
  }
}

TEST_P(AnyWorkload, TheSameSeedGivesTheSameRun) {
  const Workload workload = RandomWorkload(GetParam());
  EXPECT_TRUE(RunAll(workload, Options()).tally == RunAll(workload, Options()).tally);
}

TEST_P(AnyWorkload, StatesOfBlocksSumToTheCapacityAtAllTimes) {
  const InstanceOptions options = Options();
  const Outcome outcome = RunAll(RandomWorkload(GetParam()), options);
  ASSERT_FALSE(outcome.tally.states.samples().empty());
  for (const InstanceState& state : outcome.tally.states.samples()) {
    EXPECT_EQ(state.values[InstanceState::kFree] + state.values[InstanceState::kHeld] +
                  state.values[InstanceState::kEvictable] + state.values[InstanceState::kMoving],
              options.engine.num_blocks);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, AnyWorkload, testing::Range(0u, 12u));

TEST(SimulatedInstanceTest, AnInstanceThatCannotHoldOneLongestSequenceIsRefused) {
  InstanceOptions options = SmallInstance();
  options.engine.num_blocks = 10;
  const Workload workload = WorkloadOf({OneTurn(absl::ZeroDuration(), 1, 32, 3)});
  EXPECT_EQ(SimulatedInstance::Create(workload, options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast
