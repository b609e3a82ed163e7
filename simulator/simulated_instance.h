// One instance of the daemon on a clock of its own: the scheduler and the KV store as they are, an
// engine and tiers that take their time from a cost profile, and the programs that it is sent.
//
//   program starts ──┐
//   tool returns ────┼──► next event ──► scheduler: Commit, OnMoveDone, Submit, then Plan if idle
//   client leaves ───┤
//   moves end ───────┤        ▲                              │
//   step ends ───────┘        └──── step and moves take what the profile says
//
// Of what happens at one time, the step's end comes first, then moves, then arrivals, as the
// daemon's loop hears all its messages before it plans. Turns of a program follow each other: a
// turn arrives `after` the end of the one before it, and a program of which a turn is refused or
// cancelled is over.
//
// What is left out: text work, the network, and retries of refused turns.
//
// Deterministic: the same programs, options and seed give the same events, on any machine. Time
// counts nanoseconds since the simulation began.
//
// Thread: one.    Bound: programs that it is sent; tokens of those between first and last turn.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "config/ids.h"
#include "engine/engine.h"
#include "scheduler/events.h"
#include "scheduler/metrics.h"
#include "scheduler/scheduler.h"
#include "scheduler/scheduler_options.h"
#include "simulator/cost_profile.h"
#include "simulator/simulated_engine.h"
#include "simulator/simulated_tiers.h"
#include "simulator/tally.h"
#include "workload/token_runs.h"
#include "workload/workload.h"

namespace holdfast {

struct InstanceOptions {
  EngineInfo engine;  // sizes; its KV layout says how long moves take
  // `tenants` and `kv.tenants` by the workload's index of tenants, or empty; kv's tiers are set
  // here.
  SchedulerOptions scheduler;
  int32_t host_blocks = 0, disk_blocks = 0;  // 0: no such tier
  CostProfile profile;
  uint64_t seed = 1;
  Slo slo;
  // Asked for by every turn but a program's last. nullopt: what the policy keeps. Programs of
  // several turns that name no session get one.
  std::optional<absl::Duration> retain;
};

class SimulatedInstance final : private TokenSink {
 public:
  // Hears of each turn when it is over; must not call the instance.
  using TurnListener = std::function<void(const TurnRecord&)>;

  // `workload` outlives the instance. kInvalidArgument: as Scheduler::Create.
  static absl::StatusOr<std::unique_ptr<SimulatedInstance>> Create(const Workload& workload,
                                                                   const InstanceOptions& options,
                                                                   TurnListener listener = nullptr);

  // Sends it the program with this index, which starts no earlier than the time reached and than
  // the last one added.
  void AddProgram(int32_t program);

  // Handles everything that happens before `nanos`.
  void RunUntil(int64_t nanos);
  // And everything to the last turn's end.
  void RunToEnd() { RunUntil(kNever); }

  int64_t now_nanos() const { return now_nanos_; }
  int32_t num_requests() const { return scheduler_->num_requests(); }  // at work and waiting
  int64_t turns_ended() const { return turns_ended_; }
  // Of what happened so far; whole once it has run to the end.
  Tally TakeTally();
  const Scheduler& scheduler() const { return *scheduler_; }

 private:
  static constexpr int64_t kNever = INT64_MAX;

  struct Program {
    int32_t index = 0;            // into Workload::programs
    int32_t turn = 0;             // that is to come, or at work
    std::vector<TokenId> tokens;  // prompt and completion of the turn at work, or of the last
    TurnRecord record;            // of the turn at work
    int64_t last_token_nanos = 0;
    int32_t computed_tokens = 0;  // the most that were, also before a preemption
    bool opened = false;          // it has been given rows
  };
  struct Arrival {
    int64_t nanos = 0;
    int32_t program = 0;  // into programs_
    bool operator>(const Arrival& other) const {
      return nanos != other.nanos ? nanos > other.nanos : program > other.program;
    }
  };

  struct Departure {
    int64_t nanos = 0;
    RequestId turn{};
    auto operator<=>(const Departure&) const = default;
  };

  SimulatedInstance(const Workload& workload, const InstanceOptions& options, TokenRuns tokens,
                    TurnListener listener);
  absl::Status Start();

  void OnPrompt(PromptEvent event) override;
  void OnToken(TokenEvent event) override;
  void OnDone(RequestDone event) override;

  absl::Time Now() const { return absl::FromUnixNanos(now_nanos_); }
  int64_t NextEventNanos() const;
  void HandleEvents();  // of now_nanos_
  void FinishStep();
  void PlanStep();
  void NoteOpens();
  void NoteRows();
  void Send(int32_t program);
  Request MakeRequest(int32_t program);
  void EndTurn(int32_t program, TurnEnd end);
  void Note(const TurnRecord& record);
  void NoteState(int64_t until_nanos);

  // A request's id names its program and turn, hence is never given twice.
  static RequestId IdOf(int32_t program, int32_t turn) {
    return RequestId{static_cast<uint64_t>(turn) << 32 | static_cast<uint32_t>(program)};
  }
  static int32_t ProgramOf(RequestId id) {
    return static_cast<int32_t>(static_cast<uint32_t>(Number(id)));
  }
  Program& Of(RequestId id) { return programs_[static_cast<size_t>(ProgramOf(id))]; }

  const Workload& workload_;
  InstanceOptions options_;
  const TokenRuns tokens_;
  const TurnListener listener_;
  SimulatedEngine engine_;
  std::unique_ptr<SimulatedTier> host_, disk_;
  SimulatedMover mover_;
  MetricsRegistry registry_;
  std::unique_ptr<SchedulerMetrics> metrics_;
  std::unique_ptr<Scheduler> scheduler_;

  std::vector<Program> programs_;
  size_t next_start_ = 0;  // of programs_, which start in this order
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> returns_;         // of tools
  std::priority_queue<Departure, std::vector<Departure>, std::greater<>> departures_;  // of clients
  int64_t num_opened_ = 0;

  int64_t now_nanos_ = 0;
  int64_t step_end_nanos_ = kNever;
  int64_t last_end_nanos_ = -kPauseNanos;  // of the step before; at first nothing has run
  int64_t poll_nanos_ = kNever;            // nobody tells when a pin is over
  StepPlan plan_;
  StepResult result_;
  std::vector<MoveJob> jobs_;
  std::vector<int32_t> slot_programs_;  // whose the slot was opened for last

  int64_t turns_ended_ = 0;
  Tally tally_;
};

}  // namespace holdfast
