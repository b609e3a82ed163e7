// Decides one step at a time who runs: continuous batching over a paged KV store. Pure in the sense
// that it has no thread, no clock and no device: time is handed in, steps are handed out and come
// back.
//
//   Submit --> waiting --admit--> running --Plan--> StepPlan ... Commit(StepResult) --> events
//                 ^                  |
//                 +---- preempt -----+   gives its blocks back and recomputes
//
// Who is let in: of the tenants that wait, the one that was served least by its weight
// (policy/fair_share.h); of its sequences the first in its queue (wait_queue.h). Offline ones when
// no online one waits that could run.
//
// Who is preempted, when a sequence cannot grow: the latest offline one, else the latest of the
// tenant that holds most by its weight. A tenant that runs less than its share, by weight, of
// places or blocks takes them back from those that run more, so that nobody waits for another's
// long answers to end; it does so with a sequence twice at most, and what must be computed again
// for a tenant's sake has a budget (preemption_budget.h).
//
// Those next in line keep what they will find from being evicted (scheduler_head.cc), until
// somebody who runs or goes before them needs the room.
//
// A sequence whose prefix lies on a lower tier is admitted at once, so that it comes back while
// others compute, and gets no rows until it is there. What cannot come back is computed.
//
// If it comes back layer by layer (kvstore/layer_gate.h), its first rows may run ahead, in a step
// that waits for each layer: when the first layer is there, if nobody else is in the step; else
// when half of them are, so that the others wait at most as long as that half has taken, and only
// if they compute faster than it comes. Should a layer not come, or not be what it ought to be, the
// rows count as never computed, and the prefix is cut as without a gate.
//
// Where there is a remote tier, a sequence that lacks some blocks here waits to hear whether it has
// them, for a bounded time, and lets others pass.
//
// A sequence that would compute what another is about to publish waits for it, and lets others
// pass. The other choices of a request (n > 1), and a session's next turn, continue a block that
// is not full yet by a copy of what they share of it.
//
// A step may be planned while the one before it runs. Who is then being drawn a token gets the row
// for it, and the token's place is filled when it is known (FillDraws); who ends with that token
// has computed one row in vain. What such a plan takes from anybody, the step that runs may still
// read: later steps come after it, and nothing is restored into it before that step is through.
// Where a step has run ahead of a restore, none is planned beside it.
//
// A sequence whose text repeats itself may get rows for drafts, last of all (scheduler_drafts.cc):
// the step then draws as many tokens for it as were drafted right, and one more. None is planned
// beside such a step, nor beside one whose tokens are awaited to draft after them.
//
// Where a sequence is held to a form that leaves one text only, the tokens behind the one that was
// drawn are taken with it, and computed in one step like a piece of a prompt. A step that was
// planned beside draws the first of them once more.
//
// A step: decodes first (one row each, growing by a block where needed, preempting when there is
// none), then chunks of running prefills and admissions while places, blocks and rows last: each
// tenant's up to its part of the rows (tenant_rows.h), then the least served tenant's first, then
// offline ones. Nobody is admitted past someone who waits for blocks, except to
// blocks that are kept for him (floors), and past those whose tenant runs all it may.
//
// Why the oldest always gets on: it is never preempted while others run, admission leaves the rest
// of the pool to it, and one longest sequence fits the pool (checked at start). Pins give way
// before it does; for blocks that the mover still reads it waits.
//
// A sequence for which the model gives no finite number ends its own request alone (kInternal), and
// what that step computed of it is not published.
//
// A block is published by the Commit of the step that computed its last place, and not before
// (promise 3). What a preempted sequence had published it may find again.
//
// Thread: one; ThreadChecker proves it. Bound: running_max + waiting_max requests
// (see admission.h). A warm step allocates only with growing tables and the events' own payloads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/thread_checker.h"
#include "config/ids.h"
#include "engine/engine.h"
#include "engine/step_plan.h"
#include "kvstore/disk_tier.h"
#include "kvstore/kv_store.h"
#include "kvstore/move.h"
#include "kvstore/remote_lookup.h"
#include "scheduler/admission.h"
#include "scheduler/cache_report.h"
#include "scheduler/chunker.h"
#include "scheduler/events.h"
#include "scheduler/metrics.h"
#include "scheduler/policy/draft_deal.h"
#include "scheduler/policy/fair_share.h"
#include "scheduler/policy/reload_cost.h"
#include "scheduler/preemption_budget.h"
#include "scheduler/program_table.h"
#include "scheduler/queue_departures.h"
#include "scheduler/queue_report.h"
#include "scheduler/rate_limit.h"
#include "scheduler/request.h"
#include "scheduler/scheduler_options.h"
#include "scheduler/sequence.h"
#include "scheduler/sequence_memory.h"
#include "scheduler/step_forecast.h"
#include "scheduler/step_pace.h"
#include "scheduler/tenant_ledger.h"
#include "scheduler/tenant_rows.h"
#include "scheduler/turn_ends.h"
#include "scheduler/usage_meter.h"
#include "scheduler/wait_queue.h"

