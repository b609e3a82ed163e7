// The product's rule: keeps a context for the time at which the expected worth of a hit is farthest
// above what holding the memory is expected to cost.
//
//   gain(tau) = P(tau) B - E[min(call, tau)]     B = max(T eta, 0) + reload * w
//   hold      = argmax over tau of gain(tau)
//   ttl       = 0 if gain(hold) < B / 10, else the first of  max(1.5 hold, 2 s),  1.5 hold,  hold
//               whose gain is at least half of gain(hold)
//
//   P, E   by the durations of the tool's calls; of all the tenant's while fewer than
//          kDurationsMin of the tool's are known; while fewer of those are, ttl = B: then holding
//          has cost what a miss would, so that at most twice the best is lost
//   w      1 + tokens of the others that run / tokens of this context
//   T, eta, reload: see ttl_pin.h. Candidates are the durations up to the longest ttl.
//
// Where it differs from the paper, whose rule is Rule::kAsPublished, and why:
// - Holding ends with the call. The paper charges all of tau for a pin that mostly lives as long as
//   a call: where calls are short or of uneven length it then keeps too little, and loses to a
//   blunt pin of 2 s.
// - A reload takes the engine from everyone who runs, not from its program alone. Memory-seconds
//   held are paid by one context, those of a reload by all that hold memory meanwhile: hence w, as
//   InferCept weighs a discard. Alone on the machine w is 1.
// - A call may take a little longer than all that were seen, and a pin that ends just before it is
//   all cost. What is kept at all is therefore kept for half as long again, and for 2 s, unless the
//   calls that were seen say that this costs more than half of what is gained: a tool of which a
//   tenth is over at once and the rest takes minutes is kept for that tenth, and no longer.
// - What gains less than a tenth of a miss is let go: P and B are not known better than that, and
//   what nobody keeps serves those who wait for room.
// - T eta below zero is no reason to let go. Where the long-lived live on (eta < 0), queues of
//   minutes would forbid every pin, however dear the reload.
//
// Measured on a simulated clock beside fcfs_lru, program_fcfs and fixed_ttl: docs/policies.md has
// by how much it is better or worse than the best of them, for each trace and load. It cannot lose
// much to a blunt pin: where a call is mostly over within two seconds, it is kept as long as the
// blunt one keeps it; where not, the blunt one holds memory in vain. Nor to no pin: what costs more
// than it brings, in the mean of the calls that were seen, is not kept at all.
//
// Source: Continuum (arXiv 2511.02230, v6), TTL model; w from InferCept (arXiv 2402.01869).
#pragma once

#include <cstddef>
#include <span>

#include "absl/time/time.h"
#include "scheduler/policy/pin_policy.h"

namespace holdfast {

// Of the durations, ascending, in seconds, the one with the greatest
// share * benefit - mean of min(duration, it), or 0 if none is above 0; the shortest of equals.
// Those longer than `longest` are not looked at. O(durations).
double BestHold(std::span<const double> durations, double benefit, double longest);

class Continuum final : public PinPolicy {
 public:
  static constexpr size_t kDurationsMin = 10;
  static constexpr double kMargin = 1.5;
  static constexpr double kLeastHoldSeconds = 2;
  static constexpr double kGainLeft = 0.5;   // of the best gain, with the longer ttl
  static constexpr double kLeastGain = 0.1;  // of what a hit is worth

  enum class Rule : bool { kAsPublished, kOurs };
  explicit Continuum(Rule rule) : rule_(rule) {}

  TtlDecision Decide(const Pause& pause, const TtlEstimator& known) const override;

 private:
  const Rule rule_;
};

}  // namespace holdfast
