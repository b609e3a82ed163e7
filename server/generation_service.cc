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

class TaskRunner final : public TextWorkers::Handler {
 public:
  absl::Duration Handle(int32_t, std::vector<TextMessage>& messages) override {
    for (TextMessage& message : messages) std::get<TextTask>(message)();
    return absl::InfiniteDuration();
  }
};

std::vector<std::string> TenantNames(const std::vector<TenantConfig>& tenants) {
  std::vector<std::string> names;
  for (const TenantConfig& tenant : tenants) names.push_back(tenant.name);
  return names;
}

GenerationServiceOptions WithTenants(GenerationServiceOptions options) {
  if (options.tenants.empty()) options.tenants.push_back({.name = "default"});
  return options;
}

size_t PromptBytes(const GenerationRequest& request) {
  if (const auto* chat = std::get_if<ChatInput>(&request.prompt)) {
    return chat->messages_json.size() + chat->tools_json.size();
  }
  if (const auto* text = std::get_if<std::string>(&request.prompt)) return text->size();
  return 0;
}

size_t TextBytes(const std::variant<ChatInput, std::string>& text) {
  const auto* chat = std::get_if<ChatInput>(&text);
  if (chat == nullptr) return std::get<std::string>(text).size();
  return chat->messages_json.size() + chat->tools_json.size();
}

// More bytes than `context` tokens can spell. Threefold, since a normaliser may shorten a text
// (NFC: three bytes to one at most) and JSON lengthens one by its escapes.
size_t PromptBytesMax(const Tokenizer& tokenizer, int32_t context) {
  constexpr size_t kNormaliserShrink = 3;
  size_t longest = 1;
  for (TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    longest = std::max(longest, tokenizer.TokenBytes(token).size());
  }
  return kNormaliserShrink * longest * static_cast<size_t>(std::max(context, 1));
}

absl::Status WithRetryAfter(absl::Status status, int32_t seconds) {
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::StrCat(seconds)));
  return status;
}

absl::Status Shed(absl::string_view what) {
  return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(what, "; try again later")), 1);
}

absl::Status Stopping() {
  return WithRetryAfter(absl::UnavailableError("the daemon is stopping; ask another one"), 5);
}

