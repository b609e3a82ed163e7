#include "server/background_service.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/answer_head.h"
#include "server/embedding_codec.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/openai_codec.h"
#include "server/openai_response.h"
#include "server/state_id.h"

namespace holdfast {
namespace {

// Between two looks at the events of the lines that run: answers are read as a whole, so that
// nothing is gained by a look at each token.
constexpr absl::Duration kGatherPause = absl::Milliseconds(20);
constexpr absl::Duration kLookPeriod = absl::Seconds(10);    // at what expires
constexpr absl::Duration kDeletePeriod = absl::Minutes(5);   // of what has expired
constexpr absl::Duration kRetryPause = absl::Seconds(1);     // of what was refused or not written
constexpr absl::Duration kRetryPauseMax = absl::Minutes(1);  // of a line that is refused each time
constexpr size_t kTasksMax = 1024;                           // that wait for the background thread
constexpr int kTimeoutsMax = 3;                              // of one line
constexpr size_t kAgainMax = 32;  // lines of a batch that wait to be tried again

// A line of the output or error file. `body`: JSON, put in as it stands: to read it again would
// only find that an answer may be larger than a request.
std::string LineText(const std::string& request_id, const std::string& custom_id, int status,
                     std::string_view body) {
  const std::string id = DumpJson(Json(request_id));
  return Concat("{\"id\":", id, ",\"custom_id\":", DumpJson(Json(custom_id)),
                ",\"response\":{\"status_code\":", status, ",\"request_id\":", id,
                ",\"body\":", body, "},\"error\":null}");
}

// Nothing that the line asks for: another time it may go well.
bool IsForLackOfRoom(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status) ||
         absl::IsCancelled(status);
}

}  // namespace

absl::Status TooBusyForState() {
  return absl::UnavailableError("the server is stopping or busy; send the request again");
}

struct BackgroundService::RunningLine {
  int64_t line = 0;
  std::string custom_id, request_id;
  Running running;
};

// What a line asks for.
struct BackgroundService::LineCall {
  std::string wire_id;
  std::vector<GenerationRequest> requests;
  std::unique_ptr<AnswerBodyWriter> answer;
};

struct BackgroundService::ActiveBatch {
  struct Tries {
    absl::Duration pause;  // the last
    int timeouts = 0;
  };

  Batch batch;
  TenantIndex tenant{};
  std::vector<RunningLine> lines;          // that run
  std::map<int64_t, absl::Time> again_at;  // lines that are to be tried again
  std::map<int64_t, Tries> tries;          // of lines that were, until they are answered
  int64_t last_started = 0;                // line; those before were started or are answered
  bool all_started = false;                // no open line is behind last_started
};

BackgroundService::BackgroundService(BackgroundOptions options, std::unique_ptr<State> state,
                                     GenerationService& service, MetricsRegistry& metrics)
    : options_(std::move(options)),
      state_(std::move(state)),
      service_(service),
      lines_ok_(metrics.AddCounter("holdfast_server_batch_lines_total",
                                   "lines of batches by how they ended", {{"outcome", "ok"}})),
      lines_failed_(metrics.AddCounter("holdfast_server_batch_lines_total",
                                       "lines of batches by how they ended",
                                       {{"outcome", "error"}})),
      lines_retried_(metrics.AddCounter("holdfast_server_batch_lines_total",
                                        "lines of batches by how they ended",
                                        {{"outcome", "retried"}})),
      lines_running_(
          metrics.AddGauge("holdfast_server_batch_lines_running", "lines of batches that run now")),
      batches_running_(metrics.AddGauge("holdfast_server_batches_unfinished",
                                        "batches that are not at their end")) {
  AddTenants(options_.tenants);
  absl::MutexLock lock(&stop_mutex_);
  thread_ = std::thread([this] { Loop(); });
}

BackgroundService::~BackgroundService() { Stop(); }

void BackgroundService::AddTenants(const std::vector<std::string>& names) {
  for (size_t i = tenants_.size(); i < names.size(); ++i) tenants_.Add(names[i]);
  file_leases_.SetNumTenants(tenants_.size());
}

