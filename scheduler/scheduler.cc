#include "scheduler/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

// Of tokens that a tenant may cause to be computed again, beyond what it is served itself: so many
// longest sequences'.
constexpr int64_t kPreemptionContexts = 2;

// One thread restores from host memory, group after group; these wait in line behind it.
constexpr int32_t kLayerGates = 8;

int32_t DeviceFloor(const TenantShares& tenant) {
  return tenant.tiers[TierAt(TierKind::kDevice)].floor_blocks;
}

int64_t TokensAskedFor(const Request& request, size_t prompt_tokens) {
  return static_cast<int64_t>(prompt_tokens) + int64_t{request.max_tokens} * request.num_choices;
}

int64_t FloorsOf(const std::vector<TenantShares>& tenants) {
  int64_t floors = 0;
  for (const TenantShares& tenant : tenants) floors += DeviceFloor(tenant);
  return floors;
}

std::vector<double> WeightsOf(const SchedulerOptions& options) {
  std::vector<double> weights;
  for (const TenantConfig& tenant : TenantsOrDefault(options.tenants)) {
    weights.push_back(tenant.weight);
  }
  return weights;
}

// Those with keys: a tenant that is gone has none. Without keys all are there.
int32_t NumPresent(const std::vector<TenantConfig>& tenants) {
  const auto with_keys =
      std::count_if(tenants.begin(), tenants.end(),
                    [](const TenantConfig& tenant) { return !tenant.keys.empty(); });
  return static_cast<int32_t>(with_keys > 0 ? with_keys : std::ssize(tenants));
}

KvStoreOptions StoreOptions(const EngineInfo& engine, const SchedulerOptions& options) {
  KvStoreOptions kv = options.kv;
  kv.device_blocks = engine.num_blocks;
  kv.block_bytes = engine.kv_layout.block_bytes();
  const bool by_layers = engine.waits_for_layers && kv.host != nullptr &&
                         kv.host->num_layers() == engine.kv_layout.num_layers;
  kv.layer_gates = by_layers ? kLayerGates : 0;
  kv.tenants.resize(std::max<size_t>(options.tenants.size(), 1));
  return kv;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Scheduler>> Scheduler::Create(const EngineInfo& engine,
                                                             const SchedulerOptions& options,
                                                             SchedulerMetrics& metrics,
                                                             TokenSink& sink) {
  const auto check_positive = [](int32_t value, const char* name) -> absl::Status {
    if (value > 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; it must be at least 1"));
  };
  absl::Status status;
  status.Update(check_positive(options.running_max, "scheduler.running_max"));
  status.Update(check_positive(options.waiting_max, "scheduler.waiting_max"));
  status.Update(check_positive(options.step_tokens_max, "scheduler.step_tokens_max"));
  status.Update(check_positive(options.chunk_tokens_max, "scheduler.chunk_tokens_max"));
  status.Update(
      check_positive(options.long_prefill_tokens_max, "scheduler.long_prefill_tokens_max"));
  status.Update(
      check_positive(options.offline_step_tokens_max, "scheduler.offline_step_tokens_max"));
  status.Update(check_positive(options.bypass_max, "scheduler.bypass_max"));
  if (options.pin_window < 0) {
    status.Update(absl::InvalidArgumentError(
        absl::StrCat("scheduler.pin_window is ", options.pin_window, "; it must be at least 0")));
  }
  if (options.draft_tokens_max < 0) {
    status.Update(absl::InvalidArgumentError(absl::StrCat(
        "scheduler.draft_tokens_max is ", options.draft_tokens_max, "; it must be at least 0")));
  }
  status.Update(check_positive(engine.vocab_size, "the engine's vocabulary"));
  status.Update(check_positive(engine.context_tokens, "the engine's context"));
  status.Update(check_positive(engine.num_blocks, "the engine's number of KV blocks"));
  status.Update(check_positive(engine.num_sequence_slots, "the engine's number of sequences"));
  status.Update(check_positive(engine.step_tokens_max, "the engine's number of rows"));
  if (!status.ok()) return status;
  const int32_t blocks_needed = BlocksFor(engine.context_tokens);
  if (blocks_needed > engine.num_blocks) {
    return absl::InvalidArgumentError(
        absl::StrCat("one longest sequence of ", engine.context_tokens, " tokens takes ",
                     blocks_needed, " KV blocks; there are ", engine.num_blocks,
                     "; raise engine.kv_device_bytes or lower engine.context_tokens"));
  }
  RETURN_IF_ERROR(CheckFloors(engine, options.kv.tenants));
  return std::unique_ptr<Scheduler>(new Scheduler(engine, options, metrics, sink));
}

absl::Status Scheduler::CheckFloors(const EngineInfo& engine,
                                    const std::vector<TenantShares>& tenants) {
  const int32_t blocks_needed = BlocksFor(engine.context_tokens);
  const int64_t floors = FloorsOf(tenants);
  for (const TenantShares& tenant : tenants) {
    const int64_t others_floors = floors - DeviceFloor(tenant);
    if (others_floors + blocks_needed <= engine.num_blocks) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the device floors of the tenants keep ", others_floors, " of ", engine.num_blocks,
        " KV blocks from another; one longest sequence takes ", blocks_needed,
        "; lower tenants.kv.device.floor, or raise engine.kv_device_bytes"));
  }
  return absl::OkStatus();
}

