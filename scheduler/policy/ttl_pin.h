// How long the KV of a finished turn is worth keeping while its program waits for a tool.
//
//   tau* = argmax over tau >= 0 of  P(tau, tool) * B - tau        B = T * eta + reload
//
// P: the share of the tool's calls that are over within tau. reload: what a miss costs, the seconds
// to compute the context again or to fetch it from a lower tier. T: how long follow-up turns that
// came back without a live pin have queued of late; eta: see memoryfulness.h. All in seconds: the
// memory held by the turn is a factor of cost and benefit alike and cancels.
//
//   known durations of the tenant   of this tool   P
//   at most 100                     at most 100    1 - exp(-tau / s), so tau* = ln B (B > 1)
//   more                            at most 100    those of all the tenant's tools
//   any                             more           those of this tool
//
// The tool without a name stands for turns that are not known to have called one: often a person
// reads and writes then. It has durations of its own, which say nothing of the other tools.
//
// One estimator serves one tenant: nobody's latency tells what another's tools do. Tools are named
// by what models say, so they are bounded; beyond, the one not called for longest is forgotten.
//
// Source: Continuum (arXiv 2511.02230): cost model, cold start, window of T. Bounds, the smallest
// and longest tau, and the fading of T while everything is pinned are ours.
// Thread: its owner's.    Bound: kToolsMax tools of kToolDurationsMax durations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "scheduler/policy/duration_sample.h"
#include "scheduler/policy/memoryfulness.h"

namespace holdfast {

// Of the durations, ascending, the one with the greatest share * benefit - duration, or 0 if none
// is above 0; the shortest of equals. Those longer than `longest` are not looked at. O(durations).
double BestTtl(std::span<const double> durations, double benefit, double longest);

// What decided, as a metric label.
enum class TtlSource : uint8_t {
  kCold,       // too few durations are known
  kTenant,     // those of the tenant's tools
  kTool,       // the tool's own
  kFixed,      // fixed_ttl.h
  kBreakEven,  // infercept.h
  kDeclared,   // the caller said how long
};
inline constexpr size_t kNumTtlSources = 6;
const char* TtlSourceName(TtlSource source);

struct TtlDecision {
  absl::Duration ttl;  // zero: not worth a pin
  TtlSource source = TtlSource::kCold;
};

// Of the decisions of one source, how many were for a pin, and for how long together.
struct TtlCount {
  uint64_t decided = 0, pinned = 0;
  absl::Duration pinned_time;
};

class TtlEstimator final {
 public:
  static constexpr size_t kToolsMax = 256;
  static constexpr size_t kToolDurationsMax = 1024;
  static constexpr size_t kTenantDurationsMax = 4096;
  static constexpr size_t kColdDurations = 100;  // with no more than these a sample is not used
  static constexpr size_t kQueueDelaysMax = 100;
  static constexpr double kShortestSeconds = 0.01;

  explicit TtlEstimator(absl::Duration longest = absl::Seconds(30));

  // A program's next turn came this long after the end of the turn that called `tool`.
  void OnToolDone(const std::string& tool, absl::Duration duration);
  // A turn beyond the first has been scheduled after it queued this long. With a live pin its wait
  // says nothing about T, which fades a little instead: else T would stand still once all is
  // pinned.
  void OnFollowUp(absl::Duration queued, bool had_live_pin);
  void OnProgramEnd(int64_t num_turns);

  // For a turn that called `tool` and whose KV takes `reload` to have again.
  TtlDecision Decide(const std::string& tool, absl::Duration reload) const;
  // B of such a turn, in seconds.
  double Benefit(absl::Duration reload) const;

  // nullptr: nothing is known of it.
  const DurationSample* DurationsOf(const std::string& tool) const;
  const DurationSample& all_durations() const { return all_durations_; }  // of the named tools

  absl::Duration longest() const { return absl::Seconds(longest_seconds_); }  // ttl

  double memoryfulness() const { return memoryfulness_.value(); }
  absl::Duration queue_delay() const;  // T
  size_t num_tools() const { return tools_.size(); }

 private:
  struct Tool {
    DurationSample durations{kToolDurationsMax};
    uint64_t last_call = 0;
  };

  const double longest_seconds_;
  absl::flat_hash_map<std::string, Tool> tools_;
  DurationSample all_durations_{kTenantDurationsMax};
  uint64_t calls_ = 0;
  std::deque<double> queue_delays_;  // seconds
  double queue_delay_sum_ = 0;
  double queue_delay_faded_ = 1;  // by follow-ups that had a pin, since the last that had none
  Memoryfulness memoryfulness_;
};

}  // namespace holdfast