std::optional<TenantIndex> BackgroundService::TenantOf(const std::string& name) const {
  for (size_t i = 0; i < tenants_.size(); ++i) {
    if (tenants_[i] == name) return TenantIndex{static_cast<int32_t>(i)};
  }
  return std::nullopt;
}

void BackgroundService::BeginRunning() {
  absl::MutexLock lock(&wake_->mutex);
  wake_->running = true;
}

bool BackgroundService::Ask(Task task) { return Put(std::move(task), kTasksMax); }

bool BackgroundService::AskAtEnd(Task task) {
  return Put(std::move(task), std::numeric_limits<size_t>::max());
}

bool BackgroundService::Put(Task task, size_t tasks_max) {
  absl::MutexLock lock(&wake_->mutex);
  if (wake_->stopped || wake_->tasks.size() >= tasks_max) return false;
  wake_->tasks.push_back(std::move(task));
  return true;
}

void BackgroundService::BeginDrain() {
  absl::MutexLock lock(&wake_->mutex);
  wake_->draining = true;
  wake_->ready = true;
}

void BackgroundService::Stop() {
  {
    absl::MutexLock lock(&wake_->mutex);
    wake_->stopped = true;
  }
  absl::MutexLock lock(&stop_mutex_);
  if (thread_.joinable()) thread_.join();
}

// Until there is a task, or lines may be run and it is time to look at them. `running`: they may,
// as the caller knows.
std::vector<BackgroundService::Task> BackgroundService::WaitForWork(bool running) {
  absl::MutexLock lock(&wake_->mutex);
  const auto has_task = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(wake_->mutex) {
    return wake_->stopped || !wake_->tasks.empty();
  };
  if (!active_.empty() || !runs_.empty()) {
    wake_->mutex.AwaitWithTimeout(absl::Condition(&has_task), kGatherPause);
  }
  const auto has_news = [this, running]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(wake_->mutex) {
    return wake_->stopped || !wake_->tasks.empty() ||
           (wake_->running && (!running || wake_->ready));
  };
  absl::Duration patience = running ? next_look_ - options_.now() : absl::InfiniteDuration();
  if (state_->responses().has_unwritten()) patience = std::min(patience, kRetryPause);
  wake_->mutex.AwaitWithTimeout(absl::Condition(&has_news), patience);
  wake_->ready = false;
  return std::exchange(wake_->tasks, {});
}

void BackgroundService::Loop() {
  bool running = false;
  absl::Time retry_at = absl::InfinitePast();  // behind a fault
  while (true) {
    std::vector<Task> tasks = WaitForWork(running);
    for (Task& task : tasks) task(*state_);
    bool draining = false;
    {
      absl::MutexLock lock(&wake_->mutex);
      if (wake_->stopped) break;
      running = wake_->running;
      draining = wake_->draining;
    }
    if (options_.now() >= next_write_) WriteEnds();
    if (!running) continue;
    const bool any_ended = GatherAll();
    if (draining) {
      CancelLines();
      next_look_ = absl::InfiniteFuture();
      continue;
    }
    if (options_.now() < retry_at) continue;
    const bool is_time = !tasks.empty() || any_ended || options_.now() >= next_look_;
    if (!is_time && answers_.empty()) continue;
    absl::Status status =
        answers_.empty() ? absl::OkStatus() : state_->batches().KeepAnswers(answers_);
    if (status.ok()) {
      answers_.clear();
      status = Look();
    }
    Told(status);
    if (!status.ok()) {
      // A full disk, most likely: what is answered stays here until it can be kept.
      next_look_ = retry_at = options_.now() + kRetryPause;
    }
  }
  for (Task& task : LastTasks()) task(*state_);
  GatherAll();
  WriteEnds();
  CancelLines();
  for (auto& [left, on_end] : runs_) left.Cancel();
  runs_.clear();
}

// Nobody can ask any more: those that did are answered all the same.
std::vector<BackgroundService::Task> BackgroundService::LastTasks() {
  absl::MutexLock lock(&wake_->mutex);
  return std::exchange(wake_->tasks, {});
}

