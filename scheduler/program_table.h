// Who the agent programs are, whose turn a request is, and how long what a turn leaves is worth
// keeping: the scheduler's memory between the turns of a program.
//
//   (none) --OnArrive--> running --OnTurnEnd, the last in flight--> paused --OnArrive--> running
//   ...
//                           |                                         |
//                           | a final turn has ended, or none has     | idle_max is over, or room
//                           v                                         v
//                        forgotten <-----------------------------------
//
// A program is known by its tenant and the session that its requests name. Its place in the queue
// is that of its first turn, for as long as it is known. Several turns may be in flight: a client
// that retries, or parallel calls. How long a tool takes is the time from a turn's end to the next
// turn, and is learnt only where those two follow each other and nothing else is in flight.
//
// Which tool a turn calls may be known only after its end, when its text has been read (NameTool);
// a name that comes after the next turn, or twice, says nothing.
//
// What is learnt is learnt per tenant: nobody's latency tells what another's agents do. A forgotten
// program has ended, with as many turns as have ended of it.
//
// Time does not go back: an earlier `now` counts as the latest one heard of.
//
// Source: program table and program-level first come, first served of Continuum (arXiv 2511.02230);
// bounds, several turns in flight and the end of idle programs are ours.
// Thread: the scheduler's alone.    Bound: kProgramsMax programs of each tenant, and beyond only
// those in flight, which are requests. Calls are O(1), but OnTurnEnd, which decides: at most the
// 4,096 durations of ttl_pin.h.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "scheduler/policy/pin_policy.h"
#include "scheduler/policy/program_policy.h"
#include "scheduler/policy/ttl_pin.h"
#include "scheduler/program_metrics.h"
#include "scheduler/turn_ends.h"

namespace holdfast {

struct ProgramOptions {
  SchedulerPolicy policy = SchedulerPolicy::kContinuum;
  absl::Duration ttl_max = absl::Seconds(30);
  absl::Duration fixed_ttl = absl::Seconds(2);
  bool published_ttl = false;  // of kContinuum: as in the paper; see policy/continuum.h
  absl::Duration idle_max = absl::Minutes(10);
};

// Lower goes first.
struct ProgramRank {
  int32_t level = 0;     // of attained service; 0 but under kPlas
  uint64_t arrival = 0;  // of the program's first turn; under kFcfsLru of the request
  auto operator<=>(const ProgramRank&) const = default;
};

struct Program {
  TenantIndex tenant{};
  std::string id;              // the session that its requests name
  uint64_t first_arrival = 0;  // of its first turn
  absl::Time first_arrived;    // likewise
  int64_t turns_ended = 0;     // not those that were cancelled, failed or shed
  int32_t turns_in_flight = 0;
  absl::Time last_finish;  // of the last turn that ended; InfinitePast: none has
  std::string last_tool;   // that it called; empty: none that is known
  bool tool_runs = false;  // since last_finish, and nothing has come since
  bool final = false;      // a turn said that it is the last
  absl::Duration service;  // that its turns were given
  absl::Duration queued;   // before their first steps

 private:
  friend class ProgramTable;
  std::optional<RequestId> naming;     // whose tool is still to be named: its last turn
  Pause pause;                         // of that turn
  TtlDecision unnamed;                 // and what would be if it calls none
  std::list<Program*>::iterator idle;  // while none of it is in flight
  absl::Time idle_since;
};

class ProgramTable final {
 public:
  static constexpr size_t kProgramsMax = 4096;      // of a tenant, beside those in flight
  static constexpr size_t kToolNameBytesMax = 256;  // of longer names the beginning counts

  // num_tenants > 0. `metrics` outlives the table; nullptr: nobody wants to know.
  ProgramTable(const ProgramOptions& options, int32_t num_tenants,
               ProgramMetrics* metrics = nullptr);

  void AddTenant() { tenants_.emplace_back(options_.ttl_max); }  // behind the others

  // A turn came in; `session` is not empty (a request without one has no program). The program
  // stays where it is until none of its turns is in flight. `arrival` counts up.
  Program& OnArrive(TenantIndex tenant, const std::string& session, uint64_t arrival,
                    absl::Time now);

