#include "server/generation_service.h"

#include <algorithm>
#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "scheduler/scheduler_loop.h"
#include "server/generation_task.h"
#include "server/http_status.h"
#include "server/request_validator.h"
#include "server/reuse_scope.h"
#include "server/token_stream.h"

namespace holdfast {
namespace {

// How late a request_timeout may be noticed: far below any sensible timeout, far above a step.
constexpr absl::Duration kExpiryInterval = absl::Milliseconds(100);

size_t PromptBytes(const GenerationRequest& request) {
  if (const auto* chat = std::get_if<ChatInput>(&request.prompt)) {
    return chat->messages_json.size() + chat->tools_json.size();
  }
  if (const auto* text = std::get_if<std::string>(&request.prompt)) return text->size();
  return 0;
}

// In whole seconds, at least one, rounded up: who comes then finds what was told.
absl::Status WithRetryAfter(absl::Status status, absl::Duration after) {
  const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(after, absl::Seconds(1)));
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::StrCat(std::max<int64_t>(seconds, 1))));
  return status;
}

absl::Status Shed(absl::string_view what, absl::Duration after) {
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(what, "; try again later")),
                        after);
}

// A moment's work is there; it goes on while the caller is told.
absl::Status TooManyTexts() {
  return Shed("too many texts wait for the tokenizer", absl::Seconds(1));
}

absl::Status Stopping() {
  return WithRetryAfter(absl::UnavailableError("the daemon is stopping; ask another one"),
                        absl::Seconds(5));
}

// Whether its answer is read for the tools that it calls. Where the caller has said which, or takes
// tokens alone, it is not.
bool NamesTool(const GenerationRequest& request) {
  return request.want_text && !request.tool_hint.has_value() && *request.max_tokens > 0;
}

}  // namespace

SchedulerPort PortTo(SchedulerLoop& loop) {
  return {
      .submit_all = [&loop](std::vector<Request>&& all) { return loop.SubmitAll(std::move(all)); },
      .cancel = [&loop](RequestId id) { loop.Cancel(id); },
      .stop_choice = [&loop](RequestId id, int32_t choice) { loop.StopChoice(id, choice); },
      .name_tool = [&loop](RequestId id, std::string tool) { loop.NameTool(id, std::move(tool)); },
      .requests_at_once_max =
          [&loop](TenantIndex tenant) { return loop.RequestsAtOnceMax(tenant); },
      .retry_after = [&loop] { return loop.snapshot().retry_after; }};
}

//   waited_for > 0 ── each begins ──► submitted     (all in one message)
//         └───────── one fails ─────► failure       (for all)
//
// Shared by its requests, which end in any order. Its mutex is taken before the scheduler's mailbox
// and never within mutex_ or another group's.
struct SchedulerGenerationService::Group {
  explicit Group(size_t num_requests) : waited_for(num_requests), open(num_requests) {}

  absl::Mutex mutex;
  size_t waited_for ABSL_GUARDED_BY(mutex);  // have not begun
  bool submitted ABSL_GUARDED_BY(mutex) = false;
  absl::Status failure ABSL_GUARDED_BY(mutex);
  std::vector<RequestId> begun ABSL_GUARDED_BY(mutex);
  std::vector<Request> requests ABSL_GUARDED_BY(mutex);   // of those begun
  size_t open ABSL_GUARDED_BY(mutex);                     // have not ended for their client
  Outcome outcome ABSL_GUARDED_BY(mutex) = Outcome::kOk;  // the first that is not ok

  absl::Status Failure() ABSL_LOCKS_EXCLUDED(mutex) {
    absl::MutexLock lock(&mutex);
    return failure;
  }
  bool Submitted() ABSL_LOCKS_EXCLUDED(mutex) {
    absl::MutexLock lock(&mutex);
    return submitted;
  }
};

