// Gives the scheduler its thread and the engine its own, and joins them with mailboxes:
//
//   any thread --Submit, Cancel--> mailbox --> scheduler thread --StepPlan--> engine thread
//                                     ^            |     ^                        |
//                                     |            |     +------ StepResult ------+  (by mailbox)
//                                     |            +--> TokenSink (PromptEvent, TokenEvent, ...)
//                                     +-- Drain, HandDown, Stop, MoveDone, RemoteFound <-- movers'
//                                     threads
//                                                                 <-- MoveJob, RemoteLookup
//
// Where answers are held to a grammar, the engine's thread has a mask thread find what may be drawn
// while it computes (engine/token_mask.h).
//
// The scheduler thread sleeps in its mailbox whenever there is nothing to plan or a step runs, and
// reads new messages while the engine computes. Shortly before a step is expected to end it plans
// the next, so that the engine goes from one to the other (step_forecast.h says when that can be
// told). All events reach the sink from this one thread.
//
// Bound: running_max + waiting_max requests in all; one more is an answer (kShed), not a wait. What
// moves between tiers is bounded by the store (kv_store.h), and so are the mover's answers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/mailbox.h"
#include "config/base/metrics.h"
#include "config/base/mutex.h"
#include "config/ids.h"
#include "engine/engine.h"
#include "engine/step_plan.h"
#include "kvstore/block_mover.h"
#include "kvstore/disk_tier.h"
#include "kvstore/kv_event_ring.h"
#include "kvstore/move.h"
#include "kvstore/remote_lookup.h"
#include "kvstore/remote_mover.h"
#include "kvstore/remote_tier.h"
#include "kvstore/tier_mover.h"
#include "scheduler/cache_report.h"
#include "scheduler/events.h"
#include "scheduler/queue_report.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"
#include "scheduler/scheduler_options.h"

namespace holdfast {

// kAccepted: exactly one RequestDone will come. kShed, kDraining: none will; the request was not
// taken (429 and 503 on the wire).
enum class Admit : uint8_t { kAccepted, kShed, kDraining };

// After Engine::Execute has failed, all requests in the scheduler end with kUnavailable, all cached
// KV is forgotten, and the same engine is asked again. After this many failures with no good step
// between them the engine counts as failing for a while after the last: whoever routes by readiness
// sends its requests elsewhere, and then a next one tries.
inline constexpr int32_t kEngineFailuresMax = 3;
inline constexpr absl::Duration kEngineFailingTime = absl::Seconds(10);

// Counts of the moment, for health and readiness; each is true, together they may be a step apart.
struct SchedulerSnapshot {
  int32_t requests = 0;  // accepted and not yet done
  int32_t running_sequences = 0;
  int32_t waiting_sequences = 0;
  BlockCounts blocks;
  uint64_t steps = 0;  // completed
  bool draining = false;
  absl::Duration retry_after = absl::Seconds(1);  // see Scheduler::RetryAfter
  int32_t consecutive_failures = 0;               // of steps, since the last good one
  bool engine_failing = false;                    // see kEngineFailuresMax
};

// What the tiers of SchedulerOptions::kv need besides.
struct KvMedia {
  BlockMover* device = nullptr;           // the engine's side of moves, where there is a tier
  RemoteTier* remote = nullptr;           // where kv.remote_usable is set
  std::vector<RecoveredBlock> recovered;  // what the disk tier has found at start
};

class SchedulerLoop final {
 public:
  // Hears why a step failed, on the scheduler's thread; must not block or call the loop.
  using EngineErrorListener = std::function<void(const absl::Status&)>;

  // Starts both threads. All references must outlive the loop. kInvalidArgument: the options or the
  // engine's sizes make no sense, e.g. the KV pool cannot hold one longest sequence.
  static absl::StatusOr<std::unique_ptr<SchedulerLoop>> Create(
      Engine& engine, const SchedulerOptions& options, MetricsRegistry& registry, TokenSink& sink,
      EngineErrorListener on_engine_error = nullptr, const Clock* clock = nullptr,
      KvMedia media = {});
  ~SchedulerLoop();  // Stop()
  SchedulerLoop(const SchedulerLoop&) = delete;

  // Any thread, never blocks. Events for an accepted request may reach the sink before this
  // returns. The request is moved from only if it is accepted.
  [[nodiscard]] Admit Submit(Request&& request);
  // As Submit for requests of one tenant, all of them or none; not empty.
  [[nodiscard]] Admit SubmitAll(std::vector<Request>&& requests);

