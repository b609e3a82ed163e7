// What a tenant gets beside one that sends whatever it likes, on a simulated clock: as much as half
// the machine alone would give it, give or take the steps of others.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/bound_watch.h"
#include "tests/sim/simulated_tenants.h"

namespace holdfast {
namespace {

constexpr double kWorseMax = 1.3;
// Prompts that take less than a step do wait for the one that runs, which may be longer than their
// own on half the machine.
constexpr double kPartOfAStep = 0.03;
constexpr absl::Duration kTime = absl::Minutes(10);

// Requests of one sort, and how many a second about half the machine can serve.
struct Load {
  const char* name;
  std::vector<RequestKind> kinds;
  double half_rate;
  double more = 0;  // seconds
};
const std::vector<Load> kLoads = {
    {"chat", {{64, 40}, {250, 60}, {1000, 80}}, 0.9},
    {"short", {{64, 20}}, 5.0, kPartOfAStep},
    {"long", {{2000, 100}}, 0.3},
};

double P95OfHalf(const Load& load, double part) {
  SimulatedTenants half;
  half.Halve();
  const int32_t tenant = half.Tenant("other");
  half.Send(tenant, part * load.half_rate, kTime, load.kinds, 1);
  return P95(half.Run().Of(tenant, false).ttft);
}

// The other's requests beside `sends`; nothing of it may be refused.
double P95Beside(const Load& load, double part,
                 const std::function<void(SimulatedTenants&, int32_t)>& send) {
  SimulatedTenants both;
  const int32_t other = both.Tenant("other"), greedy = both.Tenant("greedy");
  both.Send(other, part * load.half_rate, kTime, load.kinds, 1);
  send(both, greedy);
  BoundWatch watch(both.options.engine, both.options.scheduler.tenants);
  Tally tally = both.Run(absl::Milliseconds(50), [&](const Scheduler& now) { watch.Look(now); });
  const TenantTally& got = tally.Of(other, false);
  EXPECT_EQ(got.turns_refused, 0);
  EXPECT_EQ(got.preempted_recomputed_tokens, 0);  // it never has more than its share
  return P95(got.ttft);
}

TEST(TenantShareTest, ATenTimesGreaterLoadLeavesTheOtherTenantWhatHalfTheMachineGives) {
  for (const Load& load : kLoads) {
    for (const double part : {0.1, 0.3, 0.6}) {
      SCOPED_TRACE(testing::Message() << load.name << " at " << part << " of half the machine");
      const double beside = P95Beside(load, part, [&](SimulatedTenants& both, int32_t greedy) {
        both.Send(greedy, 10 * part * load.half_rate, kTime, load.kinds, 2);
      });
      EXPECT_LE(beside, kWorseMax * P95OfHalf(load, part) + load.more);
    }
  }
}

struct Attack {
  const char* name;
  double rate;
  RequestKind kind;
};

class TenantShareUnder : public testing::TestWithParam<Attack> {};

TEST_P(TenantShareUnder, AFloodLeavesTheOtherTenantWhatHalfTheMachineGives) {
  const Attack& attack = GetParam();
  for (const Load& load : kLoads) {
    for (const double part : {0.1, 0.4}) {
      SCOPED_TRACE(testing::Message() << load.name << " at " << part << " of half the machine");
      const double beside = P95Beside(load, part, [&](SimulatedTenants& both, int32_t greedy) {
        if (attack.kind.next_turn) both.options.retain = absl::Hours(1);
        both.Send(greedy, attack.rate, kTime, {attack.kind}, 3);
      });
      EXPECT_LE(beside, kWorseMax * P95OfHalf(load, part) + load.more);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TenantShareUnder,
    testing::Values(Attack{"Pins", 3, {1500, 5, {}, absl::Minutes(2)}},
                    Attack{"LongPrompts", 0.5, {8000, 20, {}, {}}},
                    Attack{"LongAnswersThatFillThePool", 3, {40, 1500, {}, {}}},
                    Attack{"ShortPrompts", 50, {64, 10, {}, {}}},
                    Attack{"CancelsOfLongPrompts", 10, {4000, 100, absl::Seconds(1.5), {}}},
                    Attack{"CancelsOfShortPrompts", 60, {64, 100, absl::Seconds(0.5), {}}}),
    [](const auto& attack) { return attack.param.name; });

// Long answers of one tenant fill the machine; the other comes with a crowd of short requests again
// and again, and each time places are taken back for it.
TEST(TenantShareTest, ATenantForcesNoMoreComputingAgainThanItsBudget) {
  SimulatedTenants both;
  const int32_t worker = both.Tenant("worker"), pest = both.Tenant("pest");
  both.options.engine.num_blocks = 1024;
  both.Send(worker, 3, kTime, {{600, 400, {}, {}}}, 1);
  for (absl::Duration at = absl::Seconds(5); at < kTime; at += absl::Seconds(5)) {
    for (int32_t i = 0; i < 32; ++i) both.SendAt(at, pest, {100, 1, {}, {}});
  }
  Tally tally = both.Run();
  const TenantTally& harmed = tally.Of(worker, false);
  const TenantTally& harms = tally.Of(pest, false);
  EXPECT_GT(harmed.preemptions, 10);
  EXPECT_LE(harmed.preemptions, 2 * harmed.turns_done);
  EXPECT_LE(harmed.preempted_recomputed_tokens,
            16 * (harms.prompt_tokens + harms.completion_tokens) +
                3 * both.options.engine.context_tokens);
}

// K9 of KVShare: what one tenant has said is not found by another, nor told by how long it takes.
TEST(TenantShareTest, TheSameTextOfAnotherTenantTakesAsLongAsTextThatNobodyHasSaid) {
  std::vector<int64_t> took;
  for (const uint64_t run : {7, 8}) {  // what the first tenant says, and something else
    SimulatedTenants both;
    both.options.host_blocks = 4096;
    const int32_t says = both.Tenant("says"), asks = both.Tenant("asks");
    both.SendAt(absl::ZeroDuration(), says, {1000, 20, {}, {}}, false, 7);
    both.SendAt(absl::Minutes(1), asks, {1000, 20, {}, {}}, false, run);
    both.SendAt(absl::Minutes(2), says, {1000, 20, {}, {}}, false, 7);
    Tally tally = both.Run();
    EXPECT_EQ(tally.Of(asks, false).cached_tokens, 0);
    EXPECT_GT(tally.Of(says, false).cached_tokens, 900);  // its own it finds
    const TurnRecord& asked = both.turns[1];
    EXPECT_EQ(asked.tenant, asks);
    took.push_back(asked.first_token_nanos - asked.arrival_nanos);
    took.push_back(asked.end_nanos - asked.arrival_nanos);
  }
  EXPECT_EQ(took[0], took[2]);
  EXPECT_EQ(took[1], took[3]);
}

}  // namespace
}  // namespace holdfast