namespace holdfast {

class Scheduler final {
 public:
  // kInvalidArgument: a bound is below 1, or the engine's KV pool cannot hold one longest sequence.
  // `metrics`, `sink` and the tiers must outlive the scheduler.
  static absl::StatusOr<std::unique_ptr<Scheduler>> Create(const EngineInfo& engine,
                                                           const SchedulerOptions& options,
                                                           SchedulerMetrics& metrics,
                                                           TokenSink& sink);

  // Takes the requests, which are one tenant's, all of them or none. Exactly one RequestDone
  // follows for each, as its last event: at once if they are shed (kResourceExhausted) or one
  // cannot be served (kInvalidArgument), and false is returned.
  bool SubmitAll(std::vector<Request>&& requests, absl::Time now);
  bool Submit(Request&& request, absl::Time now);

  // Ends the request with kCancelled: at once, or with the Commit of the step that computes it,
  // whose result is dropped. Unknown or finished: nothing happens.
  void Cancel(RequestId id);

  // The choice has said enough: it ends without a further token, at once or with the Commit of the
  // step that computes it, whose token is dropped. Its request goes on with the other choices and
  // is done (ok) after the last. Unknown, over, or without a token yet: nothing happens.
  void StopChoice(RequestId id, int32_t choice);

  // What tool the answer of the request's first choice calls, empty: none; see Request::names_tool.
  // May come before the turn's end or after it; then how long its KV stays is decided again. Late,
  // twice, or for someone gone: nothing happens. A step may run.
  void NameTool(RequestId id, std::string_view tool, absl::Time now);

  // New bounds and weights of the tenants, by TenantIndex, for those that there are, and behind
  // them for new ones, whom the metrics know already; and their parts of the KV cache, which have
  // passed CheckFloors: who is missing in `shares` has what it had, or none. What waits or runs is
  // not refused any more. A step may run. Allocates.
  void SetTenants(const std::vector<TenantConfig>& tenants, std::vector<TenantShares> shares,
                  absl::Time now);
  // kInvalidArgument: the floors of the device would leave some tenant no room for one longest
  // sequence.
  static absl::Status CheckFloors(const EngineInfo& engine,
                                  const std::vector<TenantShares>& tenants);

  // See admission.h.
  int32_t RequestsAtOnceMax(TenantIndex tenant) const;
  // When a place in the queue is to be expected, should it be full (queue_departures.h).
  absl::Duration RetryAfter() const { return queue_.TimeUntilLeft(1); }

  // Fills `plan` (cleared first) with the next step. False: there is nothing to compute, or only
  // after moves or the step that is under way. The plan's blocks are lent until its Commit or
  // FailAll; part of it stays from one Plan into it to the next, so it is to be this scheduler's
  // alone. Call it after each OnMoveDone too: it also decides what to move. Only if may_plan():
  // no step runs, or one beside which another can be planned.
  [[nodiscard]] bool Plan(absl::Time now, StepPlan& plan);
  bool may_plan() const;
  // When the one step that runs is expected to end; the infinite future: it cannot be told.
  absl::Time StepEndsAt() const;

  // Appends the moves that Plan has started, for the mover, who answers each exactly once, at any
  // time, also after FailAll; a step may run.
  void TakeMoves(std::vector<MoveJob>& jobs);
  // Likewise also those that were to wait for a step that runs, which has failed: before FailAll,
  // so that the mover has all that it is to forget.
  void TakeAllMoves(std::vector<MoveJob>& jobs);
  void OnMoveDone(const MoveDone& done, absl::Time now);
  void TellAnew() { store_.TellAnew(); }

