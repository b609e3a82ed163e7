#include "scheduler/policy/continuum.h"

#include <algorithm>

namespace holdfast {
namespace {

// B, in seconds.
double BenefitOf(const Pause& pause, const TtlEstimator& known) {
  const double queueing = absl::ToDoubleSeconds(known.queue_delay()) * known.memoryfulness();
  const double delayed = pause.context_tokens <= 0
                             ? 1
                             : 1 + static_cast<double>(pause.other_tokens) / pause.context_tokens;
  return std::max(queueing, 0.0) + absl::ToDoubleSeconds(pause.reload) * delayed;
}

// What a ttl is expected to bring above what it costs, in seconds.
double RewardOf(const DurationSample& durations, double benefit, double seconds) {
  return durations.ShareWithin(seconds) * benefit - durations.MeanUpTo(seconds);
}

// The ttl by these durations: see the header.
double Keep(const DurationSample& durations, double benefit, double longest) {
  const double hold = BestHold(durations.sorted(), benefit, longest);
  if (hold <= 0) return 0;
  const double best = RewardOf(durations, benefit, hold);
  if (best < Continuum::kLeastGain * benefit) return 0;
  const double margin = Continuum::kMargin * hold;
  for (const double longer : {std::max(margin, Continuum::kLeastHoldSeconds), margin}) {
    const double ttl = std::min(longer, longest);
    if (RewardOf(durations, benefit, ttl) >= Continuum::kGainLeft * best) return ttl;
  }
  return hold;
}

}  // namespace

double BestHold(std::span<const double> durations, double benefit, double longest) {
  double best = 0, best_reward = 0, sum = 0;
  const auto count = static_cast<double>(durations.size());
  for (size_t i = 0; i < durations.size() && durations[i] <= longest; ++i) {
    sum += durations[i];
    // Of equal durations the last has their whole share.
    if (i + 1 < durations.size() && durations[i + 1] == durations[i]) continue;
    const auto over = static_cast<double>(i + 1);
    const double held = sum + (count - over) * durations[i];
    const double reward = (over * benefit - held) / count;
    if (reward > best_reward) {
      best = durations[i];
      best_reward = reward;
    }
  }
  return best;
}

TtlDecision Continuum::Decide(const Pause& pause, const TtlEstimator& known) const {
  if (rule_ == Rule::kAsPublished) return known.Decide(pause.tool, pause.reload);
  const double benefit = BenefitOf(pause, known);
  const double longest = absl::ToDoubleSeconds(known.longest());
  TtlDecision decision;
  const DurationSample* durations = known.DurationsOf(pause.tool);
  double seconds = 0;
  if (durations != nullptr && durations->size() >= kDurationsMin) {
    decision.source = TtlSource::kTool;
    seconds = Keep(*durations, benefit, longest);
  } else if (known.all_durations().size() >= kDurationsMin) {
    decision.source = TtlSource::kTenant;
    seconds = Keep(known.all_durations(), benefit, longest);
  } else {
    seconds = std::min(benefit, longest);
  }
  if (seconds >= TtlEstimator::kShortestSeconds) decision.ttl = absl::Seconds(seconds);
  return decision;
}

}  // namespace holdfast
