#include "scheduler/program_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "scheduler/policy/continuum.h"

namespace holdfast {
namespace {

constexpr TenantIndex kA{0}, kB{1};
const absl::Time kStart = absl::UnixEpoch();

absl::Time At(double seconds) { return kStart + absl::Seconds(seconds); }

// A turn whose context takes some seconds to have again.
ProgramTable::EndedTurn Ended(std::string_view tool, double reload = 3) {
  return {.tool = tool,
          .context_tokens = 1000,
          .service = absl::Seconds(1),
          .reload = absl::Seconds(reload)};
}
ProgramTable::EndedTurn FinalTurn() {
  ProgramTable::EndedTurn turn = Ended("");
  turn.final = true;
  return turn;
}

size_t NumDurations(const ProgramTable& table, const std::string& tool, TenantIndex tenant = kA) {
  const DurationSample* durations = table.estimator(tenant).DurationsOf(tool);
  return durations == nullptr ? 0 : durations->size();
}

TEST(ProgramTableTest, AProgramKeepsTheArrivalOfItsFirstTurn) {
  ProgramTable table({}, 2);
  Program& first = table.OnArrive(kA, "s", 5, At(0));
  EXPECT_EQ(table.RankOf(first, 5), (ProgramRank{.arrival = 5}));
  table.OnTurnEnd(first, Ended("ls"), At(1));
  const Program& again = table.OnArrive(kA, "s", 9, At(2));
  EXPECT_EQ(&again, &first);
  EXPECT_EQ(again.first_arrival, 5u);
  EXPECT_EQ(again.first_arrived, At(0));
  EXPECT_EQ(table.RankOf(again, 9), (ProgramRank{.arrival = 5}));
  // Another tenant's session of that name is another program.
  EXPECT_EQ(table.OnArrive(kB, "s", 10, At(2)).first_arrival, 10u);
}

TEST(ProgramTableTest, AToolNamedAfterTheTurnCountsForItsDuration) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  ProgramTable::EndedTurn turn = Ended("");
  turn.named_later = RequestId{7};
  const TtlDecision unnamed = table.OnTurnEnd(program, turn, At(1));
  const std::optional<ProgramTable::Named> named = table.NameTool(RequestId{7}, "ls");
  ASSERT_TRUE(named.has_value());
  EXPECT_EQ(named->session, "s");
  EXPECT_EQ(named->ended, At(1));
  EXPECT_EQ(named->ttl, unnamed.ttl) << "nothing is known of either yet";
  EXPECT_FALSE(table.NameTool(RequestId{7}, "cat").has_value()) << "twice";
  table.OnArrive(kA, "s", 2, At(3));
  EXPECT_EQ(NumDurations(table, "ls"), 1u);
  EXPECT_EQ(NumDurations(table, ""), 0u);
  uint64_t decided = 0;
  for (const TtlCount& count : table.ttls(kA)) decided += count.decided;
  EXPECT_EQ(decided, 1u) << "one turn, one decision";
  table.CheckInvariants();
}

TEST(ProgramTableTest, ATurnThatComesBeforeTheNameTeachesNoTool) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  ProgramTable::EndedTurn turn = Ended("");
  turn.named_later = RequestId{7};
  table.OnTurnEnd(program, turn, At(1));
  table.OnArrive(kA, "s", 2, At(1));
  EXPECT_EQ(NumDurations(table, ""), 0u);
  EXPECT_FALSE(table.NameTool(RequestId{7}, "ls").has_value());
  table.CheckInvariants();
}

TEST(ProgramTableTest, ANameForAForgottenProgramIsForNobody) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  ProgramTable::EndedTurn turn = Ended("");
  turn.named_later = RequestId{7};
  table.OnTurnEnd(program, turn, At(1));
  table.ForgetIdle(At(3600));
  ASSERT_EQ(table.Find(kA, "s"), nullptr);
  EXPECT_FALSE(table.NameTool(RequestId{7}, "ls").has_value());
  table.CheckInvariants();
}

