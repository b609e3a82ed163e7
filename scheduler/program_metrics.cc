#include "scheduler/program_metrics.h"

#include <algorithm>

namespace holdfast {
namespace {

// 10 ms, below which nothing is pinned, to the longest tools that are known.
std::vector<double> PauseBuckets() {
  return {0.01, 0.03, 0.1, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 300, 1800};
}

std::vector<double> ProgramBuckets() {
  return {1, 3, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 4 * 3600.0};
}

Histogram ToolHistogram(MetricsRegistry& registry, const char* tool) {
  return registry.AddHistogram("holdfast_scheduler_tool_seconds",
                               "Time from a turn's end to the next turn, by whether it is known "
                               "which tool ran meanwhile.",
                               PauseBuckets(), {{"tool", tool}});
}

}  // namespace

const char* PinResultName(PinResult result) {
  switch (result) {
    case PinResult::kHit:
      return "hit";
    case PinResult::kMismatch:
      return "mismatch";
    case PinResult::kExpired:
      return "expired";
    case PinResult::kForced:
      return "forced";
    case PinResult::kDisplaced:
      return "displaced";
    case PinResult::kReplaced:
      return "replaced";
    case PinResult::kDeclined:
      return "declined";
    case PinResult::kFinal:
      return "final";
  }
  return "final";
}

const char* PinStateName(PinState state) {
  switch (state) {
    case PinState::kAsked:
      return "asked";
    case PinState::kPaused:
      return "paused";
    case PinState::kProvisional:
      return "provisional";
    case PinState::kWanted:
      return "wanted";
  }
  return "asked";
}

ProgramMetrics::ProgramMetrics(MetricsRegistry& registry, size_t tenants_max)
    : named_tool_seconds_(ToolHistogram(registry, "named")),
      unnamed_tool_seconds_(ToolHistogram(registry, "unnamed")),
      program_seconds_(registry.AddHistogram(
          "holdfast_scheduler_program_seconds",
          "Time from a program's first turn to the end of its last.", ProgramBuckets())),
      mismatch_tokens_(registry.AddCounter(
          "holdfast_scheduler_pin_mismatch_tokens_total",
          "Tokens kept by pins in vain: the next turn's prompt had others in their place.")),
      registry_(registry),
      tenants_(tenants_max) {
  for (size_t i = 0; i < kNumTtlSources; ++i) {
    ttl_seconds_.push_back(registry.AddHistogram(
        "holdfast_scheduler_ttl_seconds",
        "For how long the KV of a finished turn was to be kept, by what decided; 0: not at all.",
        PauseBuckets(), {{"source", TtlSourceName(static_cast<TtlSource>(i))}}));
  }
  for (size_t i = 0; i < kNumPinStates; ++i) {
    pins_.push_back(registry.AddGauge("holdfast_scheduler_pins", "Pins by what they wait for.",
                                      {{"state", PinStateName(static_cast<PinState>(i))}}));
  }
  for (size_t i = 0; i < kNumPinResults; ++i) {
    results_.push_back(registry.AddCounter("holdfast_scheduler_pin_results_total",
                                           "Pins that ended, by what they were good for.",
                                           {{"result", PinResultName(static_cast<PinResult>(i))}}));
  }
}

void ProgramMetrics::AddTenant(const std::string& name) {
  const MetricLabels labels = {{"tenant", name}};
  Tenant& tenant = tenants_.Add(
      {.pinned_bytes = registry_.AddGauge("holdfast_scheduler_pinned_bytes",
                                          "KV of the device that pins keep.", labels),
       .memoryfulness = registry_.AddGauge(
           "holdfast_scheduler_memoryfulness",
           "How well a program's progress tells what is left of it (eta), -1 to 1.", labels,
           BeyondBound::kLeftOut),
       .queue_seconds = registry_.AddGauge(
           "holdfast_scheduler_follow_up_queue_seconds",
           "Mean wait of turns beyond the first that came back without a live pin (T).", labels,
           BeyondBound::kLeftOut)});
  tenant.memoryfulness.Set(1);
}

void ProgramMetrics::OnTtl(const TtlDecision& decision) {
  ttl_seconds_[static_cast<size_t>(decision.source)].Observe(absl::ToDoubleSeconds(decision.ttl));
}

void ProgramMetrics::OnToolDone(bool named, absl::Duration duration) {
  (named ? named_tool_seconds_ : unnamed_tool_seconds_).Observe(absl::ToDoubleSeconds(duration));
}

void ProgramMetrics::OnProgramEnd(absl::Duration completion) {
  program_seconds_.Observe(absl::ToDoubleSeconds(completion));
}

void ProgramMetrics::OnEstimate(TenantIndex tenant, const TtlEstimator& known) {
  Tenant& metrics = tenants_[static_cast<size_t>(Number(tenant))];
  metrics.memoryfulness.Set(known.memoryfulness());
  metrics.queue_seconds.Set(absl::ToDoubleSeconds(known.queue_delay()));
}

void ProgramMetrics::OnPinContinued(int32_t found, int32_t kept) {
  ++continued_;
  Of(found < kept ? PinResult::kMismatch : PinResult::kHit).Add();
  if (found < kept) mismatch_tokens_.Add(kept - found);
}

void ProgramMetrics::UpdatePins(const PinTable& pins, size_t block_bytes) {
  for (size_t i = 0; i < kNumPinStates; ++i) pins_[i].Set(pins.num_pins(static_cast<PinState>(i)));
  uint64_t changes = pins.num_made();
  const auto count = [&](PinEnd end, PinResult result, uint64_t but = 0) {
    const uint64_t now = pins.num_ended(end);
    uint64_t& last = last_ended_[static_cast<size_t>(end)];
    changes += now;
    if (now - last > but) Of(result).Add(static_cast<double>(now - last - but));
    last = now;
  };
  count(PinEnd::kExpired, PinResult::kExpired);
  count(PinEnd::kForced, PinResult::kForced);
  count(PinEnd::kDisplaced, PinResult::kDisplaced);
  count(PinEnd::kReplaced, PinResult::kReplaced);
  count(PinEnd::kDeclined, PinResult::kDeclined);
  count(PinEnd::kFinal, PinResult::kFinal, continued_);
  continued_ = 0;
  if (changes == last_changes_) return;
  last_changes_ = changes;
  for (int32_t i = 0; i < pins.num_tenants(); ++i) {
    const int64_t blocks = pins.num_blocks(TenantIndex{i});
    tenants_[static_cast<size_t>(i)].pinned_bytes.Set(
        static_cast<double>(blocks * static_cast<int64_t>(block_bytes)));
  }
}

}  // namespace holdfast
