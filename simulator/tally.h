// What a simulation or a replay counts, in a form that adds up: the tally of a fleet is the sum of
// its instances' in any order.
//
// Bound: tenants times six distributions and one record over time; nothing grows with turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "simulator/duration_histogram.h"
#include "simulator/time_windows.h"

namespace holdfast {

// What a turn has to keep to be good. What is not set is not asked.
struct Slo {
  std::optional<int64_t> ttft_nanos;  // arrival to first token
  std::optional<int64_t> tpot_nanos;  // mean gap between tokens
  std::optional<int64_t> e2e_nanos;   // arrival to last token
};

enum class TurnEnd : uint8_t {
  kDone,
  kRefused,    // the scheduler did not take it: shed, or too long for the engine
  kFailed,     // taken, and not answered to its end: of a replay only
  kCancelled,  // its client had no more patience: of a simulation only
  kAbandoned,  // never sent: an earlier turn of its program did not end well, or no time was left
};

// One turn, when it is over. Times since the simulation began.
struct TurnRecord {
  int32_t program = 0;  // index into Workload::programs
  int32_t turn = 0;     // of the program, from 0
  int32_t tenant = 0;
  bool offline = false;
  TurnEnd end = TurnEnd::kDone;
  int64_t arrival_nanos = 0;  // when it was due, however much later a busy client sent it
  // Its first rows were planned. nullopt: a client does not learn of it, nor of preemptions.
  std::optional<int64_t> scheduled_nanos;
  int64_t first_token_nanos = 0;
  int64_t end_nanos = 0;
  int32_t prompt_tokens = 0;
  int32_t kept_tokens = 0;    // of the previous turn
  int32_t cached_tokens = 0;  // of the prompt, that needed no prefill
  int32_t completion_tokens = 0;
  int32_t preemptions = 0;
  int64_t recomputed_tokens = 0;  // after those, of what had been computed
  int64_t found_late_tokens = 0;  // after those, beyond what had been computed
  int64_t opened = 0;             // how many turns of the instance had had rows before it had
  std::optional<int64_t> retry_after_nanos;  // of one refused: when it was told to come again

  double tpot_nanos() const {
    if (completion_tokens < 2) return 0;
    return static_cast<double>(end_nanos - first_token_nanos) / (completion_tokens - 1);
  }
};

struct TenantTally {
  int64_t programs_done = 0, programs_cut = 0;  // cut: a turn did not end well
  int64_t turns_done = 0, turns_refused = 0, turns_failed = 0, turns_cancelled = 0;
  int64_t turns_abandoned = 0, turns_good = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  // Of what a turn kept of the one before, the part that was no longer there.
  int64_t kept_tokens = 0, kept_recomputed_tokens = 0;
  int64_t preemptions = 0, preempted_recomputed_tokens = 0;
  DurationHistogram queue, ttft, itl, tpot, e2e;  // of turns done
  DurationHistogram job;                          // of programs done: first arrival to last token

  void Merge(const TenantTally& other);
  bool operator==(const TenantTally&) const = default;
};

struct Tally {
  explicit Tally(size_t num_tenants);

  // Entry 2 * tenant is what it sends online, the next what it sends offline.
  std::vector<TenantTally> tenants;
  int64_t instances = 0;
  int64_t steps = 0, rows = 0, busy_nanos = 0;  // busy: while a step runs, of all instances
  int64_t end_nanos = 0;                        // of the last instance
  int64_t blocks = 0;                           // of all instances' devices
  int64_t offloads = 0, restores = 0, demotes = 0;
  AmountWindows service;  // rows computed, by tenant (as above)
  StateSamples states;

  TenantTally& Of(int32_t tenant, bool offline) { return tenants[PartyOf(tenant, offline)]; }
  static size_t PartyOf(int32_t tenant, bool offline) {
    return static_cast<size_t>(tenant) * 2 + (offline ? 1 : 0);
  }
  void AddTurn(const TurnRecord& record, const Slo& slo);
  void Merge(const Tally& other);
  bool operator==(const Tally&) const = default;
};

}  // namespace holdfast