// Of responses, which are shown from memory until then.
void BackgroundService::WriteEnds() {
  const absl::Status status = state_->responses().WriteEnds();
  Told(status);
  if (!status.ok()) next_write_ = options_.now() + kRetryPause;
}

void BackgroundService::CancelLines() {
  for (auto& [id, active] : active_) {
    for (RunningLine& line : active.lines) line.running.Cancel();
  }
  active_.clear();
}

std::function<void()> BackgroundService::Waker() {
  return [wake = wake_] {
    absl::MutexLock lock(&wake->mutex);
    wake->ready = true;
  };
}

// ---- What is to be run -------------------------------------------------------------------------

// Of a batch that is cancelled or whose time is over.
bool BackgroundService::IsOver(const Batch& batch) {
  return batch.status == BatchStatus::kCancelling ||
         batch.expires_unix <= absl::ToUnixSeconds(absl::Now());
}

// What takes long, reading an input or writing an output, is done once in a look: tasks of others
// wait for no more than that. What goes wrong with one batch does not hold up the others.
absl::Status BackgroundService::Look() {
  const absl::Time now = options_.now();
  next_look_ = now + kLookPeriod;
  RETURN_IF_ERROR(DeleteExpired(now));
  ASSIGN_OR_RETURN(std::vector<Batch> batches, state_->batches().UnfinishedBatches());
  batches_running_.Set(static_cast<double>(batches.size()));
  if (batches.empty()) next_look_ = next_delete_;
  absl::Status first_fault;
  std::vector<std::string> seen;  // tenants whose first batch we have come to
  std::vector<ActiveBatch*> turns;
  for (Batch& batch : batches) {
    const bool is_active = active_.contains(batch.id);
    if (IsOver(batch) && !is_active) {
      first_fault.Update(state_->batches().Finish(batch).status());
      next_look_ = now;
      break;
    }
    const std::optional<TenantIndex> tenant = TenantOf(batch.tenant);
    if (!tenant) continue;  // no longer configured: waits, and expires
    const bool is_first = std::find(seen.begin(), seen.end(), batch.tenant) == seen.end();
    if (!is_first && !is_active) continue;
    if (!IsOver(batch)) seen.push_back(batch.tenant);
    if (batch.status == BatchStatus::kValidating) {
      first_fault.Update(state_->batches().Validate(batch).status());
      next_look_ = now;
      break;
    }
    ActiveBatch& active = active_[batch.id];
    active.tenant = *tenant;
    active.batch = std::move(batch);
    turns.push_back(&active);
  }
  const auto num_tenants = static_cast<int32_t>(std::max<size_t>(seen.size(), 1));
  const int32_t share = std::max(1, options_.lines_at_once / num_tenants);
  for (ActiveBatch* active : turns) first_fault.Update(Advance(*active, share));
  lines_running_.Set(static_cast<double>(RequestsRunning()));
  return first_fault;
}

absl::Status BackgroundService::DeleteExpired(absl::Time now) {
  if (now < next_delete_) return absl::OkStatus();
  next_delete_ = now + kDeletePeriod;
  RETURN_IF_ERROR(state_->batches().DeleteExpired());
  return state_->responses().DeleteExpired();
}

int32_t BackgroundService::RequestsOf(const ActiveBatch& active) {
  size_t requests = 0;
  for (const RunningLine& line : active.lines) requests += line.running.streams.size();
  return static_cast<int32_t>(requests);
}

int32_t BackgroundService::RequestsRunning() const {
  int32_t requests = 0;
  for (const auto& [id, active] : active_) requests += RequestsOf(active);
  return requests;
}

absl::Status BackgroundService::Advance(ActiveBatch& active, int32_t share) {
  if (IsOver(active.batch)) {
    for (RunningLine& line : active.lines) line.running.Cancel();
    active.lines.clear();
  } else {
    RETURN_IF_ERROR(StartLines(active, share));
    // Those that are due wait for a line to end, after which it is looked anyway.
    for (const auto& [line, at] : active.again_at) {
      if (at > options_.now()) next_look_ = std::min(next_look_, at);
    }
    const bool runs = !active.lines.empty() || !active.again_at.empty() || !active.all_started;
    if (runs || !answers_.empty()) return absl::OkStatus();
  }
  RETURN_IF_ERROR(state_->batches().Finish(active.batch).status());
  next_look_ = options_.now();  // the tenant's next one
  active_.erase(active.batch.id);
  return absl::OkStatus();
}