// Shared by the two maps' readers and the request's stream, whose cancel may come when the request
// is over.
struct SchedulerGenerationService::Live {
  RequestId id{};
  WireKey key;
  absl::Time arrival;
  std::shared_ptr<Group> group;
  absl::Mutex mutex;
  absl::Status stop_reason ABSL_GUARDED_BY(mutex);  // ok: nobody wants it stopped

  absl::Status StopReason() ABSL_LOCKS_EXCLUDED(mutex) {
    absl::MutexLock lock(&mutex);
    return stop_reason;
  }
};

struct SchedulerGenerationService::Pending {
  std::shared_ptr<Live> live;
  GenerationRequest request;
  StreamWriter writer;
};

struct SchedulerGenerationService::StreamEntry {
  std::unique_ptr<GenerationTask> task;
  std::shared_ptr<Live> live;
  // Once its stream has ended:
  Outcome outcome = Outcome::kOk;
  absl::Time ended;
};

struct SchedulerGenerationService::StreamState {
  absl::flat_hash_map<RequestId, StreamEntry> tasks;
  absl::Time next_expiry = absl::InfinitePast();
};

SchedulerGenerationService::SchedulerGenerationService(GenerationServiceOptions options,
                                                       const Tokenizer& tokenizer,
                                                       const ChatTemplate* chat_template,
                                                       const Clock& clock, MetricsRegistry& metrics)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      clock_(clock),
      metrics_(metrics, {}, options_.model.name),
      encoder_({.model = options_.model, .eos_tokens = options_.eos_tokens}, tokenizer,
               chat_template) {
  SetTenants(TenantsOrDefault(options_.tenants));
  for (int32_t i = 0; i < options_.text_threads; ++i) {
    stream_states_.push_back(std::make_unique<StreamState>());
  }
  Handler& self = *this;  // make_unique does not see a private base
  stream_workers_ = std::make_unique<TextWorkers>(options_.text_threads, self);
  prompt_workers_ = std::make_unique<PromptWorkers>(options_.text_threads, kTextTasksMax);
}

SchedulerGenerationService::~SchedulerGenerationService() { Shutdown(); }

void SchedulerGenerationService::SetTenants(const std::vector<TenantConfig>& tenants) {
  metrics_.AddTenants(NamesOf(tenants));
  for (size_t i = 0; i < tenants.size(); ++i) {
    if (i == tenants_.size()) {
      tenants_.AddNew(std::make_unique<Tenant>(tenants[i]));
    }
    tenants_[i].priority_max = tenants[i].priority_max;
  }
}

void SchedulerGenerationService::Shutdown() {
  BeginDrain();
  shut_down_.store(true, std::memory_order_relaxed);  // prompts still at work go no further
  prompt_workers_->Stop();
  stream_workers_->Stop();
  for (const auto& state : stream_states_) {
    while (!state->tasks.empty()) EraseTask(state->tasks.begin()->first, Stopping());
  }
}

void SchedulerGenerationService::Connect(SchedulerPort scheduler) {
  CHECK(scheduler_.submit_all == nullptr);
  scheduler_ = std::move(scheduler);
}

// ---- Any thread

std::shared_ptr<GenerationStream> SchedulerGenerationService::Start(GenerationRequest request) {
  std::vector<GenerationRequest> one;
  one.push_back(std::move(request));
  return StartAll(std::move(one)).front();
}

std::vector<std::shared_ptr<GenerationStream>> SchedulerGenerationService::StartAll(
    std::vector<GenerationRequest> requests) {
  CHECK(scheduler_.submit_all != nullptr && !requests.empty());
  const TenantIndex tenant = requests.front().tenant;
  absl::Status status = CheckGroup(requests);
  const auto group = std::make_shared<Group>(requests.size());
  std::vector<std::shared_ptr<GenerationStream>> streams;
  // Shared with the tasks, which a full queue destroys: who they were for must still be told.
  std::vector<std::shared_ptr<Pending>> all;
  std::vector<PromptWorkers::Task> tasks;
  for (GenerationRequest& request : requests) {
    CHECK(request.tenant == tenant);
    std::shared_ptr<Live> live = Register(request, group);
    StreamEnds ends = MakeTokenStream(
        [this, live] { Stop(*live, absl::CancelledError("the client cancelled the request")); });
    streams.push_back(std::move(ends.reader));
    all.push_back(std::make_shared<Pending>(Pending{
        .live = std::move(live), .request = std::move(request), .writer = std::move(ends.writer)}));
    tasks.emplace_back([this, pending = all.back()] { Prepare(pending); });
  }
  if (status.ok() && !prompt_workers_->TryPost(tenant, std::move(tasks))) {
    status = TooManyTexts();
    metrics_.Of(tenant).texts_refused.Add();
  }
  if (!status.ok()) {
    for (const auto& pending : all) EndBeforeBegin(*pending, status);
  }
  return streams;
}

