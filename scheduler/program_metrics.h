// What the scheduler tells of agent programs, and of what is kept between their turns. By tenant
// where a tenant's programs decide it; never by tool or session, whose names are the clients' to
// invent.
//
// Source: the list in Continuum's reproduction plan (pins, results, TTLs, tools, eta, T, programs).
// Thread: made at start, then the scheduler's; tenants are added by one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/base/growing_table.h"
#include "config/base/metrics.h"
#include "config/ids.h"
#include "kvstore/pin_table.h"
#include "scheduler/policy/ttl_pin.h"

namespace holdfast {

// What became of a pin in the end, as a metric label.
enum class PinResult : uint8_t {
  kHit,        // the next turn began with all that was kept
  kMismatch,   // or with less: its history was rewritten
  kExpired,    // the turn did not come in time
  kForced,     // room was needed, or an operator wanted it
  kDisplaced,  // by another pin of its tenant
  kReplaced,   // by a later pin of its session
  kDeclined,   // what the answer called made it not worth its room
  kFinal,      // its session said that it ends
};
inline constexpr size_t kNumPinResults = 8;
const char* PinResultName(PinResult result);
const char* PinStateName(PinState state);

class ProgramMetrics final {
 public:
  ProgramMetrics(MetricsRegistry& registry, size_t tenants_max);

  void AddTenant(const std::string& name);  // behind the others

  void OnTtl(const TtlDecision& decision);
  void OnToolDone(bool named, absl::Duration duration);
  void OnProgramEnd(absl::Duration completion);
  void OnEstimate(TenantIndex tenant, const TtlEstimator& known);
  // A turn has begun with `found` of the `kept` tokens that it could have begun with.
  void OnPinContinued(int32_t found, int32_t kept);
  void UpdatePins(const PinTable& pins, size_t block_bytes);

 private:
  struct Tenant {
    Gauge pinned_bytes;   // holdfast_scheduler_pinned_bytes{tenant=}
    Gauge memoryfulness;  // holdfast_scheduler_memoryfulness{tenant=}; eta
    Gauge queue_seconds;  // holdfast_scheduler_follow_up_queue_seconds{tenant=}; T
  };
  Counter& Of(PinResult result) { return results_[static_cast<size_t>(result)]; }

  std::vector<Histogram> ttl_seconds_;  // holdfast_scheduler_ttl_seconds{source=}; 0: no pin
  Histogram named_tool_seconds_;        // holdfast_scheduler_tool_seconds{tool="named"}
  Histogram unnamed_tool_seconds_;      // and {tool="unnamed"}: none is known to have been called
  Histogram program_seconds_;     // holdfast_scheduler_program_seconds; first arrival to last end
  std::vector<Gauge> pins_;       // holdfast_scheduler_pins{state=}
  std::vector<Counter> results_;  // holdfast_scheduler_pin_results_total{result=}
  Counter mismatch_tokens_;       // holdfast_scheduler_pin_mismatch_tokens_total; kept in vain
  MetricsRegistry& registry_;
  GrowingTable<Tenant> tenants_;

  std::array<uint64_t, kNumPinEnds> last_ended_{};  // already counted
  uint64_t continued_ = 0;                          // since then; they have ended as kFinal
  uint64_t last_changes_ = 0;                       // of pins, when bytes were last set
};

}  // namespace holdfast