// Up to `share` requests of it, and no more than there is room for beside other batches; but one
// line at least, however many prompts it has.
absl::Status BackgroundService::StartLines(ActiveBatch& active, int32_t share) {
  const auto room = [&] {
    return active.lines.empty() ||
           (RequestsOf(active) < share && RequestsRunning() < options_.lines_at_once);
  };
  while (room() && static_cast<int32_t>(answers_.size()) < options_.lines_at_once) {
    ASSIGN_OR_RETURN(std::optional<OpenLine> line, NextLine(active));
    if (!line.has_value()) break;
    StartLine(active, *std::move(line));
  }
  return absl::OkStatus();
}

// One whose time to be tried again has come, else the next that was never started, unless so many
// are to be tried again that there seems to be no room for any.
absl::StatusOr<std::optional<OpenLine>> BackgroundService::NextLine(ActiveBatch& active) {
  const auto due =
      std::find_if(active.again_at.begin(), active.again_at.end(),
                   [now = options_.now()](const auto& line) { return line.second <= now; });
  const bool again = due != active.again_at.end();
  if (!again && (active.all_started || active.again_at.size() >= kAgainMax)) return std::nullopt;
  ASSIGN_OR_RETURN(std::vector<OpenLine> lines,
                   state_->batches().OpenLines(active.batch.id,
                                               again ? due->first - 1 : active.last_started, 1));
  if (again) {
    active.again_at.erase(due);
  } else if (lines.empty()) {
    active.all_started = true;
  } else {
    active.last_started = lines[0].line;
  }
  if (lines.empty()) return std::nullopt;
  return std::move(lines[0]);
}

absl::StatusOr<BackgroundService::LineCall> BackgroundService::ReadCall(std::string_view endpoint,
                                                                        std::string_view body) {
  const GenerationService::ModelInfo& info = service_.model_info();
  if (endpoint == "/v1/embeddings") {
    ASSIGN_OR_RETURN(EmbeddingCall call, DecodeEmbeddings(body, info));
    const EmbeddingHead head = BeginEmbeddings(call, random_);
    auto answer = std::make_unique<EmbeddingBody>(head, call.shape, call.requests.size());
    return LineCall{head.id, std::move(call.requests), std::move(answer)};
  }
  const bool chat = endpoint == "/v1/chat/completions";
  ASSIGN_OR_RETURN(GenerationCall call,
                   chat ? DecodeChatCompletion(body, info) : DecodeCompletion(body, info));
  if (call.shape.stream) {
    return ParameterError("stream", "invalid_value", "a batch's answers cannot be streamed");
  }
  const AnswerHead head = BeginAnswer(call, service_, options_.system_fingerprint, random_);
  auto answer = std::make_unique<AnswerBody>(head, call.shape);
  return LineCall{head.id, std::move(call.requests), std::move(answer)};
}

void BackgroundService::StartLine(ActiveBatch& active, OpenLine open) {
  RunningLine line{.line = open.line,
                   .custom_id = std::move(open.custom_id),
                   .request_id = MakeStateId("batch_req_")};
  absl::StatusOr<LineCall> call = ReadCall(active.batch.endpoint, open.body);
  if (!call.ok()) {
    EndLine(active.batch.id, line, call.status());
    Waker()();  // so that it is kept
    return;
  }
  for (size_t i = 0; i < call->requests.size(); ++i) {
    GenerationRequest& request = call->requests[i];
    request.tenant = active.tenant;
    request.wire_id = i == 0 ? call->wire_id : Concat(call->wire_id, "-", i);
    request.arrival = SteadyNow();
    request.offline = true;
  }
  line.running = Start(std::move(call->requests), std::move(call->answer));
  active.lines.push_back(std::move(line));
}

// ---- What came ---------------------------------------------------------------------------------