  // Before OnArrive of the second turn of a program that is known only by it. `session` is not
  // known.
  void AddFirstTurn(TenantIndex tenant, const std::string& session, const FirstTurn& turn);

  // A turn runs for the first time, not again after a preemption. had_live_pin: its program had one
  // when the turn arrived. Waits for a remote tier are not part of `queued`.
  void OnFirstRun(Program& program, absl::Duration queued, bool had_live_pin);

  struct EndedTurn {
    std::string_view tool;  // that its answer calls; empty: none that is known
    bool final = false;     // the program ends with it
    int32_t context_tokens = 0;
    absl::Duration service;    // for which it computed
    absl::Duration reload;     // to have its context again (policy/reload_cost.h); zero: not known
    int64_t other_tokens = 0;  // contexts of the others that run
    // `tool` is still to be named, by this id.
    std::optional<RequestId> named_later;
  };
  // A turn has ended well. How long its KV is to be kept; zero: not at all. After a final turn, or
  // one of a program that was final, `program` is gone unless more of it is in flight.
  TtlDecision OnTurnEnd(Program& program, const EndedTurn& turn, absl::Time now);
  // The turn that ended with this id calls `tool`; empty: none. What that says of how long its KV
  // is to be kept, from `ended` on; nullopt: it is not waited for any more.
  struct Named {
    TenantIndex tenant{};
    std::string session;
    absl::Time ended;
    absl::Duration ttl;
  };
  std::optional<Named> NameTool(RequestId turn, std::string_view tool);
  // A turn was cancelled, failed or shed: its KV is not kept, and the time until the next turn says
  // nothing of a tool. `program` is gone if no turn of it has ended and none is in flight.
  void OnTurnGone(Program& program, absl::Time now, absl::Duration service = absl::ZeroDuration());

  // `waiting`: how long the request has waited now; kPlas alone asks for it.
  ProgramRank RankOf(const Program& program, uint64_t request_arrival,
                     absl::Duration waiting = absl::ZeroDuration()) const;
  SchedulerPolicy policy() const { return options_.policy; }
  bool orders_by_program() const { return OrdersByProgram(options_.policy); }
  bool pins() const { return PinsPrograms(options_.policy); }
  // Whether RankOf the same program and request may change over time: by service or by waiting.
  bool ranks_change() const { return options_.policy == SchedulerPolicy::kPlas; }

  // Ends programs without a turn for idle_max, within a second or so, some at a time. For each
  // step.
  void ForgetIdle(absl::Time now);

  const Program* Find(TenantIndex tenant, const std::string& session) const;
  size_t num_programs(TenantIndex tenant) const { return Of(tenant).programs.size(); }
  size_t num_idle(TenantIndex tenant) const { return Of(tenant).idle.size(); }
  const TtlEstimator& estimator(TenantIndex tenant) const { return Of(tenant).estimator; }
  const std::array<TtlCount, kNumTtlSources>& ttls(TenantIndex tenant) const {  // by TtlSource
    return Of(tenant).ttls;
  }

  void CheckInvariants() const;  // stops the process; for tests

 private:
  struct Tenant {
    explicit Tenant(absl::Duration ttl_max) : estimator(ttl_max) {}

    absl::flat_hash_map<std::string, std::unique_ptr<Program>> programs;  // looked up only
    std::list<Program*> idle;  // none in flight, the longest idle first
    TtlEstimator estimator;
    std::array<TtlCount, kNumTtlSources> ttls{};
  };

  Tenant& Of(TenantIndex tenant);
  const Tenant& Of(TenantIndex tenant) const;
  void Advance(absl::Time now);
  TtlDecision Decide(const Program& program, const Pause& pause) const;
  void CountTtl(const Program& program, const TtlDecision& decision);
  void StopNaming(Program& program);  // it called none that will be known
  void LeaveFlight(Program& program);
  void Forget(Program& program);

  const ProgramOptions options_;
  const std::unique_ptr<PinPolicy> pin_policy_;  // nullptr: nothing is pinned
  ProgramMetrics* const metrics_;
  absl::flat_hash_map<RequestId, Program*> naming_;
  std::deque<Tenant> tenants_;  // stay where they are
  absl::Time now_ = absl::InfinitePast();
  absl::Time next_sweep_ = absl::InfinitePast();
};

}  // namespace holdfast