absl::Status SchedulerGenerationService::CheckGroup(
    const std::vector<GenerationRequest>& requests) const {
  if (draining_.load(std::memory_order_relaxed)) return Stopping();
  const char* const param = requests.front().names->prompt;
  const auto most = static_cast<size_t>(scheduler_.requests_at_once_max(requests.front().tenant));
  if (requests.size() > most) {
    return ParameterError(
        param, "array_above_max_length",
        absl::StrCat(param, " holds ", requests.size(), " prompts; at most ", most,
                     " can run and wait here at a time; send several requests"));
  }
  size_t bytes = 0;
  for (const GenerationRequest& request : requests) bytes += PromptBytes(request);
  if (bytes > kBodyTextBytesMax) {
    return ParameterError(
        param, "string_above_max_length",
        absl::StrCat("the prompts have ", bytes, " bytes of text; one request may bring ",
                     kBodyTextBytesMax, "; send several requests"));
  }
  return absl::OkStatus();
}

bool SchedulerGenerationService::CancelByWireId(TenantIndex tenant, const std::string& wire_id) {
  std::vector<std::shared_ptr<Live>> found;
  {
    absl::MutexLock lock(&mutex_);
    const auto ids = by_wire_id_.find(WireKey(tenant, wire_id));
    if (ids == by_wire_id_.end()) return false;
    for (const RequestId id : ids->second) found.push_back(live_.at(id));
  }
  for (const auto& live : found) Stop(*live, absl::CancelledError("the request was cancelled"));
  return true;
}

void SchedulerGenerationService::CancelAll(const absl::Status& reason) {
  std::vector<std::shared_ptr<Live>> found;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, live] : live_) found.push_back(live);
  }
  for (const auto& live : found) Stop(*live, reason);
}

bool SchedulerGenerationService::WaitIdle(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
  return mutex_.AwaitWithDeadline(absl::Condition(&idle), deadline);
}

int32_t SchedulerGenerationService::running() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int32_t>(live_.size());
}

std::vector<std::string> SchedulerGenerationService::WireIds(
    const std::vector<RequestId>& requests) const {
  std::vector<std::string> ids;
  ids.reserve(requests.size());
  absl::MutexLock lock(&mutex_);
  for (const RequestId request : requests) {
    const auto live = live_.find(request);
    ids.push_back(live == live_.end() ? std::string() : live->second->key.second);
  }
  return ids;
}

template <typename Answer>
void SchedulerGenerationService::PostText(TextCaller caller,
                                          absl::AnyInvocable<absl::StatusOr<Answer>()> work,
                                          absl::AnyInvocable<void(absl::StatusOr<Answer>)> done) {
  // Shared with the task, which a full queue destroys.
  const auto shared_done = std::make_shared<decltype(done)>(std::move(done));
  std::vector<PromptWorkers::Task> task;
  task.emplace_back(
      [this, gone = std::move(caller.gone), work = std::move(work), shared_done]() mutable {
        if (gone != nullptr && gone->load()) {
          (*shared_done)(absl::CancelledError("the client has gone"));
        } else if (shut_down_.load(std::memory_order_relaxed)) {
          (*shared_done)(Stopping());
        } else {
          (*shared_done)(work());
        }
      });
  if (!prompt_workers_->TryPost(caller.tenant, std::move(task))) {
    (*shared_done)(TooManyTexts());
  }
}