TEST(ProgramTableTest, UnderFcfsLruTheRequestsArrivalCountsAndNothingIsPinned) {
  ProgramTable table({.policy = SchedulerPolicy::kFcfsLru}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  EXPECT_EQ(table.OnTurnEnd(program, Ended("ls", 100), At(1)).ttl, absl::ZeroDuration());
  EXPECT_EQ(table.RankOf(table.OnArrive(kA, "s", 7, At(2)), 7).arrival, 7u);
  EXPECT_FALSE(table.orders_by_program());
  EXPECT_FALSE(table.pins());
}

TEST(ProgramTableTest, UnderPlasTheLessServedGoesFirstAndTheStarvedNotLast) {
  ProgramTable table({.policy = SchedulerPolicy::kPlas}, 1);
  Program& served = table.OnArrive(kA, "served", 1, At(0));
  ProgramTable::EndedTurn turn = Ended("ls");
  turn.service = absl::Seconds(10);
  EXPECT_EQ(table.OnTurnEnd(served, turn, At(10)).ttl, absl::ZeroDuration());
  table.OnArrive(kA, "served", 2, At(11));
  const Program& fresh = table.OnArrive(kA, "fresh", 3, At(12));
  EXPECT_LT(table.RankOf(fresh, 3), table.RankOf(served, 2));
  EXPECT_LT(table.RankOf(served, 2, absl::Seconds(80)), table.RankOf(fresh, 3));
  EXPECT_TRUE(table.ranks_change());
}

TEST(ProgramTableTest, EachPolicyPinsByItsOwnRuleUpToTheLongestTtl) {
  const auto ttl_of = [](SchedulerPolicy policy, double reload, bool published = false) {
    ProgramTable table({.policy = policy, .published_ttl = published}, 1);
    Program& program = table.OnArrive(kA, "s", 1, At(0));
    return table.OnTurnEnd(program, Ended("ls", reload), At(1));
  };
  EXPECT_EQ(ttl_of(SchedulerPolicy::kProgramFcfs, 3).ttl, absl::ZeroDuration());
  EXPECT_EQ(ttl_of(SchedulerPolicy::kFixedTtl, 0).ttl, absl::Seconds(2));
  EXPECT_EQ(ttl_of(SchedulerPolicy::kInfercept, 3).ttl, absl::Seconds(3));
  EXPECT_EQ(ttl_of(SchedulerPolicy::kInfercept, 300).ttl, absl::Seconds(30));
  EXPECT_EQ(ttl_of(SchedulerPolicy::kInfercept, 0.009).ttl, absl::ZeroDuration());
  EXPECT_EQ(ttl_of(SchedulerPolicy::kContinuum, 3).ttl, absl::Seconds(3));
  EXPECT_EQ(ttl_of(SchedulerPolicy::kContinuum, 3, /*published=*/true).source, TtlSource::kCold);
  EXPECT_EQ(ttl_of(SchedulerPolicy::kContinuum, 0.5, true).ttl, absl::ZeroDuration());
}

TEST(ProgramTableTest, AToolTakesFromTheEndOfATurnToTheNext) {
  ProgramTable table({}, 2);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  table.OnTurnEnd(program, Ended("ls"), At(10));
  table.OnArrive(kA, "s", 2, At(12.5));
  EXPECT_NEAR(table.estimator(kA).DurationsOf("ls")->mean(), 2.5, 1e-9);
  EXPECT_EQ(NumDurations(table, "ls", kB), 0u);  // a tenant's tools are its own matter
}

TEST(ProgramTableTest, TurnsInFlightTogetherTellNothingOfATool) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  table.OnArrive(kA, "s", 2, At(1));
  table.OnTurnEnd(program, Ended("ls"), At(2));
  EXPECT_FALSE(program.tool_runs);
  table.OnArrive(kA, "s", 3, At(3));
  table.OnTurnEnd(program, Ended("ls"), At(4));
  table.OnTurnEnd(program, Ended("grep"), At(5));
  table.OnArrive(kA, "s", 4, At(6));
  EXPECT_EQ(NumDurations(table, "ls"), 0u);
  EXPECT_EQ(NumDurations(table, "grep"), 1u);
  EXPECT_EQ(program.turns_ended, 3);
  EXPECT_EQ(program.turns_in_flight, 1);
}

TEST(ProgramTableTest, ATurnThatIsGoneLeavesNoDuration) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  table.OnTurnEnd(program, Ended("ls"), At(1));
  table.OnArrive(kA, "s", 2, At(2));  // learnt: 1 s
  table.OnTurnGone(program, At(3));
  table.OnArrive(kA, "s", 3, At(4));  // comes after no end
  EXPECT_EQ(NumDurations(table, "ls"), 1u);
  EXPECT_EQ(program.turns_ended, 1);
}

TEST(ProgramTableTest, AProgramOfWhichNoTurnHasEndedIsNotKept) {
  ProgramTable table({}, 1);
  for (uint64_t i = 0; i < 10; ++i) {
    table.OnTurnGone(table.OnArrive(kA, "shed", i, At(0)), At(0));
    EXPECT_EQ(table.Find(kA, "shed"), nullptr);
  }
  EXPECT_EQ(table.num_programs(kA), 0u);
}

