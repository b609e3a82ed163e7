#include "server/replay_client.h"

#include <grpc/support/time.h>

#include <algorithm>

#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

constexpr absl::Duration kBetweenLooks = absl::Milliseconds(50);  // at `stop`, and of `progress`
constexpr size_t kSessionBytesMax = 1024, kToolBytesMax = 128;    // proto/holdfast/v1

bool IsPrintableAscii(char letter) { return letter >= ' ' && letter <= '~'; }

// Names of tools come from traces: cut, and what is not ASCII replaced.
std::string WireName(const std::string& name) {
  std::string text = name.substr(0, kToolBytesMax);
  std::replace_if(
      text.begin(), text.end(), [](char letter) { return !IsPrintableAscii(letter); }, '_');
  return text.empty() ? "unnamed" : text;
}

const char* StatusName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

}  // namespace

// A turn on the wire. One operation of it is under way at a time: the address is its tag.
struct ReplayClient::Call {
  enum class State : uint8_t { kStarting, kReading, kFinishing };
  State state = State::kStarting;
  TurnRecord record;
  int64_t last_token_nanos = 0;
  int64_t wanted_tokens = 0;
  grpc::ClientContext context;
  v1::GenerateChunk chunk;
  std::unique_ptr<grpc::ClientAsyncReaderInterface<v1::GenerateChunk>> reader;
  grpc::Status status;
};

ReplayClient::ReplayClient(const Workload& workload, const ReplayOptions& options,
                           const TokenRuns& tokens, v1::Generation::StubInterface& stub,
                           TurnListener listener)
    : workload_(workload),
      options_(options),
      tokens_(tokens),
      stub_(stub),
      listener_(std::move(listener)),
      programs_(workload.programs.size()),
      tally_(workload.tenants.size()) {
  CHECK(options.in_flight_max > 0);
  CHECK(options.keys.empty() || options.keys.size() == workload.tenants.size());
}

ReplayClient::~ReplayClient() {
  queue_.Shutdown();
  void* tag = nullptr;
  for (bool ok = false; queue_.Next(&tag, &ok);) CHECK(false);  // Run left nothing under way
}

int64_t ReplayClient::NowNanos() const { return absl::ToInt64Nanoseconds(SteadyNow() - begin_); }

Tally ReplayClient::Run(const std::atomic<bool>& stop,
                        const std::function<void(double)>& progress) {
  for (size_t i = 0; i < workload_.programs.size(); ++i) {
    due_.push({.nanos = absl::ToInt64Nanoseconds(workload_.programs[i].start),
               .program = static_cast<int32_t>(i)});
  }
  begin_ = SteadyNow();
  const auto turns = static_cast<double>(std::max<int64_t>(workload_.num_turns(), 1));
  while (!due_.empty() || !calls_.empty()) {
    if (!cut_short_ && (stop.load() || SteadyNow() - begin_ >= options_.timeout)) CutShort();
    SendDue();
    if (!calls_.empty() || !due_.empty()) WaitForEvent();
    if (progress) progress(static_cast<double>(turns_ended_) / turns);
  }
  return std::move(tally_);
}

void ReplayClient::SendDue() {
  const int64_t now = NowNanos();
  while (!due_.empty() && due_.top().nanos <= now &&
         calls_.size() < static_cast<size_t>(options_.in_flight_max)) {
    const Due due = due_.top();
    due_.pop();
    Send(due);
  }
}

void ReplayClient::Send(const Due& due) {
  auto owned = std::make_unique<Call>();
  Call& call = *owned;
  calls_.emplace(&call, std::move(owned));
  call.record.arrival_nanos = due.nanos;
  const v1::GenerateRequest request = MakeRequest(due.program, call.record);
  call.wanted_tokens = request.stopping().max_tokens();
  const auto tenant = static_cast<size_t>(call.record.tenant);
  if (!options_.keys.empty() && !options_.keys[tenant].empty()) {
    call.context.AddMetadata("authorization", Concat("Bearer ", options_.keys[tenant]));
  }
  send_delay_.Add(std::max<int64_t>(NowNanos() - due.nanos, 0));
  call.reader = stub_.AsyncGenerateStream(&call.context, request, &queue_, &call);
}

