#include "scheduler/scheduler_loop.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "config/base/check.h"

namespace holdfast {
namespace {

// How late pins may end while nothing else happens.
constexpr absl::Duration kPinPoll = absl::Seconds(1);

// Between two parts of what a reader of KV events lacks.
constexpr absl::Duration kTellPoll = absl::Milliseconds(1);

// How long before the end of a step the next is planned: for a thread to wake, and to plan it.
constexpr absl::Duration kPlanAhead = absl::Microseconds(300);

const Clock& ClockOrSteady(const Clock* clock) {
  static const SteadyClock steady_clock;
  return clock == nullptr ? steady_clock : *clock;
}

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

absl::StatusOr<std::unique_ptr<SchedulerLoop>> SchedulerLoop::Create(
    Engine& engine, const SchedulerOptions& options, MetricsRegistry& registry, TokenSink& sink,
    EngineErrorListener on_engine_error, const Clock* clock, KvMedia media) {
  std::unique_ptr<SchedulerLoop> loop(new SchedulerLoop(
      engine, options, registry, sink, std::move(on_engine_error), ClockOrSteady(clock)));
  absl::StatusOr<std::unique_ptr<Scheduler>> scheduler =
      Scheduler::Create(engine.info(), options, loop->metrics_, loop->sink_);
  if (!scheduler.ok()) return scheduler.status();
  loop->Start(*std::move(scheduler), options.kv, std::move(media));
  return loop;
}

SchedulerLoop::SchedulerLoop(Engine& engine, const SchedulerOptions& options,
                             MetricsRegistry& registry, TokenSink& sink,
                             EngineErrorListener on_engine_error, const Clock& clock)
    : engine_(engine),
      clock_(clock),
      on_engine_error_(std::move(on_engine_error)),
      live_max_(std::max(options.running_max, 0) + std::max(options.waiting_max, 0)),
      metrics_(registry, options, engine.info().num_blocks),
      at_once_max_(TenantsMax(options)),
      free_(engine.info().num_blocks),
      mailbox_(static_cast<size_t>(live_max_)),
      sink_(sink, live_),
      kv_events_(options.kv.events),
      lookup_wait_(options.lookup_wait) {}

SchedulerLoop::~SchedulerLoop() { Stop(); }

void SchedulerLoop::StartMover(const KvStoreOptions& kv, BlockMover& device) {
  std::vector<Tier*> tiers;
  for (Tier* tier : {kv.host, kv.disk}) {
    if (tier != nullptr) tiers.push_back(tier);
  }
  // In one mailbox with the engine's results: what a step has waited for is answered before it.
  // More moves than this the store never has under way.
  const int32_t jobs_max = engine_.info().num_blocks + kv.moves_max;
  mover_ = std::make_unique<TierMover>(
      device, tiers,
      TierMoverOptions{.block_bytes = engine_.info().kv_layout.block_bytes(), .jobs_max = jobs_max},
      [this](MoveDone&& done) { mailbox_.PushUrgent(std::move(done)); },
      [this] { mailbox_.PushUrgent(WakeMessage{}); });
}

void SchedulerLoop::StartRemoteMover(const KvStoreOptions& kv, const KvMedia& media) {
  CHECK(media.device != nullptr && media.remote != nullptr);
  remote_ = media.remote;
  remote_mover_ = std::make_unique<RemoteMover>(
      *media.device, *media.remote,
      RemoteMoverOptions{.block_bytes = engine_.info().kv_layout.block_bytes(),
                         .sends_max = kv.sends_max,
                         .restores_max = engine_.info().num_blocks,
                         .lookups_max = Scheduler::kLookupsMax},
      [this](MoveDone&& done) { mailbox_.PushUrgent(std::move(done)); },
      [this](RemoteFound&& found) { mailbox_.PushUrgent(std::move(found)); });
}

void SchedulerLoop::Start(std::unique_ptr<Scheduler> scheduler, const KvStoreOptions& kv,
                          KvMedia media) {
  scheduler_ = std::move(scheduler);
  if (kv.host != nullptr || kv.disk != nullptr) {
    CHECK(media.device != nullptr);
    StartMover(kv, *media.device);
  }
  if (kv.remote_usable) StartRemoteMover(kv, media);
  if (kv.disk != nullptr) {
    adoption_ = scheduler_->AdoptDiskBlocks(media.recovered, clock_.Now());
  }
  NoteAtOnceMax();
  scheduler_->DetachThread();
  mask_thread_ = std::thread(&SchedulerLoop::RunMasks, this);
  engine_thread_ = std::thread(&SchedulerLoop::RunEngine, this);
  scheduler_thread_ = std::thread(&SchedulerLoop::RunScheduler, this);
}

void SchedulerLoop::NoteAtOnceMax() {
  for (int32_t tenant = 0; tenant < scheduler_->num_tenants(); ++tenant) {
    at_once_max_[static_cast<size_t>(tenant)].store(
        scheduler_->RequestsAtOnceMax(TenantIndex{tenant}), std::memory_order_relaxed);
  }
}

void SchedulerLoop::SetTenants(std::vector<TenantConfig> tenants,
                               std::vector<TenantShares> shares) {
  metrics_.AddTenants(NamesOf(tenants));
  const auto done = std::make_shared<absl::Notification>();
  const bool asked = mailbox_.PushUrgent(
      TenantsMessage{.tenants = std::move(tenants), .shares = std::move(shares), .done = done});
  if (asked) done->WaitForNotification();
}

Admit SchedulerLoop::Submit(Request&& request) {
  std::vector<Request> one;
  one.push_back(std::move(request));
  const Admit admit = SubmitAll(std::move(one));
  // Moved from only if accepted. NOLINTNEXTLINE(bugprone-use-after-move)
  if (admit != Admit::kAccepted) request = std::move(one.front());
  return admit;
}

Admit SchedulerLoop::SubmitAll(std::vector<Request>&& requests) {
  CHECK(!requests.empty());
  const TenantIndex tenant = requests.front().tenant;
  const auto count = static_cast<int32_t>(requests.size());
  // Counted before the flag is read: whoever sees draining and a count of 0 sees all of us.
  const int32_t live_before = live_.fetch_add(count);
  if (!draining_.load() && live_before <= live_max_ - count) {
    Message message(std::in_place_type<std::vector<Request>>, std::move(requests));
    if (mailbox_.Push(std::move(message))) return Admit::kAccepted;
    // Push leaves the message untouched when it refuses. NOLINTNEXTLINE(bugprone-use-after-move)
    requests = std::get<std::vector<Request>>(std::move(message));
  }
  live_.fetch_sub(count);
  if (draining_.load()) {
    mailbox_.PushUrgent(WakeMessage{});  // the drain may have waited for this count alone
    return Admit::kDraining;
  }
  metrics_.Of(tenant).Shed(ShedReason::kCapacity).Add();
  return Admit::kShed;
}

void SchedulerLoop::Cancel(RequestId request) {
  mailbox_.PushUrgent(CancelMessage{.request = request});
}

void SchedulerLoop::StopChoice(RequestId request, int32_t choice) {
  mailbox_.PushUrgent(StopChoiceMessage{.request = request, .choice = choice});
}

void SchedulerLoop::NameTool(RequestId request, std::string tool) {
  mailbox_.PushUrgent(NameToolMessage{.request = request, .tool = std::move(tool)});
}

// Not counted against the requests' places, and few: each costs the scheduler's thread some time.
bool SchedulerLoop::Ask(Message&& question) {
  if (questions_.fetch_add(1) < kQuestionsMax && mailbox_.PushUrgent(std::move(question))) {
    return true;
  }
  questions_.fetch_sub(1);
  return false;
}

bool SchedulerLoop::AskReport(std::function<void(CacheReport&&)> done,
                              std::optional<TenantIndex> pins_of) {
  return Ask(ReportMessage{.done = std::move(done), .pins_of = pins_of});
}

bool SchedulerLoop::AskQueue(std::function<void(QueueReport&&)> done,
                             std::optional<TenantIndex> of) {
  return Ask(QueueMessage{.done = std::move(done), .of = of});
}

bool SchedulerLoop::DropPin(TenantIndex tenant, std::string session,
                            std::function<void(bool)> done) {
  return Ask(
      DropPinMessage{.tenant = tenant, .session = std::move(session), .done = std::move(done)});
}

bool SchedulerLoop::DropPins(std::optional<TenantIndex> tenant, std::function<void(int32_t)> done) {
  return Ask(DropPinsMessage{.tenant = tenant, .done = std::move(done)});
}

void SchedulerLoop::BeginDrain() {
  draining_.store(true);
  mailbox_.PushUrgent(WakeMessage{});
}

bool SchedulerLoop::WaitDrained(absl::Duration timeout) {
  const absl::Time deadline =
      timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + timeout;
  MutexLock lock(&drained_mutex_);
  while (!drained_) {
    if (!drained_news_.WaitUntil(&drained_mutex_, deadline)) break;
  }
  return drained_;
}

void SchedulerLoop::BeginHandDown() {
  CHECK(draining_.load());
  asked_to_hand_down_.store(true);
  mailbox_.PushUrgent(WakeMessage{});
}

KvStore::HandedDown SchedulerLoop::WaitHandedDown(absl::Time deadline) {
  MutexLock lock(&drained_mutex_);
  while (!handed_down_.ended) {
    if (!drained_news_.WaitUntil(&drained_mutex_, deadline)) break;
  }
  return handed_down_;
}

void SchedulerLoop::Stop() {
  MutexLock lock(&stop_mutex_);
  if (!scheduler_thread_.joinable()) return;
  draining_.store(true);
  stopping_.store(true);
  mailbox_.PushUrgent(WakeMessage{});
  scheduler_thread_.join();
  jobs_.Close();
  engine_thread_.join();
  mask_jobs_.Close();
  mask_thread_.join();
}

SchedulerSnapshot SchedulerLoop::snapshot() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const int32_t failures = consecutive_failures_.load();
  const absl::Time last_failure = absl::FromUnixNanos(last_failure_nanos_.load());
  return {.requests = live_.load(kRelaxed),
          .running_sequences = running_.load(kRelaxed),
          .waiting_sequences = waiting_.load(kRelaxed),
          .blocks = {.free = free_.load(kRelaxed),
                     .held = held_.load(kRelaxed),
                     .evictable = evictable_.load(kRelaxed)},
          .steps = steps_.load(kRelaxed),
          .draining = draining_.load(kRelaxed),
          .retry_after = absl::Milliseconds(retry_after_ms_.load(kRelaxed)),
          .consecutive_failures = failures,
          .engine_failing =
              failures >= kEngineFailuresMax && clock_.Now() - last_failure < kEngineFailingTime};
}

void SchedulerLoop::RunScheduler() noexcept {
  while (!stopping_.load() || steps_ended_ < steps_started_) {
    messages_.clear();
    mailbox_.WaitTakeAll(messages_, WaitMax());
    for (Message& message : messages_) Handle(message);
    HandDownIfAsked();
    StartSteps();
    TellOfBlocks();
    PublishSnapshot();
    NoteIfDrained();
    NoteHandedDown();
  }
  // All moves are answered then.
  if (mover_) mover_->Stop();
  if (remote_mover_) remote_mover_->Stop();
  // After Close nothing can come behind what we take here: every accepted request gets its end.
  mailbox_.Close();
  messages_.clear();
  mailbox_.TakeAll(messages_);
  for (Message& message : messages_) Handle(message);
  scheduler_->FailAll(absl::UnavailableError("the server is stopping"));
  PublishSnapshot();
  NoteIfDrained();
}

void SchedulerLoop::Handle(Message& message) {
  std::visit(
      Overloaded{
          [&](std::vector<Request>& requests) {
            scheduler_->SubmitAll(std::move(requests), clock_.Now());
          },
          [&](TenantsMessage& wanted) {
            scheduler_->SetTenants(wanted.tenants, std::move(wanted.shares), clock_.Now());
            NoteAtOnceMax();
            wanted.done->Notify();
          },
          [&](CancelMessage& cancel) { scheduler_->Cancel(cancel.request); },
          [&](StopChoiceMessage& stop) { scheduler_->StopChoice(stop.request, stop.choice); },
          [&](NameToolMessage& named) {
            scheduler_->NameTool(named.request, named.tool, clock_.Now());
          },
          [&](StepDoneMessage& done) { HandleStepDone(done.status); },
          [](WakeMessage&) {},
          [&](MoveDone& done) { scheduler_->OnMoveDone(done, clock_.Now()); },
          [&](RemoteFound& found) { scheduler_->OnRemoteFound(std::move(found)); },
          [&](ReportMessage& report) {
            questions_.fetch_sub(1);
            report.done(scheduler_->Report(report.pins_of));
          },
          [&](QueueMessage& queue) {
            questions_.fetch_sub(1);
            queue.done(scheduler_->ReportQueue(clock_.Now(), queue.of));
          },
          [&](DropPinMessage& drop) {
            questions_.fetch_sub(1);
            drop.done(scheduler_->DropPin(drop.tenant, drop.session));
          },
          [&](DropPinsMessage& drop) {
            questions_.fetch_sub(1);
            drop.done(scheduler_->DropPins(drop.tenant));
          },
      },
      message);
}

void SchedulerLoop::HandleStepDone(const absl::Status& status) {
  CHECK(steps_ended_ < steps_started_);
  const uint64_t step = steps_ended_++;
  if (step < steps_doomed_until_) return;
  if (status.ok()) {
    scheduler_->Commit(results_[step % results_.size()], clock_.Now());
    steps_.fetch_add(1, std::memory_order_relaxed);
    consecutive_failures_.store(0);
    return;
  }
  last_failure_nanos_.store(absl::ToUnixNanos(clock_.Now()));
  consecutive_failures_.fetch_add(1);
  if (on_engine_error_) on_engine_error_(status);
  steps_doomed_until_ = steps_started_;
  scheduler_->TakeAllMoves(moves_);
  HandOut();
  if (mover_) mover_->ForgetDevice();
  scheduler_->FailAll(
      absl::UnavailableError("the engine failed while it computed the request; retry later"));
}

void SchedulerLoop::StartSteps() {
  if (stopping_.load()) return;
  const bool ahead = steps_ended_ < steps_started_;
  if (ahead && (!MayPlanAhead() || clock_.Now() < PlanAheadAt())) return;
  if (ahead) planned_beside_ = steps_ended_;
  const size_t index = steps_started_ % plans_.size();
  if (scheduler_->Plan(clock_.Now(), plans_[index])) {
    StepJob job{.plan = &plans_[index], .result = &results_[index]};
    if (ahead) job.before = &results_[1 - index];
    ++steps_started_;
    CHECK(jobs_.Push(std::move(job)));
  }
  if (mover_ || remote_mover_) HandOutMoves();
}

bool SchedulerLoop::MayPlanAhead() const {
  return steps_doomed_until_ < steps_started_ && planned_beside_ != steps_ended_ &&
         scheduler_->may_plan();
}

absl::Time SchedulerLoop::PlanAheadAt() const { return scheduler_->StepEndsAt() - kPlanAhead; }

void SchedulerLoop::HandOutMoves() {
  scheduler_->TakeMoves(moves_);
  HandOut();
  lookups_.clear();
  scheduler_->TakeLookups(lookups_);
  for (RemoteLookup& lookup : lookups_) CHECK(remote_mover_->TryLookUp(std::move(lookup)));
}

void SchedulerLoop::HandOut() {
  // Sized for all, and stopped by this thread alone.
  for (MoveJob& job : moves_) {
    if (job.tier == TierKind::kRemote) {
      CHECK(remote_mover_->TrySubmit(std::move(job)));
    } else {
      CHECK(mover_->TrySubmit(std::move(job)));
    }
  }
  moves_.clear();
}

// Nobody tells when a pin is over, or a look-up has taken too long.
absl::Duration SchedulerLoop::WaitMax() const {
  absl::Duration wait = absl::InfiniteDuration();
  if (scheduler_->store().pins().num_pins() > 0) wait = kPinPoll;
  if (!scheduler_->store().IsAllTold()) wait = std::min(wait, kTellPoll);
  if (scheduler_->num_lookups() > 0) wait = std::min(wait, lookup_wait_);
  if (steps_ended_ < steps_started_ && MayPlanAhead()) {
    wait = std::min(wait, std::max(PlanAheadAt() - clock_.Now(), absl::ZeroDuration()));
  }
  return wait;
}

void SchedulerLoop::HandDownIfAsked() {
  if (!asked_to_hand_down_.load() || scheduler_->store().is_handing_down()) return;
  if (scheduler_->idle() && !scheduler_->step_running()) scheduler_->BeginHandDown();
}

void SchedulerLoop::NoteHandedDown() {
  const KvStore& store = scheduler_->store();
  if (!store.is_handing_down()) return;
  MutexLock lock(&drained_mutex_);
  handed_down_ = store.handed_down();
  if (handed_down_.ended) drained_news_.NotifyAll();
}

void SchedulerLoop::RunEngine() noexcept {
  std::vector<StepJob> jobs;
  absl::Status status;  // of the last step
  while (jobs_.WaitTakeAll(jobs)) {
    for (const StepJob& job : jobs) {
      const bool starts = job.before == nullptr || status.ok();
      if (starts && job.before != nullptr) FillDraws(*job.before, *job.plan);
      if (starts) StartMasks(*job.plan);
      if (starts) status = engine_.Execute(*job.plan, *job.result);
      mailbox_.PushUrgent(StepDoneMessage{.status = status});
    }
    jobs.clear();
  }
}

void SchedulerLoop::StartMasks(const StepPlan& plan) {
  for (const StepPlan::MaskedDraw& masked : plan.masked) {
    const PlanSequence& part = plan.sequences[static_cast<size_t>(masked.sequence)];
    masked.mask->Begin();
    masks_started_.push_back(
        {.mask = masked.mask, .draw = masked.draw, .before = plan.TokensOf(part).back()});
  }
  if (!masks_started_.empty()) CHECK(mask_jobs_.PushAllUrgent(masks_started_));
}

void SchedulerLoop::RunMasks() noexcept {
  std::vector<MaskJob> jobs;
  while (mask_jobs_.WaitTakeAll(jobs)) {
    for (const MaskJob& job : jobs) job.mask->Prepare(job.draw, job.before);
    jobs.clear();
  }
}

// After the step has begun: the engine does not wait for it.
void SchedulerLoop::TellOfBlocks() {
  if (kv_events_ == nullptr) return;
  scheduler_->TellAnew();
  kv_events_->Wake();
}

void SchedulerLoop::PublishSnapshot() {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  // Its locks are held for a few instructions at a time.
  if (remote_) metrics_.kv.UpdateRemote(remote_->counters(), remote_->state());
  const BlockCounts blocks = scheduler_->block_counts();
  running_.store(scheduler_->num_running(), kRelaxed);
  waiting_.store(scheduler_->num_waiting(), kRelaxed);
  free_.store(blocks.free, kRelaxed);
  held_.store(blocks.held, kRelaxed);
  evictable_.store(blocks.evictable, kRelaxed);
  retry_after_ms_.store(absl::ToInt64Milliseconds(scheduler_->RetryAfter()), kRelaxed);
}

void SchedulerLoop::NoteIfDrained() {
  if (!draining_.load() || live_.load() != 0) return;
  MutexLock lock(&drained_mutex_);
  drained_ = true;
  drained_news_.NotifyAll();
}

}  // namespace holdfast