Scheduler::Scheduler(const EngineInfo& engine, const SchedulerOptions& options,
                     SchedulerMetrics& metrics, TokenSink& sink)
    : engine_(engine),
      options_(options),
      // Each running sequence must get a row in every step.
      running_max_(std::min({options.running_max, engine.num_sequence_slots,
                             options.step_tokens_max, engine.step_tokens_max})),
      step_tokens_max_(std::min(options.step_tokens_max, engine.step_tokens_max)),
      metrics_(metrics),
      sink_(sink),
      store_(StoreOptions(engine, options)),
      tenants_(options.tenants),
      num_present_(NumPresent(options.tenants)),
      programs_({.policy = options.policy}, tenants_.size(), &metrics.programs),
      turn_ends_(options.kv.keys, tenants_.size()),
      reload_(std::min(options.chunk_tokens_max, step_tokens_max_),
              static_cast<int64_t>(engine.kv_layout.block_bytes()) / kBlockTokens),
      rates_(options.tenants),
      tenant_queues_(static_cast<size_t>(tenants_.size())),
      prompts_(static_cast<size_t>(tenants_.size())),
      online_(MakeClass(options)),
      offline_(MakeClass(options)),
      rows_(WeightsOf(options)),
      pace_(tenants_.size(), step_tokens_max_, options.step_time_max),
      speculation_(engine.verifies_drafts && options.draft_tokens_max > 0 ? options.speculation
                                                                          : Speculation::kOff),
      preemptions_(tenants_.size(), kPreemptionContexts * int64_t{engine.context_tokens}),
      usage_(tenants_.size(), static_cast<int64_t>(engine.kv_layout.block_bytes()), metrics) {
  shares_.places.resize(static_cast<size_t>(num_tenants()));
  running_.reserve(static_cast<size_t>(running_max_));
  for (Step* step : {&steps_[0], &steps_[1], &committed_}) {
    step->parts.reserve(static_cast<size_t>(running_max_));
  }
  draft_candidates_.reserve(static_cast<size_t>(running_max_));
  drafting_.reserve(static_cast<size_t>(running_max_));
  drawn_.resize(static_cast<size_t>(num_tenants()));
  num_found_programs_.resize(static_cast<size_t>(num_tenants()));
  for (int32_t slot = running_max_ - 1; slot >= 0; --slot) {
    free_slots_.push_back(SequenceSlot{slot});
  }
}