std::string ReplayClient::SessionOf(int32_t program) const {
  const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(program)];
  const bool travels = wanted.session.size() <= kSessionBytesMax &&
                       std::all_of(wanted.session.begin(), wanted.session.end(), IsPrintableAscii);
  if (travels && (!wanted.session.empty() || wanted.turns.size() == 1)) return wanted.session;
  return Concat("program ", program);
}

v1::GenerateRequest ReplayClient::MakeRequest(int32_t index, TurnRecord& record) {
  Program& program = programs_[static_cast<size_t>(index)];
  const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(index)];
  const WorkloadTurn& turn = wanted.turns[static_cast<size_t>(program.turn)];
  const int32_t kept = std::min(turn.kept_tokens, static_cast<int32_t>(program.tokens.size()));
  program.tokens.resize(static_cast<size_t>(kept));
  tokens_.Append(turn.runs, program.tokens);
  record.program = index;
  record.turn = program.turn;
  record.tenant = wanted.tenant;
  record.offline = wanted.offline;
  record.prompt_tokens = static_cast<int32_t>(program.tokens.size());
  record.kept_tokens = kept;

  v1::GenerateRequest request;
  request.mutable_prompt_tokens()->Add(program.tokens.begin(), program.tokens.end());
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(turn.completion_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  v1::RequestOptions& options = *request.mutable_options();
  options.set_priority(options_.priority);
  options.set_offline(wanted.offline);
  options.set_session_id(SessionOf(index));
  const bool is_last = static_cast<size_t>(program.turn) + 1 == wanted.turns.size();
  options.set_session_final(is_last && !options.session_id().empty());
  if (options_.retain && !is_last) {
    options.mutable_kv_hints()->mutable_retain()->set_ttl_ms(
        absl::ToInt64Milliseconds(*options_.retain));
  }
  if (turn.tool) {
    options.mutable_tool_hint()->set_name(
        WireName(workload_.tools[static_cast<size_t>(*turn.tool)]));
  }
  return request;
}

void ReplayClient::WaitForEvent() {
  absl::Duration wait = kBetweenLooks;
  if (!due_.empty() && calls_.size() < static_cast<size_t>(options_.in_flight_max)) {
    wait = std::min(wait, absl::Nanoseconds(due_.top().nanos - NowNanos()));
  }
  const gpr_timespec deadline = gpr_time_add(
      gpr_now(GPR_CLOCK_MONOTONIC),
      gpr_time_from_nanos(std::max<int64_t>(absl::ToInt64Nanoseconds(wait), 0), GPR_TIMESPAN));
  void* tag = nullptr;
  bool ok = false;
  if (queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT) {
    OnEvent(*static_cast<Call*>(tag), ok);
  }
}

void ReplayClient::OnEvent(Call& call, bool ok) {
  switch (call.state) {
    case Call::State::kStarting:
    case Call::State::kReading:
      if (call.state == Call::State::kReading && ok) OnChunk(call);
      call.state = ok ? Call::State::kReading : Call::State::kFinishing;
      if (ok) {
        call.reader->Read(&call.chunk, &call);
      } else {
        call.reader->Finish(&call.status, &call);
      }
      return;
    case Call::State::kFinishing:
      return OnEnd(call);
  }
}

