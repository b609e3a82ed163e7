#include "scheduler/policy/continuum.h"

#include <cmath>

namespace holdfast {
namespace {

struct Calls {
  double over_share = 0;    // over within the floor
  double held_seconds = 0;  // mean time for which a pin of the floor's length holds
};

Calls CallsOf(const std::string& tool, const TtlEstimator& known) {
  const double floor = absl::ToDoubleSeconds(Continuum::kFloor);
  const DurationSample* durations = known.DurationsOf(tool);
  if (durations == nullptr || durations->size() < Continuum::kFloorDurationsMin) {
    durations = &known.all_durations();
  }
  if (durations->size() < Continuum::kFloorDurationsMin) {
    const double over = 1 - std::exp(-floor);
    return {.over_share = over, .held_seconds = over};
  }
  return {.over_share = durations->ShareWithin(floor), .held_seconds = durations->MeanUpTo(floor)};
}

bool FloorIsCheap(const Pause& pause, const TtlEstimator& known) {
  if (pause.pinned_share >= Continuum::kFloorShareMax) return false;
  const Calls calls = CallsOf(pause.tool, known);
  const double benefit = known.Benefit(pause.reload);
  return benefit > 0 && calls.over_share >= Continuum::kFloorCallsMin &&
         calls.over_share * benefit * Continuum::kFloorMissWeight >= calls.held_seconds;
}

}  // namespace

TtlDecision Continuum::Decide(const Pause& pause, const TtlEstimator& known) const {
  const TtlDecision worth = known.Decide(pause.tool, pause.reload);
  if (floor_ == Floor::kNone || worth.ttl >= kFloor || !FloorIsCheap(pause, known)) return worth;
  return {.ttl = kFloor, .source = TtlSource::kFloor};
}

}  // namespace holdfast
