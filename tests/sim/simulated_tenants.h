// Tenants on a simulated instance of the default model's size, for tests of what one gets beside
// others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "simulator/cost_profile.h"
#include "simulator/simulated_instance.h"
#include "workload/random_source.h"
#include "workload/workload.h"

namespace holdfast {

struct RequestKind {
  int32_t prompt = 0, completion = 0;
  std::optional<absl::Duration> patience;
  std::optional<absl::Duration> next_turn;  // after so long, of ten tokens
};

class SimulatedTenants final {
 public:
  SimulatedTenants() {
    const CostProfile& profile = DefaultCostProfile();
    EngineInfo& engine = options.engine;
    engine.kv_layout = profile.binding.kv_layout;
    engine.vocab_size = profile.vocab_size;
    engine.context_tokens = profile.context_tokens;
    engine.num_blocks = 2048;
    engine.num_sequence_slots = 64;
    engine.step_tokens_max = 512;
    options.profile = profile;
    options.scheduler.policy = SchedulerPolicy::kContinuum;
    options.scheduler.order = WaitOrder::kRemainingWork;
    // As the daemon: one longest sequence finds room without anything being dropped uncopied.
    options.scheduler.kv.low_water =
        static_cast<double>(BlocksFor(engine.context_tokens)) / engine.num_blocks;
    workload.name = "tenants";
  }

  // Half the machine: half the places and blocks, and steps that take twice as long.
  void Halve() {
    options.engine.num_blocks /= 2;
    options.scheduler.running_max /= 2;
    StepCost& step = options.profile.step;
    for (double* cost : {&step.step, &step.decode_row, &step.prefill_row, &step.prompt_end,
                         &step.decode_place, &step.prefill_place}) {
      *cost *= 2;
    }
    options.profile.between_steps_seconds *= 2;
  }

  int32_t Tenant(const std::string& name) {
    workload.tenants.push_back(name);
    options.scheduler.tenants.push_back({.name = name});
    return static_cast<int32_t>(workload.tenants.size()) - 1;
  }

  // Poisson arrivals at `rate` a second, of the kinds in turn.
  void Send(int32_t tenant, double rate, absl::Duration time, const std::vector<RequestKind>& kinds,
            uint64_t seed, bool offline = false) {
    RandomSource random(seed);
    double at = 0;
    for (size_t i = 0;; ++i) {
      at += random.Exponential() / rate;
      if (absl::Seconds(at) >= time) return;
      SendAt(absl::Seconds(at), tenant, kinds[i % kinds.size()], offline);
    }
  }
  void SendAt(absl::Duration at, int32_t tenant, const RequestKind& kind, bool offline = false,
              std::optional<uint64_t> run = std::nullopt) {
    WorkloadProgram program{.start = at, .tenant = tenant, .offline = offline};
    program.turns.push_back({.runs = {{.id = run.value_or(++last_run_), .num_tokens = kind.prompt}},
                             .completion_tokens = kind.completion,
                             .patience = kind.patience});
    if (kind.next_turn) {
      program.turns.push_back({.after = *kind.next_turn,
                               .kept_tokens = kind.prompt + kind.completion,
                               .runs = {{.id = ++last_run_, .num_tokens = 10}},
                               .completion_tokens = kind.completion});
    }
    workload.programs.push_back(std::move(program));
  }

  // Looked at whenever `look` says, in simulated time.
  Tally Run(absl::Duration look_every = absl::Seconds(1),
            const std::function<void(const Scheduler&)>& look = nullptr) {
    std::stable_sort(workload.programs.begin(), workload.programs.end(),
                     [](const auto& a, const auto& b) { return a.start < b.start; });
    auto instance = SimulatedInstance::Create(
        workload, options, [this](const TurnRecord& turn) { turns.push_back(turn); });
    CHECK(instance.ok());
    for (size_t i = 0; i < workload.programs.size(); ++i) {
      (*instance)->AddProgram(static_cast<int32_t>(i));
    }
    if (look) {
      const absl::Duration end = workload.programs.back().start;
      for (absl::Duration at; at < end; at += look_every) {
        (*instance)->RunUntil(absl::ToInt64Nanoseconds(at));
        look((*instance)->scheduler());
      }
    }
    (*instance)->RunToEnd();
    return (*instance)->TakeTally();
  }

  InstanceOptions options;
  Workload workload;
  std::vector<TurnRecord> turns;  // as they ended

 private:
  uint64_t last_run_ = 0;
};

inline double P95(const DurationHistogram& durations) { return durations.Quantile(0.95) / 1e9; }

}  // namespace holdfast
