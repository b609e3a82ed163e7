// Which rule orders the turns of agent programs and keeps their KV between turns. An operator
// chooses one; `continuum` is the product's, the others are what it is compared with.
//
//   policy        who goes first            what stays pinned while a tool runs
//   fcfs_lru      the earlier request       nothing
//   program_fcfs  the earlier program       nothing
//   fixed_ttl     the earlier program       two seconds' worth of quick tools (fixed_ttl.h)
//   infercept     the earlier program       until keeping has cost what discarding does
//                                           (infercept.h)
//   plas          the less served program   nothing (plas.h)
//   continuum     the earlier program       as long as a hit is worth it (continuum.h)
#pragma once

#include "config/scheduler_policy.h"

namespace holdfast {

// Whether a turn stands in the queue where its program's first turn would.
constexpr bool OrdersByProgram(SchedulerPolicy policy) {
  return policy != SchedulerPolicy::kFcfsLru;
}

// Whether it pins. Then a turn whose program has a live pin goes before those that have none: its
// memory is held anyway.
constexpr bool PinsPrograms(SchedulerPolicy policy) {
  return policy == SchedulerPolicy::kFixedTtl || policy == SchedulerPolicy::kInfercept ||
         policy == SchedulerPolicy::kContinuum;
}

}  // namespace holdfast