  // Likewise the questions to the remote tier, at most kLookupsMax at a time. While some are open,
  // Plan is to be called now and then: who waits for an answer waits for lookup_wait at most.
  static constexpr int32_t kLookupsMax = 64;
  void TakeLookups(std::vector<RemoteLookup>& lookups);
  void OnRemoteFound(RemoteFound&& found);
  int32_t num_lookups() const { return static_cast<int32_t>(lookups_.size()); }

  // What a disk held from an earlier life, parents before children; before the first Plan. What is
  // not adopted is dropped from its tier.
  struct Adoption {
    int64_t adopted = 0, refused = 0;
  };
  Adoption AdoptDiskBlocks(std::span<const RecoveredBlock> blocks, absl::Time now);

  // O(tenants + pins). Lists and counts the pins of one tenant, or of all.
  CacheReport Report(std::optional<TenantIndex> pins_of = std::nullopt) const;

  // O(tenants + running + waiting). Lists the sequences of one tenant, or of all.
  QueueReport ReportQueue(absl::Time now, std::optional<TenantIndex> of = std::nullopt) const;

  // Ends the session's pin. False: it has none. A step may run.
  bool DropPin(TenantIndex tenant, const std::string& session);
  // Likewise all of one tenant, or of all; how many there were.
  int32_t DropPins(std::optional<TenantIndex> tenant);

  // When idle, no step runs and no request will come: pins end, and each Plan copies down what
  // would be lost with the process (KvStore::BeginHandDown). Once.
  void BeginHandDown();

  // What the engine answered to the earliest plan that is not committed. Before it OnMoveDone of
  // what ended before the step did, or a sequence that has run ahead is computed again.
  void Commit(const StepResult& result, absl::Time now);

  // The device is in doubt, or we stop: every request ends with `status` and all KV is forgotten.
  // No step counts as running any more: those that do are not committed, and end before the next.
  void FailAll(const absl::Status& status);