absl::Status CheckVocabulary(const std::vector<TokenId>& tokens, int32_t vocab_size) {
  for (const TokenId token : tokens) {
    if (token < 0 || token >= vocab_size) {
      return ParameterError("prompt", "invalid_value",
                            absl::StrCat("prompt has the token ", token,
                                         "; the model's vocabulary ends before ", vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace

// Shared by the two maps' readers and the request's stream, whose cancel may come when the request
// is over.
struct SchedulerGenerationService::Live {
  RequestId id{};
  WireKey key;
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

struct SchedulerGenerationService::StreamState {
  struct Entry {
    std::unique_ptr<GenerationTask> task;
    std::shared_ptr<Live> live;
  };
  absl::flat_hash_map<RequestId, Entry> tasks;
  absl::Time next_expiry = absl::InfinitePast();
};

SchedulerGenerationService::SchedulerGenerationService(GenerationServiceOptions options,
                                                       const Tokenizer& tokenizer,
                                                       const ChatTemplate* chat_template,
                                                       const Clock& clock, MetricsRegistry& metrics)
    : options_(WithTenants(std::move(options))),
      tokenizer_(tokenizer),
      chat_template_(chat_template),
      clock_(clock),
      metrics_(metrics, TenantNames(options_.tenants), options_.model.name),
      prompt_bytes_max_(PromptBytesMax(tokenizer, options_.model.context_tokens)),
      prompt_handler_(std::make_unique<TaskRunner>()) {
  for (int32_t i = 0; i < options_.text_threads; ++i) {
    stream_states_.push_back(std::make_unique<StreamState>());
  }
  Handler& self = *this;  // make_unique does not see a private base
  stream_workers_ = std::make_unique<TextWorkers>(options_.text_threads, kTextTasksMax, self);
  prompt_workers_ =
      std::make_unique<TextWorkers>(options_.text_threads, kTextTasksMax, *prompt_handler_);
}

SchedulerGenerationService::~SchedulerGenerationService() { Shutdown(); }

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
  CHECK(scheduler_.submit == nullptr);
  scheduler_ = std::move(scheduler);
}

// ---- Any thread

std::shared_ptr<GenerationStream> SchedulerGenerationService::Start(GenerationRequest request) {
  CHECK(scheduler_.submit != nullptr);
  const size_t bytes = PromptBytes(request);
  std::shared_ptr<Live> live = Register(request);
  StreamEnds ends = MakeTokenStream(
      [this, live] { Stop(*live, absl::CancelledError("the client cancelled the request")); });
  // Shared with the task, which a full mailbox destroys: who it was for must still be told.
  auto pending = std::make_shared<Pending>(
      Pending{.live = live, .request = std::move(request), .writer = std::move(ends.writer)});
  if (draining_.load(std::memory_order_relaxed)) {
    EndBeforeBegin(*pending, Stopping());
    return ends.reader;
  }
  const int32_t worker = prompt_workers_->PickWorker(bytes);
  const bool posted = prompt_workers_->TryPost(worker, [this, worker, bytes, pending] {
    Prepare(pending);
    prompt_workers_->TaskDone(worker, bytes);
  });
  if (!posted) {
    prompt_workers_->TaskDone(worker, bytes);
    EndBeforeBegin(*pending, Shed("too many requests wait for the tokenizer"));
  }
  return ends.reader;
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

void SchedulerGenerationService::Tokenize(
    std::variant<ChatInput, std::string> text, bool add_special_tokens,
    absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) {
  auto shared_done = std::make_shared<decltype(done)>(std::move(done));
  const size_t bytes = TextBytes(text);
  const int32_t worker = prompt_workers_->PickWorker(bytes);
  const bool posted = prompt_workers_->TryPost(
      worker, [this, worker, bytes, shared_done, text = std::move(text), add_special_tokens] {
        absl::StatusOr<std::vector<TokenId>> tokens = Encode(text, add_special_tokens);
        prompt_workers_->TaskDone(worker, bytes);
        (*shared_done)(std::move(tokens));
      });
  if (!posted) {
    prompt_workers_->TaskDone(worker, bytes);
    (*shared_done)(Shed("too many requests wait for the tokenizer"));
  }
}

void SchedulerGenerationService::Detokenize(
    std::vector<TokenId> tokens, absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) {
  auto shared_done = std::make_shared<decltype(done)>(std::move(done));
  const size_t bytes = tokens.size() * sizeof(TokenId);
  const int32_t worker = prompt_workers_->PickWorker(bytes);
  const bool posted = prompt_workers_->TryPost(
      worker, [this, worker, bytes, shared_done, tokens = std::move(tokens)] {
        absl::StatusOr<std::string> text = Decode(tokens);
        prompt_workers_->TaskDone(worker, bytes);
        (*shared_done)(std::move(text));
      });
  if (!posted) {
    prompt_workers_->TaskDone(worker, bytes);
    (*shared_done)(Shed("too many requests wait for the tokenizer"));
  }
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
    const GenerationRequest& request) {
  auto live = std::make_shared<Live>();
  live->key = WireKey(request.tenant, request.wire_id);
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
  if (status.ok()) status = CheckTime(pending->request);
  std::vector<TokenId> prompt;
  if (status.ok()) status = EncodePrompt(pending->request, prompt);
  if (status.ok()) {
    status = FitToContext(pending->request, static_cast<int64_t>(prompt.size()),
                          options_.model.context_tokens);
  }
  if (!status.ok()) {
    EndBeforeBegin(*pending, std::move(status));
    return;
  }
  stream_workers_->Post(StreamWorkerOf(pending->live->id),
                        TextTask([this, pending, prompt = std::move(prompt)]() mutable {
                          Begin(*pending, std::move(prompt));
                        }));
}

absl::Status SchedulerGenerationService::EncodePrompt(GenerationRequest& request,
                                                      std::vector<TokenId>& prompt) const {
  if (auto* tokens = std::get_if<std::vector<TokenId>>(&request.prompt)) {
    prompt = std::exchange(*tokens, {});
    return CheckVocabulary(prompt, options_.model.vocab_size);
  }
  if (auto* chat = std::get_if<ChatInput>(&request.prompt)) {
    const ChatInput input = std::exchange(*chat, {});  // up to megabytes: not kept while it runs
    return EncodeChat(input, prompt);
  }
  auto& text = std::get<std::string>(request.prompt);
  RETURN_IF_ERROR(CheckBytes("prompt", text.size()));
  RETURN_IF_ERROR(tokenizer_.Encode(text, SpecialTokens::kPlain, /*add_bos_eos=*/true, prompt));
  if (!request.echo) text = {};
  return absl::OkStatus();
}

absl::Status SchedulerGenerationService::EncodeChat(const ChatInput& input,
                                                    std::vector<TokenId>& prompt) const {
  if (chat_template_ == nullptr) {
    return ParameterError("messages", "no_chat_template",
                          "the model has no chat template; use completions");
  }
  RETURN_IF_ERROR(CheckBytes("messages", input.messages_json.size()));
  absl::Status status = chat_template_->Encode(input, prompt);
  if (absl::IsInvalidArgument(status) && !status.GetPayload(kErrorParamUrl).has_value()) {
    return ParameterError("messages", "chat_template_error", status.message());
  }
  return status;
}

absl::StatusOr<std::vector<TokenId>> SchedulerGenerationService::Encode(
    const std::variant<ChatInput, std::string>& text, bool add_special_tokens) const {
  std::vector<TokenId> tokens;
  if (const auto* chat = std::get_if<ChatInput>(&text)) {
    RETURN_IF_ERROR(EncodeChat(*chat, tokens));
  } else {
    const std::string& plain = std::get<std::string>(text);
    RETURN_IF_ERROR(CheckBytes("prompt", plain.size()));
    RETURN_IF_ERROR(tokenizer_.Encode(plain, SpecialTokens::kPlain, add_special_tokens, tokens));
  }
  return tokens;
}

absl::StatusOr<std::string> SchedulerGenerationService::Decode(
    const std::vector<TokenId>& tokens) const {
  RETURN_IF_ERROR(CheckVocabulary(tokens, options_.model.vocab_size));
  Detokenizer detokenizer(tokenizer_, SpecialText::kShow, FirstSpace::kDrop);
  std::string text;
  for (const TokenId token : tokens) detokenizer.Append(token, text);
  detokenizer.Finish(text);
  return text;
}

absl::Status SchedulerGenerationService::CheckBytes(const char* parameter, size_t bytes) const {
  if (bytes <= prompt_bytes_max_) return absl::OkStatus();
  return ParameterError(parameter, "context_length_exceeded",
                        absl::StrCat(parameter, " has ", bytes, " bytes; the model takes ",
                                     options_.model.context_tokens, " tokens, which are ",
                                     prompt_bytes_max_, " bytes at most; shorten it"));
}

absl::Status SchedulerGenerationService::CheckTime(const GenerationRequest& request) const {
  if (clock_.Now() - request.arrival < options_.request_timeout) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("the request ran longer than ",
                                                  absl::FormatDuration(options_.request_timeout),
                                                  "; ask for fewer tokens"));
}

void SchedulerGenerationService::EndBeforeBegin(Pending& pending, absl::Status status) {
  metrics_.Of(pending.request.tenant).requests[static_cast<size_t>(OutcomeOf(status))].Add(1);
  // First forgotten, then told: who reads the end finds the request gone.
  Forget(*pending.live);
  pending.writer.Push(GenerationDone{.status = std::move(status)});
}

// ---- Stream workers

absl::Duration SchedulerGenerationService::Handle(int32_t worker,
                                                  std::vector<TextMessage>& messages) {
  StreamState& state = *stream_states_[worker];
  for (TextMessage& message : messages) {
    if (auto* task = std::get_if<TextTask>(&message)) {
      (*task)();
    } else if (auto* prompt = std::get_if<PromptEvent>(&message)) {
      if (GenerationTask* task = FindTask(prompt->request)) task->OnPrompt(std::move(*prompt));
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

void SchedulerGenerationService::Begin(Pending& pending, std::vector<TokenId> prompt) {
  absl::Status status = pending.live->StopReason();
  if (status.ok() && shut_down_.load(std::memory_order_relaxed)) status = Stopping();
  if (!status.ok()) {
    EndBeforeBegin(pending, std::move(status));
    return;
  }
  const RequestId id = pending.live->id;
  auto task = std::make_unique<GenerationTask>(id, std::move(pending.request), std::move(prompt),
                                               std::move(pending.writer), tokenizer_,
                                               metrics_.Of(pending.live->key.first));
  GenerationTask& begun = *task;
  stream_states_[StreamWorkerOf(id)]->tasks.emplace(
      id, StreamState::Entry{.task = std::move(task), .live = pending.live});

  const GenerationRequest& request = begun.request();
  if (*request.max_tokens == 0 && !request.prompt_top_logprobs.has_value()) {
    begun.AnswerWithoutTokens();
    EraseTask(id, absl::OkStatus());
    return;
  }
  switch (scheduler_.submit(ToSchedulerRequest(begun))) {
    case Admit::kAccepted:
      return;
    case Admit::kShed:
      EraseTask(id, Shed("the queue is full"));
      return;
    case Admit::kDraining:
      EraseTask(id, Stopping());
      return;
  }
}

Request SchedulerGenerationService::ToSchedulerRequest(const GenerationTask& task) const {
  const GenerationRequest& from = task.request();
  const TenantConfig& tenant = options_.tenants[Number(from.tenant)];
  Request request{.id = task.id(),
                  .tenant = from.tenant,
                  .prompt = task.prompt(),
                  .max_tokens = *from.max_tokens,
                  .stop_tokens = from.stop_token_ids,
                  .num_choices = from.num_choices,
                  .sampling = from.sampling,
                  .prompt_top_logprobs = from.prompt_top_logprobs,
                  .reuse_prefix = options_.prefix_cache,
                  .priority = from.priority,
                  .arrival = from.arrival};
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
  StreamState& state = *stream_states_[StreamWorkerOf(id)];
  const auto found = state.tasks.find(id);
  if (found == state.tasks.end()) return;  // over, or not begun: then Begin sees the reason
  EndEarly(*found->second.task, found->second.live->StopReason());
}

void SchedulerGenerationService::HandleToken(TimedToken token) {
  GenerationTask* task = FindTask(token.event.request);
  if (task == nullptr) return;
  task->OnToken(std::move(token.event), token.at);
  // A choice ended by a stop string still runs in the scheduler, which knows no text. If there is
  // none such, RequestDone is on the way and is waited for: blocks are back before the client
  // hears.
  if (task->all_choices_ended() && task->has_running_sequence()) {
    EndEarly(*task, absl::OkStatus());
  }
}

void SchedulerGenerationService::HandleDone(RequestDone event) {
  if (absl::IsResourceExhausted(event.status) &&
      !event.status.GetPayload(kRetryAfterUrl).has_value()) {
    event.status = WithRetryAfter(std::move(event.status), 1);
  }
  if (FindTask(event.request) != nullptr) EraseTask(event.request, std::move(event.status));
}

void SchedulerGenerationService::EndEarly(GenerationTask& task, absl::Status status) {
  if (task.ended()) return;
  task.End(std::move(status), clock_.Now());
  scheduler_.cancel(task.id());
}

void SchedulerGenerationService::ExpireOld(StreamState& state) {
  const absl::Time now = clock_.Now();
  if (now < state.next_expiry) return;
  state.next_expiry = now + kExpiryInterval;
  for (auto& [id, entry] : state.tasks) {
    if (entry.task->ended()) continue;
    if (absl::Status status = CheckTime(entry.task->request()); !status.ok()) {
      EndEarly(*entry.task, std::move(status));
    }
  }
}

GenerationTask* SchedulerGenerationService::FindTask(RequestId id) {
  StreamState& state = *stream_states_[StreamWorkerOf(id)];
  const auto found = state.tasks.find(id);
  return found == state.tasks.end() ? nullptr : found->second.task.get();
}

void SchedulerGenerationService::EraseTask(RequestId id, absl::Status status) {
  StreamState& state = *stream_states_[StreamWorkerOf(id)];
  const auto found = state.tasks.find(id);
  const StreamState::Entry entry = std::move(found->second);
  state.tasks.erase(found);
  Forget(*entry.live);
  entry.task->End(std::move(status), clock_.Now());
}

}  // namespace holdfast
