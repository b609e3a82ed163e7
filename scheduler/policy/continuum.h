// The product's rule: keeps a context for tau*, the time at which the expected worth of a hit is
// farthest above what holding the memory costs (ttl_pin.h), and at least for a short floor while
// holding is cheap.
//
//   ttl = max(tau*, floor)   if pins hold less than kFloorShareMax of the device, and
//                               P(floor) >= kFloorCallsMin               most calls are over by
//                               then P(floor) B w >= E[min(call, floor)]      and a hit is worth
//                               the hold
//         tau*               else
//
// Why a floor. tau* prices a second of memory as another's second of waiting, and a miss as one
// reload of this program alone. Where the pool has room nobody waits for the memory; and a reload
// takes the engine from everyone who runs, not from its program alone. So where calls are short and
// reloads quick (B below a second) tau* pins hardly anything and loses to a blunt pin of 2 s: by 39
// % and 17 % of mean job time in the two such cells of a toy model of 60 programs, and by 9 % and
// 17 % with a floor of 1 s that asks for P(1 s) >= 1/2, which misses tools of 1.3 s.
//
// Why these conditions bound what it can lose, beside that blunt pin and beside no pin:
// - The floor is as long as the blunt pin, so where most calls are over within it, the rule keeps
//   at least what the blunt pin keeps. Where they are not, a blunt pin mostly holds memory for
//   nothing, and tau* decides alone, which wins there (tools of 4 s: by 29 %).
// - Holding ends with the call. With w = kFloorMissWeight, others whom a reload delays, a pin by
//   the floor holds on average no longer than w times the reload that it saves: contexts that a
//   lower tier brings back at once are not held.
// - What calls have not been seen is not taken for slow, but ten of them settle it.
// - Beyond kFloorShareMax of the device memory is scarce, and the paper's price of it is right.
// That none of it costs more than 3 % is measured, not proved: see the tables of the simulations.
//
// Without the floor this is the paper's rule.
//
// Source: Continuum (arXiv 2511.02230, v6), TTL model; the floor is ours.
#pragma once

#include <cstddef>

#include "absl/time/time.h"
#include "scheduler/policy/pin_policy.h"

namespace holdfast {

class Continuum final : public PinPolicy {
 public:
  static constexpr absl::Duration kFloor = absl::Seconds(2);
  static constexpr double kFloorShareMax = 0.25;
  static constexpr double kFloorCallsMin = 0.5;
  static constexpr double kFloorMissWeight = 5;
  // With fewer durations than these of a tool the tenant's are taken, and with fewer of those
  // calls are taken for exponential of a second, as in the cold start.
  static constexpr size_t kFloorDurationsMin = 10;

  enum class Floor : bool { kNone, kWhileCheap };  // kNone: as in the paper
  explicit Continuum(Floor floor) : floor_(floor) {}

  TtlDecision Decide(const Pause& pause, const TtlEstimator& known) const override;

 private:
  const Floor floor_;
};

}  // namespace holdfast