  // The most requests of the tenant that SubmitAll can ever accept together. Any thread.
  int32_t RequestsAtOnceMax(TenantIndex tenant) const {
    return at_once_max_[static_cast<size_t>(Number(tenant))].load(std::memory_order_relaxed);
  }

  // By one thread at a time, before new ones send requests: see Scheduler::SetTenants, which has
  // been done when this returns. It waits for the scheduler's thread, and not for a step; after
  // Stop it does nothing.
  void SetTenants(std::vector<TenantConfig> tenants, std::vector<TenantShares> shares = {});

  // Any thread, never blocks. May come late, twice or for someone gone: then nothing happens. Else
  // the request's RequestDone (kCancelled) comes within one step, its blocks being back. Callers
  // keep to a few a request: cancels are not counted against the mailbox's bound.
  void Cancel(RequestId request);
  // Likewise for one choice that has said enough: it ends within one step, the others go on. See
  // Scheduler::StopChoice.
  void StopChoice(RequestId request, int32_t choice);

  // Likewise: what tool the answer of its first choice calls, once for a request. See
  // Scheduler::NameTool.
  void NameTool(RequestId request, std::string tool);

  // Any thread. `done` is called once on the scheduler's thread and must not block. False: too many
  // of these questions wait (kQuestionsMax), or the loop has stopped; it will not be called.
  [[nodiscard]] bool AskReport(std::function<void(CacheReport&&)> done,
                               std::optional<TenantIndex> pins_of = std::nullopt);
  // Likewise.
  [[nodiscard]] bool AskQueue(std::function<void(QueueReport&&)> done,
                              std::optional<TenantIndex> of = std::nullopt);
  // Likewise; tells whether the session had a pin, which is gone now.
  [[nodiscard]] bool DropPin(TenantIndex tenant, std::string session,
                             std::function<void(bool)> done);
  // Likewise all of one tenant, or of all; tells how many there were.
  [[nodiscard]] bool DropPins(std::optional<TenantIndex> tenant, std::function<void(int32_t)> done);

  // Of what the disk tier had found.
  const Scheduler::Adoption& adoption() const { return adoption_; }

  // Takes nothing new from here on; what was accepted runs to its end.
  void BeginDrain();
  // Waits until everything accepted is done after BeginDrain. False: `timeout` came first.
  bool WaitDrained(absl::Duration timeout);
  // After BeginDrain: once nothing runs any more, what would be lost with the process is copied
  // down (KvStore::BeginHandDown).
  void BeginHandDown();
  // Then: waits until it is, or until `deadline`, and tells what has got there. Not from the sink.
  KvStore::HandedDown WaitHandedDown(absl::Time deadline);
  // Ends what is left with kUnavailable after the step that is running, and joins the threads. Not
  // from the sink. Idempotent.
  void Stop();

  SchedulerSnapshot snapshot() const;  // any thread

 private:
  struct CancelMessage {
    RequestId request{};
  };
  struct StopChoiceMessage {
    RequestId request{};
    int32_t choice = 0;
  };
  struct NameToolMessage {
    RequestId request{};
    std::string tool;
  };
  struct StepDoneMessage {
    absl::Status status;
  };
  struct WakeMessage {};  // look at the flags
  struct ReportMessage {
    std::function<void(CacheReport&&)> done;
    std::optional<TenantIndex> pins_of;
  };
  struct QueueMessage {
    std::function<void(QueueReport&&)> done;
    std::optional<TenantIndex> of;
  };
  struct DropPinMessage {
    TenantIndex tenant{};
    std::string session;
    std::function<void(bool)> done;
  };
  struct DropPinsMessage {
    std::optional<TenantIndex> tenant;
    std::function<void(int32_t)> done;
  };
  struct TenantsMessage {
    std::vector<TenantConfig> tenants;
    std::vector<TenantShares> shares;
    std::shared_ptr<absl::Notification> done;
  };
  using Message =
      std::variant<std::vector<Request>, TenantsMessage, CancelMessage, StopChoiceMessage,
                   NameToolMessage, StepDoneMessage, WakeMessage, MoveDone, RemoteFound,
                   ReportMessage, QueueMessage, DropPinMessage, DropPinsMessage>;
  struct StepJob {  // the plan and result lie in the loop, the one or the other side uses them
    StepPlan* plan = nullptr;
    StepResult* result = nullptr;
    // Planned while the step with this result ran: takes draws from it, and fails with it.
    const StepResult* before = nullptr;
  };
  struct MaskJob {
    std::shared_ptr<TokenMask> mask;  // whose sequence may have gone
    int32_t draw = 0;
    TokenId before = 0;
  };