TEST(ProgramTableTest, AFinalTurnEndsTheProgramOnceNothingOfItIsInFlight) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  table.OnArrive(kA, "s", 2, At(0));
  EXPECT_EQ(table.OnTurnEnd(program, FinalTurn(), At(1)).ttl, absl::ZeroDuration());
  EXPECT_NE(table.Find(kA, "s"), nullptr);
  EXPECT_EQ(table.OnTurnEnd(program, Ended("ls", 100), At(2)).ttl, absl::ZeroDuration());
  EXPECT_EQ(table.Find(kA, "s"), nullptr);
  EXPECT_EQ(table.OnArrive(kA, "s", 3, At(3)).first_arrival, 3u);  // begins again
}

TEST(ProgramTableTest, OnlyTurnsBeyondTheFirstTellHowLongFollowUpsQueue) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  table.OnFirstRun(program, absl::Seconds(100), false);
  EXPECT_EQ(table.estimator(kA).queue_delay(), absl::ZeroDuration());
  table.OnTurnEnd(program, Ended("ls"), At(1));
  table.OnArrive(kA, "s", 2, At(2));
  table.OnFirstRun(program, absl::Seconds(4), false);
  EXPECT_EQ(table.estimator(kA).queue_delay(), absl::Seconds(4));
  EXPECT_EQ(program.queued, absl::Seconds(104));
}

TEST(ProgramTableTest, AClientThatDoesNotReturnHasEndedItsProgramAfterItsTime) {
  ProgramTable table({.idle_max = absl::Minutes(10)}, 2);
  for (int i = 0; i < 3; ++i) {  // of 1, 2 and 3 turns: progress tells little
    for (int turn = 0; turn <= i; ++turn) {
      Program& program = table.OnArrive(kA, absl::StrCat("gone ", i), 1, At(0));
      table.OnTurnEnd(program, Ended("ls"), At(0));
    }
  }
  table.OnArrive(kB, "runs", 2, At(0));
  table.ForgetIdle(At(599));
  EXPECT_EQ(table.num_programs(kA), 3u);
  EXPECT_EQ(table.estimator(kA).memoryfulness(), 1);
  table.ForgetIdle(At(600));
  EXPECT_EQ(table.num_programs(kA), 0u);
  EXPECT_LT(table.estimator(kA).memoryfulness(), 1);
  table.ForgetIdle(At(1e6));
  EXPECT_NE(table.Find(kB, "runs"), nullptr);  // in flight, however long
}

TEST(ProgramTableTest, AClockThatGoesBackwardsStandsStill) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(100));
  table.OnTurnEnd(program, Ended("ls"), At(50));
  EXPECT_EQ(program.last_finish, At(100));
  table.OnArrive(kA, "s", 2, At(20));
  EXPECT_EQ(table.estimator(kA).DurationsOf("ls")->mean(), 0);
  table.OnFirstRun(program, absl::Seconds(-5), false);
  EXPECT_EQ(program.queued, absl::ZeroDuration());
  EXPECT_EQ(table.estimator(kA).queue_delay(), absl::ZeroDuration());
  ProgramTable::EndedTurn odd = Ended("ls");
  odd.service = absl::Seconds(-3);
  odd.reload = absl::Seconds(-3);
  EXPECT_EQ(table.OnTurnEnd(program, odd, At(10)).ttl, absl::ZeroDuration());
  EXPECT_EQ(program.service, absl::Seconds(1));
  table.ForgetIdle(At(0));
  table.CheckInvariants();
}