void ReplayClient::OnChunk(Call& call) {
  TurnRecord& record = call.record;
  const int64_t now = NowNanos();
  int64_t num_tokens = 0;
  Program& program = programs_[static_cast<size_t>(record.program)];
  for (const v1::GenerateChoice& choice : call.chunk.choices()) {
    num_tokens += choice.tokens_size();
    program.tokens.insert(program.tokens.end(), choice.tokens().begin(), choice.tokens().end());
  }
  if (call.chunk.has_usage()) record.cached_tokens = call.chunk.usage().cached_tokens();
  if (num_tokens == 0) return;
  TenantTally& tenant = tally_.Of(record.tenant, record.offline);
  if (record.completion_tokens == 0) {
    record.first_token_nanos = now;
  } else {
    tenant.itl.Add(now - call.last_token_nanos);
  }
  // Tokens of one message came together.
  for (int64_t i = 1; i < num_tokens; ++i) tenant.itl.Add(0);
  call.last_token_nanos = now;
  record.completion_tokens += static_cast<int32_t>(num_tokens);
  tally_.service.Add(Tally::PartyOf(record.tenant, record.offline), now, num_tokens);
}

void ReplayClient::OnEnd(Call& call) {
  TurnRecord record = call.record;
  record.end_nanos = record.completion_tokens > 0 ? call.last_token_nanos : NowNanos();
  std::string error;
  if (!call.status.ok()) {
    error = cut_short_ ? "CUT_SHORT" : StatusName(call.status.error_code());
  } else if (record.completion_tokens != call.wanted_tokens) {
    error = "SHORT_ANSWER";
  }
  calls_.erase(&call);
  if (!error.empty()) {
    ++errors_[error];
    // In flight when it was cut short, hence taken, as far as anyone knows.
    const bool was_taken = record.completion_tokens > 0 || error == "CUT_SHORT";
    record.end = was_taken ? TurnEnd::kFailed : TurnEnd::kRefused;
  }
  EndTurn(record);
}

void ReplayClient::EndTurn(const TurnRecord& record) {
  Program& program = programs_[static_cast<size_t>(record.program)];
  const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(record.program)];
  if (record.end == TurnEnd::kDone) {
    tally_.service.Add(Tally::PartyOf(record.tenant, record.offline), record.first_token_nanos,
                       record.prompt_tokens - record.cached_tokens);
  }
  Note(record);
  ++program.turn;
  TenantTally& tenant = tally_.Of(record.tenant, record.offline);
  if (record.end != TurnEnd::kDone) {
    ++tenant.programs_cut;
    return Abandon(record.program);
  }
  if (static_cast<size_t>(program.turn) == wanted.turns.size()) {
    ++tenant.programs_done;
    tenant.job.Add(record.end_nanos - absl::ToInt64Nanoseconds(wanted.start));
    program.tokens = {};
    return;
  }
  if (cut_short_) {
    ++tenant.programs_cut;
    return Abandon(record.program);
  }
  const absl::Duration after = wanted.turns[static_cast<size_t>(program.turn)].after;
  due_.push({.nanos = record.end_nanos + std::max<int64_t>(absl::ToInt64Nanoseconds(after), 0),
             .program = record.program});
}

void ReplayClient::Abandon(int32_t index) {
  Program& program = programs_[static_cast<size_t>(index)];
  const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(index)];
  for (; static_cast<size_t>(program.turn) < wanted.turns.size(); ++program.turn) {
    Note({.program = index,
          .turn = program.turn,
          .tenant = wanted.tenant,
          .offline = wanted.offline,
          .end = TurnEnd::kAbandoned,
          .end_nanos = NowNanos()});
  }
  program.tokens = {};
}

void ReplayClient::Note(const TurnRecord& record) {
  ++turns_ended_;
  tally_.AddTurn(record, options_.slo);
  tally_.end_nanos = std::max(tally_.end_nanos, record.end_nanos);
  if (listener_) listener_(record);
}

void ReplayClient::CutShort() {
  cut_short_ = true;
  for (const auto& [call, owned] : calls_) call->context.TryCancel();
  while (!due_.empty()) {
    const int32_t program = due_.top().program;
    due_.pop();
    const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(program)];
    ++tally_.Of(wanted.tenant, wanted.offline).programs_cut;
    Abandon(program);
  }
}

}  // namespace holdfast