  // Counts requests out before the receiver hears of it, so that whoever reacts to a RequestDone
  // finds room.
  class CountingSink final : public TokenSink {
   public:
    CountingSink(TokenSink& sink, std::atomic<int32_t>& live) : sink_(sink), live_(live) {}
    void OnPrompt(PromptEvent event) override { sink_.OnPrompt(std::move(event)); }
    void OnToken(TokenEvent event) override { sink_.OnToken(std::move(event)); }
    void OnDone(RequestDone event) override {
      live_.fetch_sub(1);
      sink_.OnDone(std::move(event));
    }

   private:
    TokenSink& sink_;
    std::atomic<int32_t>& live_;
  };

  SchedulerLoop(Engine& engine, const SchedulerOptions& options, MetricsRegistry& registry,
                TokenSink& sink, EngineErrorListener on_engine_error, const Clock& clock);
  void Start(std::unique_ptr<Scheduler> scheduler, const KvStoreOptions& kv, KvMedia media);
  void NoteAtOnceMax();
  void StartMover(const KvStoreOptions& kv, BlockMover& device);
  void StartRemoteMover(const KvStoreOptions& kv, const KvMedia& media);
  absl::Duration WaitMax() const;
  static constexpr int32_t kQuestionsMax = 8;
  bool Ask(Message&& question);
  void RunScheduler() noexcept;
  void RunEngine() noexcept;
  void StartMasks(const StepPlan& plan);
  void RunMasks() noexcept;
  void Handle(Message& message);
  void HandleStepDone(const absl::Status& status);
  void StartSteps();
  bool MayPlanAhead() const;  // beside the step that runs
  absl::Time PlanAheadAt() const;
  void HandOutMoves();
  void HandOut();  // what moves_ has
  void TellOfBlocks();
  void PublishSnapshot();
  void NoteIfDrained() ABSL_LOCKS_EXCLUDED(drained_mutex_);
  void HandDownIfAsked();
  void NoteHandedDown() ABSL_LOCKS_EXCLUDED(drained_mutex_);

  Engine& engine_;
  const Clock& clock_;
  const EngineErrorListener on_engine_error_;
  const int32_t live_max_;
  SchedulerMetrics metrics_;
  std::vector<std::atomic<int32_t>> at_once_max_;  // by tenant

  // Shared.
  std::atomic<int32_t> live_{0};       // accepted and not done
  std::atomic<int32_t> questions_{0};  // in the mailbox
  std::atomic<bool> draining_{false};
  std::atomic<bool> asked_to_hand_down_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<int32_t> consecutive_failures_{0};
  std::atomic<int64_t> last_failure_nanos_{0};  // of the clock; stored before the count
  std::atomic<int32_t> running_{0}, waiting_{0}, free_{0}, held_{0}, evictable_{0};
  std::atomic<uint64_t> steps_{0};
  std::atomic<int64_t> retry_after_ms_{1000};
  Mailbox<Message> mailbox_;
  Mailbox<StepJob> jobs_{2};
  Mailbox<MaskJob> mask_jobs_{0};  // one a sequence of a step
  Mutex drained_mutex_;
  CondVar drained_news_;
  bool drained_ ABSL_GUARDED_BY(drained_mutex_) = false;
  KvStore::HandedDown handed_down_ ABSL_GUARDED_BY(drained_mutex_);
  Mutex stop_mutex_;  // one Stop at a time

  // The engine's thread's.
  std::vector<MaskJob> masks_started_;

  // The scheduler thread's.
  CountingSink sink_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<Message> messages_;
  uint64_t steps_started_ = 0, steps_ended_ = 0;
  uint64_t steps_doomed_until_ = 0;  // that they end is all that is to come of those before it
  std::optional<uint64_t> planned_beside_;  // the step that has been planned beside, or tried to
  std::vector<MoveJob> moves_;
  std::vector<RemoteLookup> lookups_;

  // One side's at a time: the engine thread's from job to StepDoneMessage. By the step's number.
  std::array<StepPlan, 2> plans_;
  std::array<StepResult, 2> results_;

  Scheduler::Adoption adoption_;               // constant once the threads run
  std::unique_ptr<TierMover> mover_;           // nullptr: there are no tiers of this machine
  std::unique_ptr<RemoteMover> remote_mover_;  // nullptr: no remote tier
  RemoteTier* remote_ = nullptr;               // as remote_mover_
  KvEventRing* const kv_events_;               // nullptr: nobody hears of blocks
  const absl::Duration lookup_wait_;
  std::thread scheduler_thread_;
  std::thread engine_thread_;
  std::thread mask_thread_;
};

}  // namespace holdfast