void SchedulerGenerationService::Tokenize(
    TextCaller caller, std::variant<ChatInput, std::string> text, bool add_special_tokens,
    absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) {
  PostText<std::vector<TokenId>>(
      std::move(caller),
      [this, text = std::move(text), add_special_tokens] {
        return encoder_.EncodeText(text, add_special_tokens);
      },
      std::move(done));
}

void SchedulerGenerationService::Detokenize(
    TextCaller caller, std::vector<TokenId> tokens,
    absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) {
  PostText<std::string>(
      std::move(caller), [this, tokens = std::move(tokens)] { return encoder_.DecodeText(tokens); },
      std::move(done));
}

std::string SchedulerGenerationService::TokenText(TokenId token) const {
  return std::string(tokenizer_.TokenBytes(token));
}

void SchedulerGenerationService::Stop(Live& live, const absl::Status& reason) {
  {
    absl::MutexLock lock(&live.mutex);
    if (!live.stop_reason.ok()) return;  // told already: one message a request
    live.stop_reason = reason;
  }
  // If the request is not yet at its worker it finds the reason itself (Begin); both happen on the
  // same thread, so that one of the two sees the other.
  stream_workers_->Post(StreamWorkerOf(live.id),
                        TextTask([this, id = live.id] { HandleStop(id); }));
}

std::shared_ptr<SchedulerGenerationService::Live> SchedulerGenerationService::Register(
    const GenerationRequest& request, std::shared_ptr<Group> group) {
  auto live = std::make_shared<Live>();
  live->key = WireKey(request.tenant, request.wire_id);
  live->arrival = request.arrival;
  live->group = std::move(group);
  absl::MutexLock lock(&mutex_);
  live->id = RequestId{next_id_++};
  live_.emplace(live->id, live);
  by_wire_id_[live->key].push_back(live->id);
  metrics_.running().Set(static_cast<double>(live_.size()));
  return live;
}

void SchedulerGenerationService::Forget(const Live& live) {
  absl::MutexLock lock(&mutex_);
  const auto ids = by_wire_id_.find(live.key);
  std::erase(ids->second, live.id);
  if (ids->second.empty()) by_wire_id_.erase(ids);
  CHECK(live_.erase(live.id) == 1);
  metrics_.running().Set(static_cast<double>(live_.size()));
}

int32_t SchedulerGenerationService::StreamWorkerOf(RequestId id) const {
  return static_cast<int32_t>(Number(id) % stream_states_.size());
}

// ---- Scheduler thread

void SchedulerGenerationService::OnPrompt(PromptEvent event) {
  const int32_t worker = StreamWorkerOf(event.request);
  stream_workers_->Post(worker, std::move(event));
}

void SchedulerGenerationService::OnToken(TokenEvent event) {
  const int32_t worker = StreamWorkerOf(event.request);
  stream_workers_->Post(worker, TimedToken{.event = std::move(event), .at = clock_.Now()});
}

void SchedulerGenerationService::OnDone(RequestDone event) {
  const int32_t worker = StreamWorkerOf(event.request);
  stream_workers_->Post(worker, std::move(event));
}

// ---- Prompt workers

void SchedulerGenerationService::Prepare(const std::shared_ptr<Pending>& pending) {
  absl::Status status = pending->live->StopReason();
  if (status.ok()) status = pending->live->group->Failure();
  if (status.ok() && shut_down_.load(std::memory_order_relaxed)) status = Stopping();
  if (status.ok()) status = CheckTime(pending->request);
  absl::StatusOr<EncodedRequest> encoded = EncodedRequest();
  if (status.ok()) {
    encoded = encoder_.Encode(pending->request);
    status = encoded.status();
  }
  if (!status.ok()) {
    EndBeforeBegin(*pending, std::move(status));
    return;
  }
  stream_workers_->Post(StreamWorkerOf(pending->live->id),
                        TextTask([this, pending, encoded = *std::move(encoded)]() mutable {
                          Begin(*pending, std::move(encoded));
                        }));
}