void BackgroundService::Keep(const std::string& batch, const RunningLine& line, std::string answer,
                             bool failed) {
  (failed ? lines_failed_ : lines_ok_).Add();
  active_.at(batch).tries.erase(line.line);
  answers_.push_back({batch, line.line, std::move(answer), failed});
}

void BackgroundService::Run(std::vector<GenerationRequest> requests,
                            std::unique_ptr<AnswerBodyWriter> answer, OnEnd on_end) {
  runs_.emplace_back(Start(std::move(requests), std::move(answer)), std::move(on_end));
}

BackgroundService::Running BackgroundService::Start(std::vector<GenerationRequest> requests,
                                                    std::unique_ptr<AnswerBodyWriter> answer) {
  Running running{.streams = service_.StartAll(std::move(requests)), .answer = std::move(answer)};
  running.done.resize(running.streams.size());
  for (const auto& stream : running.streams) stream->NotifyReady(Waker());
  return running;
}

// How it ended, once it has.
std::optional<absl::Status> BackgroundService::Gather(Running& running) {
  for (size_t i = 0; i < running.streams.size(); ++i) {
    if (running.done[i]) continue;
    bool any = false;
    while (std::optional<GenerationEvent> event = running.streams[i]->TryNext()) {
      any = true;
      running.begun = running.begun || !std::holds_alternative<GenerationDone>(*event);
      const auto* done = std::get_if<GenerationDone>(&*event);
      if (done != nullptr && !done->status.ok()) {
        running.Cancel();
        return done->status;
      }
      if (done != nullptr) running.done[i] = true;
      running.answer->Add(static_cast<int32_t>(i), *std::move(event));
    }
    if (any && !running.done[i]) running.streams[i]->NotifyReady(Waker());
  }
  const auto open = std::find(running.done.begin(), running.done.end(), false);
  if (open != running.done.end()) return std::nullopt;
  return absl::OkStatus();
}

// Whether anything ended.
bool BackgroundService::GatherAll() {
  bool any_ended = false;
  for (auto& [id, active] : active_) {
    const size_t ended = std::erase_if(
        active.lines, [&, &batch = id](RunningLine& line) { return GatherLine(batch, line); });
    any_ended = any_ended || ended > 0;
  }
  for (size_t i = 0; i < runs_.size();) {
    const std::optional<absl::Status> ended = Gather(runs_[i].first);
    if (!ended.has_value()) {
      ++i;
      continue;
    }
    any_ended = true;
    auto [running, on_end] = std::move(runs_[i]);
    runs_.erase(runs_.begin() + static_cast<std::ptrdiff_t>(i));
    if (ended->ok()) {
      on_end(*state_, running.answer->Finish());
    } else {
      on_end(*state_, *ended);
    }
  }
  return any_ended;
}

// True: the line is over.
bool BackgroundService::GatherLine(const std::string& batch, RunningLine& line) {
  const std::optional<absl::Status> ended = Gather(line.running);
  if (!ended.has_value()) return false;
  if (!ended->ok()) {
    EndLine(batch, line, *ended);
    return true;
  }
  Keep(batch, line, LineText(line.request_id, line.custom_id, 200, line.running.answer->Finish()),
       false);
  return true;
}

// A line that went wrong: to be tried again, or an error. One that has not begun when its time is
// over has found no room.
void BackgroundService::EndLine(const std::string& batch, const RunningLine& line,
                                const absl::Status& status) {
  ActiveBatch& active = active_.at(batch);
  ActiveBatch::Tries& tries = active.tries[line.line];
  const bool is_late = absl::IsDeadlineExceeded(status);
  const bool again = IsForLackOfRoom(status) ||
                     (is_late && (!line.running.begun || ++tries.timeouts < kTimeoutsMax));
  if (!again) {
    const OpenAiError error = ToOpenAiError(status);
    Keep(batch, line,
         LineText(line.request_id, line.custom_id, error.http_status, ErrorBody(error)), true);
    return;
  }
  lines_retried_.Add();
  tries.pause = std::clamp(2 * tries.pause, kRetryPause, kRetryPauseMax);
  active.again_at[line.line] = options_.now() + tries.pause;
}

}  // namespace holdfast