Scheduler::WaitingClass Scheduler::MakeClass(const SchedulerOptions& options) {
  const std::vector<double> weights = WeightsOf(options);
  WaitingClass made{
      .queues = {}, .share = FairShare(weights), .passed = std::vector<bool>(weights.size())};
  for (size_t i = 0; i < weights.size(); ++i) made.queues.emplace_back(options.bypass_max);
  return made;
}

AdmissionView Scheduler::View() const {
  return {.running_sequences = num_running(),
          .running_max = running_max_,
          .waiting_requests = waiting_requests_,
          .waiting_max = options_.waiting_max,
          .several_tenants = num_present_ > 1};
}

// The server has checked all of this with better words; here it protects the device.
absl::Status Scheduler::Check(const Request& request) const {
  if (request.prompt.empty()) return absl::InvalidArgumentError("the prompt is empty");
  const auto total = static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
  if (request.max_tokens < 0 || total > engine_.context_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("prompt and completion may have ", total,
                                                   " tokens; the model takes ",
                                                   engine_.context_tokens, "; shorten them"));
  }
  if (request.num_choices < 1 || request.num_choices > kChoicesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the request has ", request.num_choices,
                                                   " choices; 1 to ", kChoicesMax, " can be had"));
  }
  if (!request.masks.empty() && std::ssize(request.masks) != request.num_choices) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request has ", request.masks.size(), " masks; one a choice is wanted"));
  }
  if (request.pooling != Pooling::kNone &&
      (request.max_tokens > 0 || engine_.embedding_size == 0)) {
    return absl::InvalidArgumentError(
        "an embedding takes an engine that gives hidden states, and no completion tokens");
  }
  if (request.retain && request.session.empty()) {
    return absl::InvalidArgumentError("KV is to be retained, but no session is named");
  }
  for (TokenId token : request.prompt) {
    if (token < 0 || token >= engine_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prompt token ", token, " is not in the vocabulary of ", engine_.vocab_size));
    }
  }
  return absl::OkStatus();
}

bool Scheduler::Submit(Request&& request, absl::Time now) {
  std::vector<Request> one;
  one.push_back(std::move(request));
  return SubmitAll(std::move(one), now);
}

bool Scheduler::SubmitAll(std::vector<Request>&& requests, absl::Time now) {
  thread_.CheckThread();
  CHECK(!requests.empty());
  const TenantIndex tenant = requests.front().tenant;
  CHECK(tenants_.Knows(tenant));
  const auto num_requests = static_cast<int32_t>(requests.size());
  absl::Status status;
  int64_t tokens = 0;
  for (const Request& request : requests) {
    CHECK(request.tenant == tenant && !requests_.contains(request.id));
    status.Update(Check(request));
    tokens += TokensAskedFor(request, request.prompt.size());
  }
  status.Update(rates_.Check(tenant, tokens));
  std::optional<absl::Duration> retry_after;
  if (status.ok()) {
    const bool offline = requests.front().offline;
    if (const auto refusal = TryTakeIn(tenant, num_requests, tokens, offline, now)) {
      metrics_.Of(tenant).Shed(refusal->reason).Add();
      status = absl::ResourceExhaustedError(ShedMessage(refusal->reason));
      retry_after = refusal->retry_after;
    }
  }
  if (!status.ok()) {
    for (const Request& request : requests) {
      sink_.OnDone({.request = request.id, .status = status, .retry_after = retry_after});
    }
    return false;
  }
  for (Request& request : requests) {
    const RequestId id = request.id;
    if (!options_.prefix_cache || request.pooling == Pooling::kMean) request.reuse_prefix = false;
    std::unique_ptr<ActiveRequest> active =
        MakeActiveRequest(std::move(request), next_arrival_++, now, sequence_memory_);
    Arrive(*active);
    AddWaiting(active->choices.front());
    CountWaiting(tenant, 1);
    ++waiting_requests_;
    if (!active->request.offline) PromptsOf(tenant).Enter(active->prompt_size, num_plans_);
    requests_.emplace(id, std::move(active));
  }
  queue_.Enter(num_requests);
  tenant_queues_[static_cast<size_t>(Number(tenant))].Enter(num_requests);
  LookAtQueues(tenant, now);
  return true;
}

