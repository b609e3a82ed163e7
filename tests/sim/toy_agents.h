// Agent programs and a machine of the size of a toy, on a simulated clock: what a policy
// does to whole jobs can be asked of it in a fraction of a second.
//
// Programs come at random (Poisson), take some eleven turns, and grow from some 3,000 to some
// 10,000 tokens; their tools take lognormal times. The pool holds six of them; a step of 2,048 rows
// at most takes 20 ms and what its prefill takes. All is drawn from a seed, the same on every
// platform.
//
// Source: the profiles of tools, pool and step follow the toy model that the design's figures for
// Continuum (arXiv 2511.02230) came from; completions, of which it says nothing, are ours.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/scheduler_policy.h"
#include "simulator/simulated_instance.h"
#include "simulator/tally.h"
#include "workload/workload.h"

namespace holdfast {

struct ToyProfile {
  std::string name;
  double tool_median_seconds = 1, tool_sigma = 1;
  double prefill_tokens_per_second = 3000;
};

struct ToyAgents {
  int32_t programs = 60;
  int32_t turns_min = 6, turns_max = 16;
  int32_t first_prompt_tokens = 3000, turn_tokens = 600, completion_tokens = 60;  // in the mean
  double programs_per_second = 0.2;  // infinite: all at once
};

Workload MakeToyAgents(const ToyProfile& profile, const ToyAgents& agents, uint64_t seed);
InstanceOptions ToyInstance(const ToyProfile& profile, SchedulerPolicy policy);

// What became of the programs, all of which must have ended well.
Tally RunPrograms(const Workload& workload, const InstanceOptions& options);
// Mean seconds from a program's first arrival to its last token, of one tenant.
double MeanJobSeconds(const Tally& tally, int32_t tenant = 0);

}  // namespace holdfast
