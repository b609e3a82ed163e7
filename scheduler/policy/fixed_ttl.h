// Keeps every context for the same time, unless its tool is known to take longer on average.
//
// Source: what the code released with Continuum (arXiv 2511.02230) does in place of the paper's
// model: 2.0 s; a tool that is not known counts as quick. A baseline.
#pragma once

#include "absl/time/time.h"
#include "scheduler/policy/pin_policy.h"

namespace holdfast {

class FixedTtl final : public PinPolicy {
 public:
  explicit FixedTtl(absl::Duration ttl) : ttl_(ttl) {}

  TtlDecision Decide(const Pause& pause, const TtlEstimator& known) const override;

 private:
  const absl::Duration ttl_;
};

}  // namespace holdfast
