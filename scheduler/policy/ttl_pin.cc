#include "scheduler/policy/ttl_pin.h"

#include <algorithm>
#include <cmath>

namespace holdfast {
namespace {

constexpr double kQueueDelayFade = 0.99;

}  // namespace

double BestTtl(std::span<const double> durations, double benefit, double longest) {
  double best = 0, best_reward = 0;
  const auto count = static_cast<double>(durations.size());
  for (size_t i = 0; i < durations.size() && durations[i] <= longest; ++i) {
    // Of equal durations the last has their whole share.
    if (i + 1 < durations.size() && durations[i + 1] == durations[i]) continue;
    const double reward = static_cast<double>(i + 1) / count * benefit - durations[i];
    if (reward > best_reward) {
      best = durations[i];
      best_reward = reward;
    }
  }
  return best;
}

const char* TtlSourceName(TtlSource source) {
  switch (source) {
    case TtlSource::kCold:
      return "cold";
    case TtlSource::kTenant:
      return "tenant";
    case TtlSource::kTool:
      return "tool";
    case TtlSource::kFixed:
      return "fixed";
    case TtlSource::kBreakEven:
      return "break_even";
    case TtlSource::kDeclared:
      return "declared";
  }
  return "cold";
}

TtlEstimator::TtlEstimator(absl::Duration longest)
    : longest_seconds_(absl::ToDoubleSeconds(longest)) {}

void TtlEstimator::OnToolDone(const std::string& tool, absl::Duration duration) {
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(duration));
  if (!tool.empty()) all_durations_.Add(seconds);
  if (tools_.size() >= kToolsMax && !tools_.contains(tool)) {
    tools_.erase(std::min_element(tools_.begin(), tools_.end(), [](const auto& a, const auto& b) {
      return a.second.last_call < b.second.last_call;
    }));
  }
  Tool& known = tools_[tool];
  known.durations.Add(seconds);
  known.last_call = ++calls_;
}

void TtlEstimator::OnFollowUp(absl::Duration queued, bool had_live_pin) {
  if (had_live_pin) {
    queue_delay_faded_ *= kQueueDelayFade;
    return;
  }
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(queued));
  queue_delays_.push_back(seconds);
  queue_delay_sum_ += seconds;
  if (queue_delays_.size() > kQueueDelaysMax) {
    queue_delay_sum_ -= queue_delays_.front();
    queue_delays_.pop_front();
  }
  queue_delay_faded_ = 1;
}

void TtlEstimator::OnProgramEnd(int64_t num_turns) { memoryfulness_.AddProgram(num_turns); }

absl::Duration TtlEstimator::queue_delay() const {
  if (queue_delays_.empty()) return absl::ZeroDuration();
  const double mean = std::max(0.0, queue_delay_sum_) / static_cast<double>(queue_delays_.size());
  return absl::Seconds(mean * queue_delay_faded_);
}

TtlDecision TtlEstimator::Decide(const std::string& tool, absl::Duration reload) const {
  const double benefit = Benefit(reload);
  const DurationSample* of_tool = DurationsOf(tool);
  TtlDecision decision;
  double seconds = 0;
  if (of_tool != nullptr && of_tool->size() > kColdDurations) {
    decision.source = TtlSource::kTool;
    seconds = BestTtl(of_tool->sorted(), benefit, longest_seconds_);
  } else if (all_durations_.size() > kColdDurations) {
    decision.source = TtlSource::kTenant;
    seconds = BestTtl(all_durations_.sorted(), benefit, longest_seconds_);
  } else if (benefit > 1) {
    // The maximum of B (1 - exp(-tau)) - tau.
    seconds = std::min(std::log(benefit), longest_seconds_);
  }
  if (seconds >= kShortestSeconds) decision.ttl = absl::Seconds(seconds);
  return decision;
}

double TtlEstimator::Benefit(absl::Duration reload) const {
  return absl::ToDoubleSeconds(queue_delay()) * memoryfulness() + absl::ToDoubleSeconds(reload);
}

const DurationSample* TtlEstimator::DurationsOf(const std::string& tool) const {
  const auto known = tools_.find(tool);
  return known == tools_.end() ? nullptr : &known->second.durations;
}

}  // namespace holdfast