// Counted by the rates from here on, unless refused.
std::optional<Refusal> Scheduler::TryTakeIn(TenantIndex tenant, int32_t num_requests,
                                            int64_t tokens, bool offline, absl::Time now) {
  LookAtQueues(tenant, now);
  const TenantLoad& load = tenants_[tenant];
  if (const std::optional<ShedReason> reason = ShouldShed(View(), load, num_requests)) {
    const QueueDepartures& queue = *reason == ShedReason::kQueue
                                       ? queue_
                                       : tenant_queues_[static_cast<size_t>(Number(tenant))];
    return Refusal{
        .reason = *reason,
        .retry_after = queue.TimeUntilLeft(RequestsBeyond(*reason, View(), load, num_requests))};
  }
  const PromptQueue& prompts = PromptsOf(tenant);
  const absl::Duration wait = prompts.ExpectedWait();
  const bool has_place =
      !prompts.SomeoneWasLeft(num_plans_) && num_running() + waiting_requests_ < running_max_;
  if (!offline && !has_place && wait > options_.queue_wait_max) {
    return Refusal{
        .reason = ShedReason::kQueueWait,
        .retry_after = std::clamp(wait - options_.queue_wait_max, kRetryAfterMin, kRetryAfterMax)};
  }
  return rates_.TryTake(tenant, tokens, now);
}

void Scheduler::LookAtQueues(TenantIndex tenant, absl::Time now) {
  queue_.Look(waiting_requests_, now);
  tenant_queues_[static_cast<size_t>(Number(tenant))].Look(tenants_[tenant].waiting, now);
  PromptsOf(tenant).Look(now);
}

void Scheduler::LeaveQueue(const ActiveRequest& request) {
  CountWaiting(request.request.tenant, -1);
  --waiting_requests_;
  if (!request.request.offline) PromptsOf(request.request.tenant).Leave(request.prompt_size);
  // Now, or the time until somebody looks would count as one in which it waited.
  LookAtQueues(request.request.tenant, now_);
}

// Of what it asked for: cached, or not drawn. All of it if it never ran.
int64_t Scheduler::UnusedTokens(const ActiveRequest& request) {
  const int64_t asked = TokensAskedFor(request.request, static_cast<size_t>(request.prompt_size));
  if (!request.admitted) return asked;
  int64_t used = request.prompt_size - request.cached_tokens.value_or(0);
  for (const Sequence& choice : request.choices) used += choice.num_completion;
  return asked - used;
}

void Scheduler::SetTenants(const std::vector<TenantConfig>& tenants,
                           std::vector<TenantShares> shares, absl::Time now) {
  thread_.CheckThread();
  for (auto i = static_cast<size_t>(num_tenants()); i < tenants.size(); ++i) {
    AddTenant(tenants[i].weight);
  }
  num_present_ = NumPresent(tenants);
  tenants_.SetBounds(tenants);
  rates_.SetBounds(tenants, now);
  for (size_t i = 0; i < tenants.size(); ++i) {
    const auto tenant = static_cast<TenantIndex>(i);
    online_.share.SetWeight(tenant, tenants[i].weight);
    offline_.share.SetWeight(tenant, tenants[i].weight);
    rows_.SetWeight(tenant, tenants[i].weight);
  }
  for (size_t i = shares.size(); i < tenants.size(); ++i) {
    shares.push_back(i < store_.tenants().size() ? store_.tenants()[i] : TenantShares());
  }
  store_.SetTenants(std::move(shares));
}

// All that is kept for each tenant, but what SetBounds and the store add.
void Scheduler::AddTenant(double weight) {
  programs_.AddTenant();
  turn_ends_.AddTenant();
  tenant_queues_.emplace_back();
  prompts_.emplace_back();
  for (WaitingClass* waiting : {&online_, &offline_}) {
    waiting->queues.emplace_back(options_.bypass_max);
    waiting->share.AddTenant(weight);
    waiting->passed.push_back(false);
  }
  rows_.AddTenant(weight);
  pace_.AddTenant();
  preemptions_.AddTenant();
  usage_.AddTenant();
  shares_.places.push_back(0);
  drawn_.push_back(0);
  num_found_programs_.push_back(0);
}

