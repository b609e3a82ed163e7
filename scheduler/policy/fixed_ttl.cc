#include "scheduler/policy/fixed_ttl.h"

namespace holdfast {

TtlDecision FixedTtl::Decide(const Pause& pause, const TtlEstimator& known) const {
  const DurationSample* durations = known.DurationsOf(pause.tool);
  const double mean = durations == nullptr ? 0 : durations->mean();
  TtlDecision decision{.source = TtlSource::kFixed};
  if (absl::Seconds(mean) <= ttl_) decision.ttl = ttl_;
  return decision;
}

}  // namespace holdfast
