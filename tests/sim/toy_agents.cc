#include "tests/sim/toy_agents.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "config/base/check.h"
#include "workload/random_source.h"

namespace holdfast {
namespace {

enum Stream : uint64_t { kStarts, kShapes };

int32_t Around(double mean, RandomSource& random) {
  return static_cast<int32_t>(std::lround(mean * (0.5 + random.Uniform())));
}

}  // namespace

Workload MakeToyAgents(const ToyProfile& profile, const ToyAgents& agents, uint64_t seed) {
  RandomSource starts(seed, kStarts), shapes(seed, kShapes);
  Workload workload{.name = profile.name, .tenants = {"default"}, .tools = {"tool"}};
  absl::Duration start;
  uint64_t next_run = 1;
  for (int32_t i = 0; i < agents.programs; ++i) {
    if (std::isfinite(agents.programs_per_second)) {
      start += absl::Seconds(starts.Exponential() / agents.programs_per_second);
    }
    WorkloadProgram program{.start = start, .session = "program " + std::to_string(i)};
    const auto spread = static_cast<uint64_t>(agents.turns_max - agents.turns_min + 1);
    const auto turns = agents.turns_min + static_cast<int32_t>(shapes.Bits() % spread);
    int32_t context = 0;
    for (int32_t turn = 0; turn < turns; ++turn) {
      const int32_t fresh =
          Around(turn == 0 ? agents.first_prompt_tokens : agents.turn_tokens, shapes);
      const double wait =
          profile.tool_median_seconds * std::exp(profile.tool_sigma * shapes.Normal());
      const int32_t completion = std::max(Around(agents.completion_tokens, shapes), 1);
      program.turns.push_back(
          {.after = turn == 0 ? absl::ZeroDuration() : absl::Seconds(wait),
           .kept_tokens = context,
           .runs = {{.id = next_run++, .num_tokens = fresh}},
           .completion_tokens = completion,
           .tool = turn + 1 < turns ? std::optional<int32_t>(0) : std::nullopt});
      context += fresh + completion;
    }
    workload.programs.push_back(std::move(program));
  }
  return workload;
}

InstanceOptions ToyInstance(const ToyProfile& profile, SchedulerPolicy policy) {
  InstanceOptions options;
  options.engine.vocab_size = 32'000;
  options.engine.context_tokens = 32'768;
  options.engine.num_blocks = 60'000 / kBlockTokens;
  options.engine.num_sequence_slots = 64;
  options.engine.step_tokens_max = 2048;
  options.engine.kv_layout = {.num_layers = 1, .num_kv_heads = 1, .head_dim = 2};
  options.scheduler.step_tokens_max = 2048;
  options.scheduler.chunk_tokens_max = 2048;
  options.scheduler.long_prefill_tokens_max = 2048;
  options.scheduler.policy = policy;
  options.profile.step = {.step = 20e-3, .prefill_row = 1 / profile.prefill_tokens_per_second};
  return options;
}

Tally RunPrograms(const Workload& workload, const InstanceOptions& options) {
  auto instance = SimulatedInstance::Create(workload, options);
  CHECK(instance.ok());
  for (size_t i = 0; i < workload.programs.size(); ++i) {
    (*instance)->AddProgram(static_cast<int32_t>(i));
  }
  (*instance)->RunToEnd();
  (*instance)->scheduler().CheckInvariants();
  return (*instance)->TakeTally();
}

double MeanJobSeconds(const Tally& tally, int32_t tenant) {
  return tally.tenants[Tally::PartyOf(tenant, false)].job.mean() / 1e9;
}

}  // namespace holdfast