int32_t Scheduler::RequestsAtOnceMax(TenantIndex tenant) const {
  return holdfast::RequestsAtOnceMax(View(), tenants_[tenant]);
}

void Scheduler::Cancel(RequestId id) {
  thread_.CheckThread();
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  ActiveRequest& request = *found->second;
  if (request.ends_with_step) return;
  const bool in_step = std::any_of(request.choices.begin(), request.choices.end(),
                                   [](const Sequence& choice) { return choice.num_steps > 0; });
  if (in_step) {
    EndWithStep(request, absl::CancelledError("the request was cancelled"));
  } else {
    EndRequest(request, absl::CancelledError("the request was cancelled"));
  }
}

void Scheduler::StopChoice(RequestId id, int32_t choice) {
  thread_.CheckThread();
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  ActiveRequest& request = *found->second;
  if (request.ends_with_step) return;
  if (choice < 0 || static_cast<size_t>(choice) >= request.choices.size()) return;
  Sequence& sequence = request.choices[static_cast<size_t>(choice)];
  // Without a token there is nothing to have had enough of; and others may wait for its prompt.
  if (sequence.state == SequenceState::kEnded || sequence.num_completion == 0) return;
  if (sequence.num_steps > 0) {
    sequence.ends_with_step = true;
  } else {
    EndSequence(sequence);
  }
}

void Scheduler::Preempt(Sequence& sequence, TenantIndex for_tenant) {
  metrics_.preemptions.Add();
  if (sequence.opened) sequence.preempted_tokens = sequence.computed_tokens;
  ++sequence.num_preempted;
  if (for_tenant == sequence.request->request.tenant) {
    sequence.charged_tokens = 0;         // what it computes again is its tenant's own affair
  } else if (!sequence.order.offline) {  // offline work gives way to anybody, at nobody's cost
    ++sequence.num_taken_back;
    sequence.taken_back_for = for_tenant;
  }
  SendBack(sequence);
}

void Scheduler::SendBack(Sequence& sequence) {
  StopRunning(sequence);
  if (!sequence.request->prompt_done) sequence.request->prompt_logprobs.clear();
  sequence.state = SequenceState::kWaiting;
  AddWaiting(sequence);
}

void Scheduler::NoteHeld(Sequence& sequence) {
  const auto held = static_cast<int32_t>(sequence.blocks.size());
  usage_.AddHeld(sequence.tenant, held - std::exchange(sequence.held_blocks, held), now_);
}

void Scheduler::StopRunning(Sequence& sequence) {
  CHECK(sequence.state == SequenceState::kRunning);
  ActiveRequest& request = *sequence.request;
  const auto at = std::lower_bound(running_.begin(), running_.end(), &sequence, RunsBefore);
  CHECK(at != running_.end() && *at == &sequence);
  running_.erase(at);
  LeaveSteps(sequence);
  free_slots_.push_back(sequence.slot);
  store_.Release(now_, sequence.blocks, sequence.published);
  NoteHeld(sequence);
  sequence.computed_tokens = sequence.planned_tokens = sequence.num_untold = 0;
  if (sequence.restoring) --num_restoring_;
  sequence.restoring = sequence.opened = false;
  sequence.remote = {};
  sequence.gate = nullptr;
  sequence.continues_pin = false;
  if (--request.running_choices == 0) CountRunning(request.request.tenant, -1);
}

void Scheduler::LeaveSteps(Sequence& sequence) {
  for (size_t i = 0; i < num_steps_ && sequence.num_steps > 0; ++i) {
    for (InFlight& part : steps_[i].parts) {
      if (part.sequence != &sequence) continue;
      part.sequence = nullptr;
      --sequence.num_steps;
      break;
    }
  }
  CHECK(sequence.num_steps == 0);
  sequence.undelivered = 0;
  sequence.ends_with_step = sequence.draw_known = false;
}