absl::Status SchedulerGenerationService::CheckTime(const GenerationRequest& request) const {
  if (clock_.Now() - request.arrival < options_.request_timeout) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("the request ran longer than ",
                                                  absl::FormatDuration(options_.request_timeout),
                                                  "; ask for fewer tokens"));
}

void SchedulerGenerationService::EndBeforeBegin(Pending& pending, absl::Status status) {
  FailGroup(*pending.live->group, status);
  CountEnd(*pending.live, status);
  if (options_.on_end) {
    options_.on_end({.tenant = pending.live->key.first,
                     .id = pending.live->key.second,
                     .trace = pending.request.trace,
                     .outcome = OutcomeOf(status),
                     .arrival = pending.live->arrival,
                     .end = clock_.Now()});
  }
  // First forgotten, then told: who reads the end finds the request gone.
  Forget(*pending.live);
  pending.writer.Push(GenerationDone{.status = std::move(status)});
}

void SchedulerGenerationService::FailGroup(Group& group, const absl::Status& status) {
  std::vector<RequestId> begun;
  {
    absl::MutexLock lock(&group.mutex);
    if (group.submitted || !group.failure.ok()) return;
    group.failure = status;
    group.requests.clear();
    begun.swap(group.begun);
  }
  EndBegun(begun, status);
}

void SchedulerGenerationService::EndBegun(const std::vector<RequestId>& begun,
                                          const absl::Status& status) {
  for (const RequestId id : begun) {
    stream_workers_->Post(StreamWorkerOf(id), RequestDone{.request = id, .status = status});
  }
}

void SchedulerGenerationService::CountEnd(const Live& live, const absl::Status& status) {
  Outcome outcome;
  {
    Group& group = *live.group;
    absl::MutexLock lock(&group.mutex);
    if (group.outcome == Outcome::kOk) group.outcome = OutcomeOf(status);
    if (--group.open > 0) return;
    outcome = group.outcome;
  }
  TenantGenerationMetrics& metrics = metrics_.Of(live.key.first);
  metrics.requests[static_cast<size_t>(outcome)].Add(1);
  if (outcome == Outcome::kOk) {
    metrics.e2e_latency.Observe(absl::ToDoubleSeconds(clock_.Now() - live.arrival));
  }
}

// ---- Stream workers

absl::Duration SchedulerGenerationService::Handle(int32_t worker,
                                                  std::vector<TextMessage>& messages) {
  StreamState& state = *stream_states_[worker];
  for (TextMessage& message : messages) {
    if (auto* task = std::get_if<TextTask>(&message)) {
      (*task)();
    } else if (auto* prompt = std::get_if<PromptEvent>(&message)) {
      if (StreamEntry* entry = FindEntry(prompt->request)) {
        entry->task->OnPrompt(std::move(*prompt));
      }
    } else if (auto* token = std::get_if<TimedToken>(&message)) {
      HandleToken(std::move(*token));
    } else {
      HandleDone(std::get<RequestDone>(std::move(message)));
    }
  }
  if (state.tasks.empty()) return absl::InfiniteDuration();
  ExpireOld(state);
  return kExpiryInterval;
}

void SchedulerGenerationService::Begin(Pending& pending, EncodedRequest encoded) {
  absl::Status status = pending.live->StopReason();
  if (status.ok() && shut_down_.load(std::memory_order_relaxed)) status = Stopping();
  if (!status.ok()) {
    EndBeforeBegin(pending, std::move(status));
    return;
  }
  const RequestId id = pending.live->id;
  auto task = std::make_unique<GenerationTask>(
      id, std::move(pending.request), std::move(encoded.prompt), std::move(pending.writer),
      tokenizer_, metrics_.Of(pending.live->key.first), encoded.marks);
  GenerationTask& begun = *task;
  if (NamesTool(begun.request())) begun.ReadTools(options_.model.tool_calls);
  stream_states_[StreamWorkerOf(id)]->tasks.emplace(
      id, StreamEntry{.task = std::move(task), .live = pending.live});

  Group& group = *pending.live->group;
  const GenerationRequest& request = begun.request();
  const bool scores_prompt = request.prompt_top_logprobs.has_value();
  if (*request.max_tokens > 0 || scores_prompt || request.embedding.has_value()) {
    JoinGroup(group, id, ToSchedulerRequest(begun, std::move(encoded.masks)));
  } else {
    begun.AnswerWithoutTokens();
    EraseTask(id, absl::OkStatus());
    JoinGroup(group, id, std::nullopt);
  }
}