TEST(ProgramTableTest, AHundredThousandSessionsFillItNoFurtherThanItsBound) {
  ProgramTable table({}, 2);
  Program& runs = table.OnArrive(kA, "runs", 0, At(0));
  table.OnTurnEnd(table.OnArrive(kB, "other", 0, At(0)), Ended("ls"), At(0));
  for (uint64_t i = 1; i <= 100'000; ++i) {
    const absl::Time now = At(static_cast<double>(i) * 1e-3);
    table.OnTurnEnd(table.OnArrive(kA, absl::StrCat("s", i), i, now), Ended("ls"), now);
    ASSERT_LE(table.num_programs(kA), ProgramTable::kProgramsMax + 1);
  }
  EXPECT_EQ(table.num_idle(kA), ProgramTable::kProgramsMax);
  EXPECT_EQ(table.Find(kA, "runs"), &runs);  // in flight: not forgotten
  EXPECT_EQ(table.Find(kA, absl::StrCat("s", 100'000 - ProgramTable::kProgramsMax)), nullptr);
  EXPECT_NE(table.Find(kA, absl::StrCat("s", 100'001 - ProgramTable::kProgramsMax)), nullptr);
  EXPECT_NE(table.Find(kB, "other"), nullptr);  // nobody's flood is another's matter
  table.CheckInvariants();
}

TEST(ProgramTableTest, OfALongToolNameTheBeginningCounts) {
  ProgramTable table({}, 1);
  Program& program = table.OnArrive(kA, "s", 1, At(0));
  const std::string name(10'000, 'x');
  table.OnTurnEnd(program, Ended(name), At(1));
  EXPECT_EQ(program.last_tool, name.substr(0, ProgramTable::kToolNameBytesMax));
}

TEST(ProgramTableTest, ForgettingManyTakesSomeAtATime) {
  ProgramTable table({}, 1);
  for (uint64_t i = 0; i < 1000; ++i) {
    table.OnTurnEnd(table.OnArrive(kA, absl::StrCat(i), i, At(0)), Ended("ls"), At(0));
  }
  size_t before = table.num_programs(kA);
  int calls = 0;
  while (before > 0) {
    table.ForgetIdle(At(700));
    const size_t now = table.num_programs(kA);
    ASSERT_LT(now, before);
    ASSERT_LE(before - now, 100u);
    before = now;
    ++calls;
  }
  EXPECT_GT(calls, 5);
}

// What the table ought to know, looked through from end to end each time.
struct ModelProgram {
  uint64_t first_arrival = 0;
  int64_t ended = 0;
  int32_t in_flight = 0;
  bool final = false;
  std::optional<double> finished;  // the last thing that happened, if that was a clean end
  std::string tool;
  double idle_since = 0;
};

TEST(ProgramTableTest, AgreesWithAPlainListOnRandomWalks) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    constexpr double kIdleMax = 20;
    ProgramTable table({.idle_max = absl::Seconds(kIdleMax)}, 2);
    std::map<std::pair<int, std::string>, ModelProgram> model;
    std::vector<std::pair<int, std::string>> flying;  // a turn each
    std::map<std::pair<int, std::string>, size_t> durations;
    std::map<std::pair<int, std::string>, Program*> handles;
    double now = 0;
    for (uint64_t step = 0; step < 400; ++step) {
      now += static_cast<double>(rng() % 16) / 8;
      if (rng() % 5 < 2) {
        const std::pair<int, std::string> key(static_cast<int>(rng() % 2), absl::StrCat(rng() % 6));
        const bool is_new = !model.contains(key);
        ModelProgram& program = model[key];
        if (is_new) program.first_arrival = step;
        if (program.finished) ++durations[{key.first, program.tool}];
        program.finished.reset();
        ++program.in_flight;
        Program& handle = table.OnArrive(TenantIndex{key.first}, key.second, step, At(now));
        if (!is_new && program.in_flight > 1) {
          ASSERT_EQ(&handle, handles[key]);
        }
        handles[key] = &handle;
        flying.push_back(key);
      } else if (!flying.empty()) {
        std::swap(flying[rng() % flying.size()], flying.back());
        const auto key = flying.back();
        flying.pop_back();
        ModelProgram& program = model[key];
        --program.in_flight;
        if (rng() % 4 == 0) {
          program.finished.reset();
          table.OnTurnGone(*handles[key], At(now));
        } else {
          ++program.ended;
          ProgramTable::EndedTurn turn = Ended(rng() % 2 == 0 ? "ls" : "");
          turn.final = rng() % 8 == 0;
          program.final |= turn.final;
          program.tool = turn.tool;
          program.finished.reset();
          if (program.in_flight == 0 && !program.final) program.finished = now;
          const TtlDecision decision = table.OnTurnEnd(*handles[key], turn, At(now));
          if (program.final) {
            ASSERT_EQ(decision.ttl, absl::ZeroDuration());
          }
        }
        program.idle_since = now;
        if (program.in_flight == 0 && (program.final || program.ended == 0)) model.erase(key);
      } else {
        now += 1 + static_cast<double>(rng() % 10);  // a second or more: a sweep is due
        table.ForgetIdle(At(now));
        std::erase_if(model, [&](const auto& entry) {
          return entry.second.in_flight == 0 && now - entry.second.idle_since >= kIdleMax;
        });
      }
      table.CheckInvariants();
      ASSERT_EQ(table.num_programs(kA) + table.num_programs(kB), model.size());
      for (const auto& [key, program] : model) {
        const Program* found = table.Find(TenantIndex{key.first}, key.second);
        ASSERT_NE(found, nullptr);
        ASSERT_EQ(found->first_arrival, program.first_arrival);
        ASSERT_EQ(found->turns_ended, program.ended);
        ASSERT_EQ(found->turns_in_flight, program.in_flight);
        ASSERT_EQ(found->tool_runs, program.finished.has_value());
      }
      for (const auto& [key, count] : durations) {
        ASSERT_EQ(NumDurations(table, key.second, TenantIndex{key.first}), count);
      }
    }
  }
}

}  // namespace
}  // namespace holdfast
