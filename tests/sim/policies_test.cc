// What the policies do to whole jobs of agent programs, on a simulated clock. The traces' figures
// are docs/policies.md's; here is what must hold on toys, for CI.
#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <vector>

#include "tests/sim/toy_agents.h"

namespace holdfast {
namespace {

constexpr double kAllAtOnce = std::numeric_limits<double>::infinity();
constexpr uint64_t kSeeds = 5;

const std::vector<ToyProfile>& Profiles() {
  static const std::vector<ToyProfile> profiles = {
      {"quick tools, fast prefill", 0.35, 1.2, 12'000},
      {"quick tools of uneven length, slow prefill", 0.25, 1.6, 3'000},
      {"web search as in BFCL, slow prefill", 1.3, 0.9, 3'000},
      {"web search as in BFCL, fast prefill", 1.3, 0.9, 12'000},
      {"slow tools, slow prefill", 4, 1.0, 3'000},
  };
  return profiles;
}

double MeanJob(const ToyProfile& profile, const ToyAgents& agents, SchedulerPolicy policy) {
  double sum = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    sum += MeanJobSeconds(
        RunPrograms(MakeToyAgents(profile, agents, seed), ToyInstance(profile, policy)));
  }
  return sum / kSeeds;
}

// Programs per second that the product's policy gets through when all are there at once.
double Capacity(const ToyProfile& profile, ToyAgents agents) {
  agents.programs_per_second = kAllAtOnce;
  const Tally tally = RunPrograms(MakeToyAgents(profile, agents, 1),
                                  ToyInstance(profile, SchedulerPolicy::kContinuum));
  return agents.programs / (static_cast<double>(tally.end_nanos) / 1e9);
}

// Continuum's C4. Beside fixed_ttl the doubtful cells are only reported by the benchmark.
TEST(PoliciesTest, AtCapacityAndBeyondPinsAndProgramOrderShortenJobs) {
  for (const ToyProfile& profile : Profiles()) {
    ToyAgents agents;
    const double capacity = Capacity(profile, agents);
    for (const double load : {1.0, 1.3}) {
      SCOPED_TRACE(testing::Message() << profile.name << ", load " << load);
      agents.programs_per_second = load * capacity;
      const double requests = MeanJob(profile, agents, SchedulerPolicy::kFcfsLru);
      const double programs = MeanJob(profile, agents, SchedulerPolicy::kProgramFcfs);
      const double continuum = MeanJob(profile, agents, SchedulerPolicy::kContinuum);
      EXPECT_LE(continuum, programs);
      EXPECT_LE(programs, requests);
      EXPECT_LE(continuum, 0.75 * requests);
      if (profile.tool_median_seconds >= 1 && profile.prefill_tokens_per_second <= 3'000) {
        EXPECT_LE(continuum, MeanJob(profile, agents, SchedulerPolicy::kFixedTtl));
      }
    }
  }
}

// Continuum's C7.
TEST(PoliciesTest, MoreTurnsOfEqualTokensHardlyLengthenJobs) {
  const ToyProfile profile = {"short tools", 0.1, 0.5, 12'000};
  const auto mean_job = [&](SchedulerPolicy policy, int32_t times) {
    const ToyAgents agents = {.programs = 40,
                              .turns_min = 8 * times,
                              .turns_max = 8 * times,
                              .turn_tokens = 600 / times,
                              .completion_tokens = 60 / times,
                              .programs_per_second = 0.3};
    return MeanJob(profile, agents, policy);
  };
  const auto slope = [&](SchedulerPolicy policy) {
    return (mean_job(policy, 5) - mean_job(policy, 1)) / (8 * 4);
  };
  EXPECT_LE(slope(SchedulerPolicy::kContinuum), 0.5 * slope(SchedulerPolicy::kFcfsLru));
}

// Continuum's C8. A's programs have all called a tool that takes an hour, and asked for their KV to
// be kept; then B comes.
TEST(PoliciesTest, ATenantThatPinsAHundredProgramsLeavesTheOtherItsShare) {
  const ToyProfile profile = {.name = "one turn each", .prefill_tokens_per_second = 12'000};
  const auto two_tenants = [&](bool with_a) {
    ToyAgents agents = {.programs = 200,
                        .turns_min = 1,
                        .turns_max = 1,
                        .completion_tokens = 100,
                        .programs_per_second = 2};
    Workload workload = MakeToyAgents(profile, agents, 1);
    workload.tenants = {"a", "b"};
    for (WorkloadProgram& program : workload.programs) {
      program.tenant = 1;
      program.start += absl::Seconds(300);
      program.session.clear();
    }
    for (int32_t i = 0; with_a && i < 100; ++i) {
      WorkloadProgram program{.start = absl::Seconds(i), .session = "a " + std::to_string(i)};
      program.turns = {{.runs = {{.id = 1'000'000 + static_cast<uint64_t>(i), .num_tokens = 3000}}},
                       {.after = absl::Hours(1), .kept_tokens = 3001}};
      workload.programs.insert(workload.programs.begin() + i, std::move(program));
    }
    return workload;
  };
  const auto p95 = [&](bool with_a, double pool_share) {
    InstanceOptions options = ToyInstance(profile, SchedulerPolicy::kContinuum);
    options.engine.context_tokens = 8192;
    options.engine.num_blocks =
        static_cast<int32_t>(static_cast<double>(options.engine.num_blocks) * pool_share);
    options.scheduler.kv.pinned_max = 1;  // nothing but shares bounds what A keeps
    options.retain = absl::Hours(2);
    const Tally tally = RunPrograms(two_tenants(with_a), options);
    return tally.tenants[Tally::PartyOf(1, false)].e2e.Quantile(0.95);
  };
  EXPECT_LE(p95(true, 1), 1.1 * p95(false, /*pool_share=*/0.5));
}

}  // namespace
}  // namespace holdfast
