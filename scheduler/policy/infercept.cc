#include "scheduler/policy/infercept.h"

namespace holdfast {

TtlDecision InferCept::Decide(const Pause& pause, const TtlEstimator&) const {
  TtlDecision decision{.source = TtlSource::kBreakEven};
  if (pause.context_tokens <= 0) return decision;
  const double others =
      static_cast<double>(pause.other_tokens) / static_cast<double>(pause.context_tokens);
  decision.ttl = pause.reload * (1 + others);
  return decision;
}

}  // namespace holdfast