void SchedulerGenerationService::JoinGroup(Group& group, RequestId id,
                                           std::optional<Request> request) {
  std::vector<RequestId> refused;
  absl::Status status;
  {
    absl::MutexLock lock(&group.mutex);
    if (request.has_value()) {
      group.begun.push_back(id);
      group.requests.push_back(*std::move(request));
    }
    if (!group.failure.ok()) {
      status = group.failure;
    } else if (--group.waited_for == 0 && !group.requests.empty()) {
      std::sort(group.requests.begin(), group.requests.end(),
                [](const Request& a, const Request& b) { return Number(a.id) < Number(b.id); });
      // Within the lock, so that who finds the group submitted cancels after it.
      const Admit admit = scheduler_.submit_all(std::move(group.requests));
      group.requests.clear();
      group.submitted = admit == Admit::kAccepted;
      if (admit == Admit::kShed) status = Shed("the queue is full", scheduler_.retry_after());
      if (admit == Admit::kDraining) status = Stopping();
      group.failure = status;
    }
    if (!status.ok()) refused.swap(group.begun);
  }
  EndBegun(refused, status);
}

Request SchedulerGenerationService::ToSchedulerRequest(
    const GenerationTask& task, std::vector<std::shared_ptr<TokenMask>> masks) const {
  const GenerationRequest& from = task.request();
  const Tenant& tenant = tenants_[static_cast<size_t>(Number(from.tenant))];
  Request request{.id = task.id(),
                  .tenant = from.tenant,
                  .prompt = task.prompt(),
                  .max_tokens = *from.max_tokens,
                  .stop_tokens = from.stop_token_ids,
                  .num_choices = from.num_choices,
                  .sampling = from.sampling,
                  .masks = std::move(masks),
                  .prompt_top_logprobs = from.prompt_top_logprobs,
                  .pooling = from.embedding ? from.embedding->pooling : Pooling::kNone,
                  .reuse_prefix = options_.prefix_cache,
                  .priority = std::max(from.priority, tenant.priority_max.load()),
                  .offline = from.offline,
                  .arrival = from.arrival,
                  .session = from.session,
                  .retain = from.retain,
                  .session_final = from.session_final,
                  .tool_hint = from.tool_hint,
                  .names_tool = NamesTool(from)};
  if (request.retain && request.session.empty()) request.session = from.wire_id;
  request.reuse_scope = MakeReuseScope(
      {.owner = tenant.sharing_group.has_value() ? ReuseScopeParts::Owner::kSharingGroup
                                                 : ReuseScopeParts::Owner::kTenant,
       .owner_name = tenant.sharing_group.has_value() ? *tenant.sharing_group : tenant.name,
       .cache_salt = from.cache_salt,
       .model_digest = options_.model_digest,
       .kv_layout = options_.kv_layout});
  if (!from.ignore_eos) {
    request.stop_tokens.insert(request.stop_tokens.end(), options_.eos_tokens.begin(),
                               options_.eos_tokens.end());
  }
  if (request.sampling.min_tokens > 0) request.sampling.banned_until_min = request.stop_tokens;
  return request;
}

void SchedulerGenerationService::HandleStop(RequestId id) {
  StreamEntry* entry = FindEntry(id);
  if (entry == nullptr) return;  // over, or not begun: then Begin sees the reason
  EndEarly(*entry, entry->live->StopReason());
}

