// Workloads of a few lines, and a small instance to run them on.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "simulator/simulated_instance.h"
#include "workload/workload.h"

namespace holdfast {

inline WorkloadProgram OneTurn(absl::Duration start, uint64_t run, int32_t prompt,
                               int32_t completion) {
  WorkloadProgram program{.start = start};
  program.turns.push_back(
      {.runs = {{.id = run, .num_tokens = prompt}}, .completion_tokens = completion});
  return program;
}

// The next turn keeps all that was and adds a run.
inline WorkloadTurn NextTurn(const WorkloadProgram& program, absl::Duration after, uint64_t run,
                             int32_t more, int32_t completion) {
  const WorkloadTurn& last = program.turns.back();
  int32_t kept = last.kept_tokens + last.completion_tokens;
  for (const TokenRun& part : last.runs) kept += part.num_tokens;
  return {.after = after,
          .kept_tokens = kept,
          .runs = {{.id = run, .num_tokens = more}},
          .completion_tokens = completion};
}

inline Workload WorkloadOf(std::vector<WorkloadProgram> programs, int32_t num_tenants = 1) {
  Workload workload{.name = "test"};
  for (int32_t i = 0; i < num_tenants; ++i) workload.tenants.push_back("t" + std::to_string(i));
  workload.programs = std::move(programs);
  return workload;
}

// 10 ms a step, 1 ms a decode, 0.1 ms a row of prefill.
inline InstanceOptions SmallInstance() {
  InstanceOptions options;
  options.engine.vocab_size = 1000;
  options.engine.context_tokens = 512;
  options.engine.num_blocks = 64;
  options.engine.num_sequence_slots = 8;
  options.engine.step_tokens_max = 128;
  options.engine.kv_layout = {.num_layers = 1, .num_kv_heads = 1, .head_dim = 2};
  options.profile.step = {.step = 10e-3, .decode_row = 1e-3, .prefill_row = 0.1e-3};
  return options;
}

// Agents and single requests of several tenants at random.
inline Workload RandomWorkload(uint32_t seed, int32_t num_programs = 60) {
  std::mt19937 rng(seed);
  const auto between = [&](int32_t low, int32_t high) {
    return low + static_cast<int32_t>(rng() % static_cast<uint32_t>(high - low + 1));
  };
  std::vector<WorkloadProgram> programs;
  int64_t start_ms = 0;
  for (int32_t i = 0; i < num_programs; ++i) {
    start_ms += between(0, 200);
    const auto run = static_cast<uint64_t>(i);
    WorkloadProgram program =
        OneTurn(absl::Milliseconds(start_ms), 1'000'000 + run, between(1, 100), between(1, 20));
    // Some begin as others do.
    program.turns[0].runs.insert(program.turns[0].runs.begin(),
                                 {.id = static_cast<uint64_t>(between(0, 3)), .num_tokens = 40});
    program.tenant = between(0, 2);
    if (between(0, 1) == 1) program.session = "s" + std::to_string(between(0, 9));
    program.offline = between(0, 4) == 0;
    for (int32_t turns = between(0, 3); turns > 0; --turns) {
      program.turns.push_back(NextTurn(program, absl::Milliseconds(between(0, 500)),
                                       2'000'000 + run, between(1, 40), between(1, 20)));
    }
    programs.push_back(std::move(program));
  }
  return WorkloadOf(std::move(programs), 3);
}

}  // namespace holdfast
