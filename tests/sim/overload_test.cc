// More than the machine can do, on a simulated clock: who is overtaken, who is refused, and what
// offline requests take from others.
#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/overtakings.h"
#include "tests/sim/simulated_tenants.h"

namespace holdfast {
namespace {

// Half of the prompts begin as many others do, and are found; agents come back; two tenants.
void SendHotAndCold(SimulatedTenants& both, int32_t tenant, int32_t count, uint64_t seed) {
  RandomSource random(seed);
  double at = 0;
  for (int32_t i = 0; i < count; ++i) {
    at += random.Exponential() / 8;
    const auto prompt = static_cast<int32_t>(16 + 600 * random.Uniform());
    WorkloadProgram program{.start = absl::Seconds(at), .tenant = tenant};
    const uint64_t own = (uint64_t{seed} << 32) + static_cast<uint64_t>(i);
    WorkloadTurn turn{.runs = {{.id = own, .num_tokens = prompt}}, .completion_tokens = 4};
    if (random.Uniform() < 0.5) {
      turn.runs.insert(turn.runs.begin(), {.id = 1 + random.Bits() % 4, .num_tokens = 512});
    }
    program.turns.push_back(turn);
    for (int32_t more = random.Uniform() < 0.1 ? 4 : 0; more > 0; --more) {
      const int32_t kept =
          program.turns.back().kept_tokens + program.turns.back().completion_tokens +
          (program.turns.size() == 1 ? prompt + (turn.runs.size() > 1 ? 512 : 0) : 20);
      program.turns.push_back({.after = absl::Seconds(1),
                               .kept_tokens = kept,
                               .runs = {{.id = own + (uint64_t{1} << 60) + more, .num_tokens = 20}},
                               .completion_tokens = 4});
    }
    both.workload.programs.push_back(std::move(program));
  }
}

TEST(OverloadTest, NobodyIsOvertakenMoreOftenThanTheBoundUnderAnyOrder) {
  for (const WaitOrder order : {WaitOrder::kRemainingWork, WaitOrder::kHitRate}) {
    for (const SchedulerPolicy policy : {SchedulerPolicy::kFcfsLru, SchedulerPolicy::kContinuum}) {
      SimulatedTenants both;
      both.options.scheduler.order = order;
      both.options.scheduler.policy = policy;
      both.options.scheduler.bypass_max = 8;
      both.options.scheduler.running_max = 4;
      for (uint64_t tenant = 0; tenant < 2; ++tenant) {
        SendHotAndCold(both, both.Tenant(std::to_string(tenant)), 1500, tenant + 1);
      }
      both.Run();
      const Overtakings counted =
          CountOvertakings(both.workload, both.turns, policy == SchedulerPolicy::kContinuum);
      EXPECT_GT(counted.most, 3) << Name(order);  // they do overtake
      EXPECT_LE(counted.most, 8) << Name(order) << " " << Name(policy);
    }
  }
}

// As the first minutes of a public trace of code completions: 327 in ten seconds, then a trickle.
void SendBursts(SimulatedTenants& tenants, int32_t tenant, double scale) {
  RandomSource random(5);
  for (int32_t burst = 0; burst < 6; ++burst) {
    double at = burst * 900.0 / scale;
    for (int32_t i = 0; i < 327; ++i) {
      at += random.Exponential() * (10.0 / 327);
      const double length = std::exp(6.9 + 0.9 * random.Normal());
      tenants.SendAt(absl::Seconds(at), tenant,
                     {static_cast<int32_t>(std::clamp(length, 76.0, 7437.0)), 20, {}, {}});
    }
  }
}

struct Goodput {
  double per_second = 0;
  int64_t refused = 0;
};
Goodput GoodputAt(double scale, absl::Duration wait_max) {
  SimulatedTenants tenants;
  SendBursts(tenants, tenants.Tenant("all"), scale);
  tenants.options.scheduler.queue_wait_max = wait_max;
  tenants.options.slo.ttft_nanos = absl::ToInt64Nanoseconds(absl::Seconds(30));
  Tally tally = tenants.Run();
  const TenantTally& all = tally.Of(0, false);
  for (const TurnRecord& turn : tenants.turns) {
    if (turn.end != TurnEnd::kRefused) continue;
    EXPECT_TRUE(turn.retry_after_nanos.has_value());
    EXPECT_GE(turn.retry_after_nanos.value_or(0), 1'000'000'000);
  }
  return {.per_second = static_cast<double>(all.turns_good) / (tally.end_nanos / 1e9),
          .refused = all.turns_refused};
}

TEST(OverloadTest, GoodputStaysBeyondTheKneeWhenWaitsAreBounded) {
  double best = 0, at_four = 0;
  for (const double scale : {1.0, 2.0, 3.0, 4.0}) {
    const Goodput goodput = GoodputAt(scale, absl::Seconds(15));
    best = std::max(best, goodput.per_second);
    at_four = goodput.per_second;
  }
  EXPECT_GE(at_four, 0.9 * best);
  EXPECT_LT(GoodputAt(4, absl::InfiniteDuration()).per_second, 0.8 * best);  // as it is without
}

TEST(OverloadTest, OfflineRequestsTakeWhatIsLeftAndCostOthersLittle) {
  constexpr absl::Duration kTime = absl::Minutes(10);
  const std::vector<RequestKind> chat = {{64, 40}, {250, 60}, {1000, 80}};
  for (const double rate : {0.3, 0.8, 1.3}) {
    SCOPED_TRACE(rate);
    SimulatedTenants alone, beside;
    int32_t online = alone.Tenant("online");
    alone.Send(online, rate, kTime, chat, 1);
    Tally without = alone.Run();
    online = beside.Tenant("online");
    const int32_t batch = beside.Tenant("batch");
    beside.Send(online, rate, kTime, chat, 1);
    for (int32_t i = 0; i < 1500; ++i) {
      beside.SendAt(absl::ZeroDuration(), batch, {600, 100, {}, {}}, true);
    }
    beside.options.scheduler.waiting_max = 4000;
    Tally with = beside.Run();
    EXPECT_LE(P95(with.Of(online, false).ttft), 1.2 * P95(without.Of(online, false).ttft));
    EXPECT_EQ(with.Of(batch, true).turns_done, 1500);
    // Nothing rests while there is work.
    EXPECT_GT(static_cast<double>(with.busy_nanos), 0.999 * static_cast<double>(with.end_nanos));
  }
}

}  // namespace
}  // namespace holdfast