void SchedulerGenerationService::HandleToken(TimedToken token) {
  StreamEntry* entry = FindEntry(token.event.request);
  if (entry == nullptr) return;
  GenerationTask& task = *entry->task;
  const int32_t choice = token.event.choice;
  const bool met_stop_string = task.OnToken(std::move(token.event), token.at);
  // First the name, then the end: so the scheduler has it when it decides what to keep.
  if (std::optional<std::string> tool = task.TakeTool()) {
    scheduler_.name_tool(task.id(), *std::move(tool));
  }
  // A choice ended by a stop string still runs in the scheduler, which knows no text. It must end
  // well there for its KV to be kept for a next turn; the client need not wait for that, unless it
  // wants to be told. If there is none such, RequestDone is on the way and is waited for: blocks
  // are back before the client hears.
  if (met_stop_string) scheduler_.stop_choice(task.id(), choice);
  if (task.all_choices_ended() && task.has_running_sequence() && !task.request().retain) {
    EndStream(*entry, absl::OkStatus());
  }
}

void SchedulerGenerationService::HandleDone(RequestDone event) {
  if (absl::IsResourceExhausted(event.status) && !event.status.GetPayload(kRetryAfterUrl)) {
    event.status =
        WithRetryAfter(std::move(event.status), event.retry_after.value_or(absl::Seconds(1)));
  }
  StreamEntry* entry = FindEntry(event.request);
  if (entry == nullptr) return;
  if (event.pinned) entry->task->OnPinned();
  EraseTask(event.request, std::move(event.status), std::move(event.times));
}

void SchedulerGenerationService::EndEarly(StreamEntry& entry, absl::Status status) {
  if (entry.task->ended()) return;
  if (!entry.live->group->Submitted()) {
    FailGroup(*entry.live->group, status);  // whose end comes back to us
    return;
  }
  EndStream(entry, std::move(status));
  scheduler_.cancel(entry.task->id());
}

void SchedulerGenerationService::EndStream(StreamEntry& entry, absl::Status status) {
  if (entry.task->ended()) return;
  CountEnd(*entry.live, status);
  entry.outcome = OutcomeOf(status);
  entry.ended = clock_.Now();
  entry.task->End(std::move(status));
}

void SchedulerGenerationService::ExpireOld(StreamState& state) {
  const absl::Time now = clock_.Now();
  if (now < state.next_expiry) return;
  state.next_expiry = now + kExpiryInterval;
  for (auto& [id, entry] : state.tasks) {
    if (entry.task->ended()) continue;
    if (absl::Status status = CheckTime(entry.task->request()); !status.ok()) {
      EndEarly(entry, std::move(status));
    }
  }
}

SchedulerGenerationService::StreamEntry* SchedulerGenerationService::FindEntry(RequestId id) {
  StreamState& state = *stream_states_[StreamWorkerOf(id)];
  const auto found = state.tasks.find(id);
  return found == state.tasks.end() ? nullptr : &found->second;
}

void SchedulerGenerationService::EraseTask(RequestId id, absl::Status status, StageTimes times) {
  StreamState& state = *stream_states_[StreamWorkerOf(id)];
  const auto found = state.tasks.find(id);
  StreamEntry entry = std::move(found->second);
  state.tasks.erase(found);
  Forget(*entry.live);
  EndStream(entry, std::move(status));
  if (!options_.on_end) return;
  const GenerationTask& task = *entry.task;
  options_.on_end({.tenant = task.request().tenant,
                   .id = task.request().wire_id,
                   .trace = task.request().trace,
                   .outcome = entry.outcome,
                   .prompt_tokens = static_cast<int32_t>(task.prompt().size()),
                   .cached_tokens = task.cached_tokens(),
                   .completion_tokens = task.completion_tokens(),
                   .arrival = task.request().arrival,
                   .first_token = task.first_token_at(),
                   .end = entry.ended,
                   .times = std::move(times)});
}

}  // namespace holdfast