// Unless the session has another one by now.
void Scheduler::ReleasePin(const ActiveRequest& request, PinId id) {
  const TenantIndex tenant = request.request.tenant;
  const Pin* pin = store_.pins().Find(tenant, request.request.session);
  if (pin == nullptr || pin->id != id) return;
  store_.ReleasePin(tenant, request.request.session, PinEnd::kFinal, now_);
}

Scheduler::Adoption Scheduler::AdoptDiskBlocks(std::span<const RecoveredBlock> blocks,
                                               absl::Time now) {
  thread_.CheckThread();
  CHECK(options_.kv.disk != nullptr && num_plans_ == 0);
  Adoption adoption;
  for (const RecoveredBlock& block : blocks) {
    if (store_.AdoptDiskBlock(block.slot, block.identity, now)) {
      ++adoption.adopted;
    } else {
      ++adoption.refused;
      options_.kv.disk->Drop(block.slot);
    }
  }
  store_.FinishAdoption();
  return adoption;
}

void Scheduler::EndSequence(Sequence& sequence) {
  ActiveRequest& request = *sequence.request;
  if (sequence.state == SequenceState::kRunning) {
    store_.OfferToRemote(sequence.blocks, sequence.published, now_);
    PinForSession(sequence);
    StopRunning(sequence);
  }
  if (sequence.state == SequenceState::kWaiting) RemoveWaiting(sequence, WaitQueue::Leave::kGone);
  sequence.state = SequenceState::kEnded;
  if (--request.choices_left == 0) EndRequest(request, absl::OkStatus());
}

void Scheduler::EndRequest(ActiveRequest& request, absl::Status status) {
  for (Sequence& choice : request.choices) {
    if (choice.state == SequenceState::kRunning) StopRunning(choice);
    if (choice.state == SequenceState::kWaiting) RemoveWaiting(choice, WaitQueue::Leave::kGone);
    choice.state = SequenceState::kEnded;
  }
  if (!request.admitted) LeaveQueue(request);
  rates_.GiveBack(request.request.tenant, UnusedTokens(request), request.submitted);
  if (request.request.session_final) {
    store_.ReleasePin(request.request.tenant, request.request.session, PinEnd::kFinal, now_);
  } else if (request.pin && !status.ok()) {
    ReleasePin(request, *request.pin);
  }
  if (request.program != nullptr) {
    if (status.ok()) {
      EndTurn(request, 0);
    } else {
      programs_.OnTurnGone(*request.program, now_, ServiceOf(request));
    }
  }
  const RequestId id = request.request.id;
  const bool pinned = status.ok() && request.pin.has_value();
  StageTimes times = std::move(request.times);
  for (size_t tier = TierAt(TierKind::kDevice) + 1; tier < kNumTiers; ++tier) {
    times.restored_tokens += static_cast<int64_t>(request.hit_tokens[tier]);
  }
  requests_.erase(id);
  sink_.OnDone(
      {.request = id, .status = std::move(status), .pinned = pinned, .times = std::move(times)});
}

void Scheduler::FailAll(const absl::Status& status) {
  thread_.CheckThread();
  CHECK(!status.ok());
  if (step_running()) metrics_.steps_failed.Add();
  ending_.clear();
  std::vector<ActiveRequest*> all;
  for (const auto& [id, request] : requests_) all.push_back(request.get());
  std::sort(all.begin(), all.end(),
            [](const ActiveRequest* a, const ActiveRequest* b) { return a->arrival < b->arrival; });
  for (ActiveRequest* request : all) EndRequest(*request, status);
  num_steps_ = 0;
  ReleaseMoves();
  store_.ForgetDevice(now_);
  PublishCounts();
}

