// Keeps a context until keeping it has wasted as much memory-time as discarding it would.
//
//   waste of keeping     e * C                 e: the pause, C: tokens of this context
//   waste of discarding  R * (C + C_others)    R: to have it again, while the others hold theirs
//
// The length of the pause is not known. InferCept takes the time elapsed so far for it and asks
// again at each step; the waste of keeping only grows, so that the answer turns once, at
// e = R (1 + C_others / C): that is the ttl, and asking again each step is the pin's expiry. It
// wastes at most twice what knowing the pause would.
//
// Source: InferCept (arXiv 2402.01869), the minimal-waste choice. Swapping is not a third choice
// here: what a pin lets go is offloaded beside the computing, and R is that of the cheaper way back
// (reload_cost.h). A baseline; queueing is not in it.
#pragma once

#include "scheduler/policy/pin_policy.h"

namespace holdfast {

class InferCept final : public PinPolicy {
 public:
  TtlDecision Decide(const Pause& pause, const TtlEstimator& known) const override;
};

}  // namespace holdfast