  bool idle() const { return requests_.empty(); }
  bool step_running() const { return num_steps_ > 0; }
  int32_t num_requests() const { return static_cast<int32_t>(requests_.size()); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  int32_t num_tenants() const { return tenants_.size(); }
  int32_t num_waiting() const { return num_waiting_; }
  BlockCounts block_counts() const { return store_.counts(); }
  // Of a tenant's online requests: what they were served, by its weight (policy/fair_share.h), and
  // how many sequences wait.
  double served(TenantIndex tenant) const { return online_.share.served(tenant); }
  int32_t num_waiting(TenantIndex tenant) const { return online_.share.waiting(tenant); }
  const KvStore& store() const { return store_; }
  const ProgramTable& programs() const { return programs_; }
  void DetachThread() { thread_.Detach(); }  // the next caller's thread owns it

  void CheckInvariants() const;  // stops the process; for tests and idle time

 private:
  struct InFlight {
    Sequence* sequence = nullptr;  // nullptr: it has gone, and what comes of this is dropped
    int32_t num_tokens = 0;        // without drafts
    int32_t num_drafts = 0;
    bool samples = false;
    TenantIndex tenant{};    // also of one that has gone
    int32_t num_scored = 0;  // prompt logprobs that come back
    bool pools = false;      // its pooled state comes back
    bool ahead = false;      // of what it restores
  };
  struct NextEntries {  // of a step's result, as it is committed
    size_t sample = 0, prompt_logprob = 0, pooled = 0;
  };
  struct Step {                             // that runs, or is planned
    std::vector<InFlight> parts;            // in plan order
    int32_t num_samples = 0, num_rows = 0;  // of those
    int32_t drafts = 0;                     // of those rows
    bool ahead = false;                     // one of those is
    StepWork work;
    absl::Time begun;  // planned, or the one before it committed
  };
  static constexpr size_t kStepsMax = 2;  // at once

  // The waiting sequences of one class, online or offline, by tenant.
  struct WaitingClass {
    std::deque<WaitQueue> queues;
    FairShare share;
    std::vector<bool> passed;  // tenants that have had their turn in this plan
    int32_t num_waiting = 0;
    // Who waits why, by the last plan: those it came to, and all others.
    std::array<int32_t, kNumWaitReasons> noted{};
    WaitReason others_wait = WaitReason::kTurn;
  };
  enum class Scarce : uint8_t { kPlaces, kBlocks };
  // Of several tenants, as counted for this plan.
  struct Shares {
    std::vector<int32_t> places;         // online sequences that run, by tenant
    double weight = 0;                   // of all that share the machine
    std::optional<double> least_served;  // of those that wait
  };
  // Who was to be let in by the last plan and could not for want of room.
  struct Blocked {
    TenantIndex tenant{};
    SequenceOrder order;
    int32_t blocks = 0;  // that must be available
  };

  Scheduler(const EngineInfo& engine, const SchedulerOptions& options, SchedulerMetrics& metrics,
            TokenSink& sink);

  absl::Status Check(const Request& request) const;
  static WaitingClass MakeClass(const SchedulerOptions& options);
  AdmissionView View() const;
  bool OfflineRuns() const { return !running_.empty() && running_.back()->order.offline; }
  std::optional<Refusal> TryTakeIn(TenantIndex tenant, int32_t num_requests, int64_t tokens,
                                   bool offline, absl::Time now);
  void LeaveQueue(const ActiveRequest& request);  // it runs, or is gone
  void LookAtQueues(TenantIndex tenant, absl::Time now);
  static int64_t UnusedTokens(const ActiveRequest& request);

  // Parts of Plan (scheduler_plan.cc).
  PrefixRequest PrefixOf(const Sequence& sequence) const;
  void ContinueRestored();
  RestorePoll::State Poll(Sequence& restoring);
  bool WantsRows(const Sequence& sequence) const;
  static bool HasBlocks(const Sequence& sequence);  // for all rows that it wants
  void Grow(Sequence& sequence);
  Step& planned() { return steps_[num_steps_]; }  // while it is being planned
  void SortMoves();                               // what this plan has started
  void ReleaseMoves();                            // that waited for a step
  void CountDecodes(Chunker& chunker);
  void PlanDecodes(StepPlan& plan);
  std::optional<TenantIndex> OwedPromptsTenant() const;
  void PlanPrefills(Chunker& chunker, StepPlan& plan);
  void DealParts(Chunker& chunker);
  int32_t RowsNotToCut(const Sequence& sequence, int32_t taken, int32_t most, Chunker& chunker);
  std::tuple<bool, bool, double> RowsRank(
      const Sequence& sequence) const;  // whose prefill goes first
  bool WaitsForPrefill(Sequence& sequence);
  bool WaitsForLookup(Sequence& sequence);
  void RunAhead(Chunker& chunker, StepPlan& plan);

  // Letting in and taking back (scheduler_admit.cc).
  void MakeWay();  // for whom the last plan could not let in, or who came since and will not fit
  void NoteArrivedBlocked();
  void AdmitWaiting(const Chunker& chunker);
  // False: somebody of it waits for room, and nobody may go past.
  bool AdmitFrom(WaitingClass& from, const Chunker& chunker, std::optional<TenantIndex> first);
  bool HasRows(const Chunker& chunker, const Sequence& sequence) const;
  bool HasRowsOfItsPart(const Chunker& chunker, const Sequence& sequence) const;
  void NoteBlocked(const Sequence& sequence, Scarce what);
  std::optional<TenantIndex> LeastServed(const WaitingClass& from) const;
  bool RankAgain(WaitQueue& queue, Sequence& sequence);
  WaitRank RankOf(const Sequence& sequence) const;
  void AddWaiting(Sequence& sequence);
  void RemoveWaiting(Sequence& sequence, WaitQueue::Leave why);
  WaitingClass& ClassOf(const Sequence& sequence) {
    return sequence.order.offline ? offline_ : online_;
  }
  WaitQueue& QueueOf(const Sequence& sequence);
  PromptQueue& PromptsOf(TenantIndex tenant) {
    return prompts_[static_cast<size_t>(Number(tenant))];
  }
  void NoteWait(Sequence& sequence, WaitReason reason);
  // Blocks that must stay available when it is let in.
  int32_t SpareBlocksFor(const Sequence& sequence) const;
  bool TryStart(Sequence& sequence);
  bool HasMoreThanItsPart(const Sequence& sequence) const;
  Sequence& GrowthVictim(const Sequence& grower) const;
  Sequence* TakenBackFor(const Blocked& blocked, Scarce what);
  bool ForcePinFor(const Blocked& blocked);
  bool IsDue(const Blocked& blocked, Scarce what) const;  // it lacks what is within its share
  double FairPart(TenantIndex tenant, Scarce what) const;
  int32_t Uses(TenantIndex tenant, Scarce what) const;
  int32_t HeldBlocks(TenantIndex tenant) const;
  // Of those that were taken back for others less often than that.
  Sequence* LatestOf(TenantIndex tenant,
                     int32_t taken_back_max = std::numeric_limits<int32_t>::max()) const;
  void CountShares();
  void Charge(Sequence& sequence, int32_t end, double cost);
  void TakeGrant(Sequence& sequence, int32_t cached_tokens, const TierTokens& hits_before);
  void NoteFound(Sequence& sequence);
  void Open(Sequence& sequence, StepPlan& plan);
  void ContinuePartial(Sequence& sequence, StepPlan& plan);
  std::optional<PartialBlock> SessionsPartial(Sequence& sequence) const;
  std::optional<PartialBlock> SiblingsPartial(const Sequence& sequence) const;
  void AddRows(Sequence& sequence, int32_t num_tokens, StepPlan& plan);

  // What those that are let in next will find stays for them (scheduler_head.cc).
  void FindHead();
  void KeepForHead();
  bool LetGoBehind(const Sequence* sequence);  // nullptr: of anybody; false: nothing is kept
  void LetGo(Sequence& sequence);

  // Parts of ReportQueue (scheduler_report.cc).
  WaitReason WhyWaits(const Sequence& sequence) const {
    if (sequence.wait_reason_plan == num_plans_) return sequence.wait_reason;
    return sequence.order.offline ? offline_.others_wait : online_.others_wait;
  }
  void ReportTenants(QueueReport& report) const;
  void ListWaiting(const WaitingClass& from, absl::Time now, std::optional<TenantIndex> of,
                   QueueReport& report) const;
  static QueueReport::Entry EntryOf(const Sequence& sequence, absl::Time now);

  // Parts of Commit (scheduler_commit.cc).
  void EndWithStep(ActiveRequest& request, absl::Status status);
  void LeaveSteps(Sequence& sequence);  // those that run drop what they compute of it
  // Takes its entries out of the result.
  void CommitSequence(const InFlight& part, const StepResult& result, NextEntries& next);
  void CommitRows(const InFlight& part, const StepResult& result,
                  std::span<const SampledToken> sampled);
  bool CatchUp(Sequence& sequence);   // false: not all that it has run ahead of is there
  void TakeBack(Sequence& sequence);  // what it has run ahead
  void Publish(Sequence& sequence);
  void TakePromptLogprobs(const InFlight& part, const StepResult& result, size_t& next);
  void TakePooled(const InFlight& part, const StepResult& result, size_t& next);
  void CountCompletions();
  void LearnFrom(const Step& step, absl::Duration took);
  void PrefetchCommit(size_t index) const;  // what some parts after this one will need
  void FinishPrompt(ActiveRequest& request);
  // False: that was its last, and it may be gone.
  bool DeliverToken(Sequence& sequence, const SampledToken& sampled, const StepResult& result);
  void DeliverForced(Sequence& sequence, const StepResult& result);  // behind the one just drawn
  static absl::Status UndefinedError(const Sequence& sequence);      // why nothing was drawn

  // Drafts (scheduler_drafts.cc).
  bool SpeculatesNow() const;
  int32_t DraftsMax(const Sequence& sequence) const;
  void ListDrafters(const Step& step);
  bool DealDrafts(const Step& step, int32_t rows_left);
  void AddDrafts(const Chunker& chunker, StepPlan& plan);
  void PutDrafts(StepPlan& plan);
  void PutDraftsOf(InFlight& in_flight, int32_t num_drafts, PlanSequence& part, StepPlan& plan);
  void NoteWaitsToDraft();
  void CommitDrafts(Sequence& sequence, std::span<const SampledToken> sampled,
                    const StepResult& result);

  // Transitions.
  void Preempt(Sequence& sequence, TenantIndex for_tenant);
  void SendBack(Sequence& sequence);
  absl::Duration ServiceOf(const ActiveRequest& active) const;
  void Arrive(ActiveRequest& active);       // of a program's turn
  void FindProgram(ActiveRequest& active);  // sets the session that its prompt goes on from
  void RememberEnd(const Sequence& sequence);
  absl::Duration EndTurn(ActiveRequest& active, int32_t context_tokens);  // how long to keep its KV
  static bool IsNamedLater(const ActiveRequest& active);
  void PinForSession(Sequence& sequence);
  void NoteContinued(const ActiveRequest& request, PinId id);
  void ReleasePin(const ActiveRequest& request, PinId id);
  void NoteHeld(Sequence& sequence);     // after each change of its blocks' number
  void StopRunning(Sequence& sequence);  // gives back slot and blocks
  void EndSequence(Sequence& sequence);
  void EndRequest(ActiveRequest& request, absl::Status status);
  void CountRunning(TenantIndex tenant, int32_t change);  // requests, as do the ledger and metrics
  void CountWaiting(TenantIndex tenant, int32_t change);
  void AddTenant(double weight);  // behind the others
  void PublishCounts();
  void PublishWaitReasons();  // as the plan just made has found them

  const EngineInfo engine_;
  const SchedulerOptions options_;
  const int32_t running_max_;
  const int32_t step_tokens_max_;
  SchedulerMetrics& metrics_;
  TokenSink& sink_;

  KvStore store_;
  TenantLedger tenants_;
  int32_t num_present_;  // of them; others are gone from the configuration
  ProgramTable programs_;
  TurnEnds turn_ends_;
  std::vector<uint64_t> num_found_programs_;  // by tenant: nobody's names tell what others do
  ReloadCost reload_;
  StepForecast forecast_;
  TenantRates rates_;
  QueueDepartures queue_;
  std::vector<QueueDepartures> tenant_queues_;  // by tenant
  std::vector<PromptQueue> prompts_;            // likewise, online
  SequenceMemory sequence_memory_;              // before `requests_`, which lie in it
  absl::flat_hash_map<RequestId, std::unique_ptr<ActiveRequest>> requests_;  // looked up only
  WaitingClass online_, offline_;
  int32_t num_waiting_ = 0;
  std::optional<Blocked> blocked_;
  std::optional<TenantIndex> way_for_;  // who goes first in this plan: others gave way for it
  Shares shares_;
  TenantRows rows_;        // of the plan being made, as the next
  int32_t more_rows_ = 0;  // that may be added so as not to cut a prompt
  StepPace pace_;
  const Speculation speculation_;
  DraftCost draft_cost_;
  std::vector<DraftCandidate> draft_candidates_;  // of one step
  std::vector<int32_t> drafting_;                 // likewise, which of its parts each is
  bool waits_to_draft_ = false;  // no plan beside the step that runs: its tokens are wanted first
  PreemptionBudget preemptions_;
  UsageMeter usage_;
  std::vector<Sequence*> head_, last_head_;  // who is let in next, as the last plans found it
  std::vector<double> head_served_;  // while that is found: what each tenant would have been served
  std::vector<Sequence*> growing_, decodes_, prefills_;  // of the plan being made
  std::vector<int32_t> prefill_rows_;                    // likewise, of each of prefills_
  std::vector<Sequence*> running_;                       // by order
  std::vector<SequenceSlot> free_slots_;
  std::array<Step, kStepsMax> steps_;   // that run, the earliest first
  size_t num_steps_ = 0;                // of them; the next is the one being planned
  Step committed_;                      // being; it keeps its memory
  std::vector<ActiveRequest*> ending_;  // with the next Commit
  std::vector<int32_t> drawn_;          // completion tokens of this Commit, by tenant
  std::vector<TokenId> forced_;         // that follow the one just delivered
  std::vector<MoveJob> new_moves_, ready_moves_;
  std::vector<MoveJob> held_moves_;  // restores into what a step that runs may read
  uint64_t next_arrival_ = 0;
  int32_t waiting_requests_ = 0;  // that have not run yet
  int32_t num_restoring_ = 0;     // of those that run
  struct Asked {
    RequestId request{};
    int32_t choice = 0;
  };
  absl::flat_hash_map<LookupId, Asked> lookups_;  // not answered, also for those who are gone
  std::vector<RemoteLookup> new_lookups_;
  uint64_t next_lookup_ = 1;
  uint64_t num_plans_ = 0;
  uint64_t table_versions_ = 0;      // given out, see kept_tables.h
  int32_t num_prefill_waiters_ = 0;  // found waiting for another's prefill by the last Plan
  absl::Time now_;                   // as last told by Plan or Commit: when blocks were last used
  ThreadChecker thread_;
};

}  // namespace holdfast