void Scheduler::CountRunning(TenantIndex tenant, int32_t change) {
  tenants_.AddRunning(tenant, change);
  metrics_.Of(tenant).running_requests.Set(tenants_[tenant].running);
}

void Scheduler::CountWaiting(TenantIndex tenant, int32_t change) {
  tenants_.AddWaiting(tenant, change);
  metrics_.Of(tenant).waiting_requests.Set(tenants_[tenant].waiting);
}

void Scheduler::PublishCounts() {
  metrics_.SetQueues(num_running(), num_waiting());
  metrics_.kv.Update(store_);
  usage_.CountHeld(store_.pins(), now_);
  metrics_.programs.UpdatePins(store_.pins(), engine_.kv_layout.block_bytes());
}

void Scheduler::PublishWaitReasons() {
  std::array<int32_t, kNumWaitReasons> sequences{};
  for (const WaitingClass* waiting : {&online_, &offline_}) {
    int32_t others = waiting->num_waiting;
    for (size_t i = 0; i < kNumWaitReasons; ++i) {
      sequences[i] += waiting->noted[i];
      others -= waiting->noted[i];
    }
    sequences[static_cast<size_t>(waiting->others_wait)] += others;
  }
  metrics_.SetWaitReasons(sequences);
}

void Scheduler::CheckInvariants() const {
  store_.CheckInvariants();
  CHECK(std::is_sorted(running_.begin(), running_.end(), RunsBefore));
  CHECK(num_restoring_ == std::count_if(running_.begin(), running_.end(),
                                        [](const Sequence* s) { return s->restoring; }));
  CHECK(running_.size() + free_slots_.size() == static_cast<size_t>(running_max_));
  std::vector<int32_t> held(static_cast<size_t>(num_tenants()));
  for (const Sequence* sequence : running_) {
    held[static_cast<size_t>(Number(sequence->tenant))] +=
        static_cast<int32_t>(sequence->blocks.size());
    CHECK(sequence->state == SequenceState::kRunning);
    CHECK(BlocksFor(sequence->planned_tokens) <= static_cast<int32_t>(sequence->blocks.size()));
    CHECK(!sequence->restoring || !sequence->opened || sequence->num_steps > 0);
    CHECK(sequence->num_steps >= 0 && sequence->undelivered <= sequence->num_steps);
    CHECK(sequence->num_untold <= sequence->unplanned_tokens());
    CHECK(!sequence->draw_known || sequence->num_steps > sequence->undelivered);
    CHECK(sequence->restoring || sequence->gate == nullptr);
  }
  for (int32_t i = 0; i < num_tenants(); ++i) {
    CHECK(usage_.held_blocks(TenantIndex{i}) == held[static_cast<size_t>(i)]);
  }
  int32_t num_waiting = 0;
  for (const WaitingClass* waiting : {&online_, &offline_}) {
    for (size_t i = 0; i < waiting->queues.size(); ++i) {
      waiting->queues[i].CheckInvariants();
      CHECK(waiting->queues[i].size() ==
            waiting->share.waiting(TenantIndex{static_cast<int32_t>(i)}));
      num_waiting += waiting->queues[i].size();
    }
  }
  size_t num_kept = 0;
  for (const Sequence* sequence : head_) {
    CHECK(sequence->state == SequenceState::kWaiting);
    if (!sequence->kept.empty()) ++num_kept;
  }
  for (const auto& [id, request] : requests_) {
    for (const Sequence& choice : request->choices) num_kept -= choice.kept.empty() ? 0 : 1;
  }
  CHECK(num_kept == 0 && head_.size() <= static_cast<size_t>(options_.pin_window));
  turn_ends_.CheckInvariants();
  CHECK(num_waiting == num_waiting_ && num_waiting == online_.num_waiting + offline_.num_waiting);
  if (requests_.empty()) {
    CHECK(running_.empty() && num_waiting_ == 0 && waiting_requests_ == 0);
    CHECK(store_.counts().held == store_.pins().num_blocks() && num_restoring_ == 0);
  }
}

}  // namespace holdfast
