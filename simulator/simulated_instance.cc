#include "simulator/simulated_instance.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/random_source.h"

namespace holdfast {
namespace {

// As the daemon's loop: how late pins may end while nothing else happens.
constexpr int64_t kPinPollNanos = 1'000'000'000;

ReuseScope ScopeOf(int32_t tenant) {
  ReuseScope scope{};
  for (size_t word = 0; word < scope.size() / sizeof(uint64_t); ++word) {
    const uint64_t bits = MixBits(static_cast<uint64_t>(tenant) * scope.size() + word + 1);
    std::memcpy(scope.data() + word * sizeof bits, &bits, sizeof bits);
  }
  return scope;
}

}  // namespace

SimulatedInstance::SimulatedInstance(const Workload& workload, const InstanceOptions& options,
                                     TokenRuns tokens, TurnListener listener)
    : workload_(workload),
      options_(options),
      tokens_(std::move(tokens)),
      listener_(std::move(listener)),
      engine_(options.engine, options.seed),
      mover_(options.profile.host, options.profile.disk, options.engine.kv_layout.block_bytes()),
      slot_programs_(static_cast<size_t>(options.engine.num_sequence_slots)),
      tally_(workload.tenants.size()) {}

absl::StatusOr<std::unique_ptr<SimulatedInstance>> SimulatedInstance::Create(
    const Workload& workload, const InstanceOptions& options, TurnListener listener) {
  ASSIGN_OR_RETURN(TokenRuns tokens, TokenRuns::Make({.seed = options.seed,
                                                      .vocabulary = options.engine.vocab_size}));
  std::unique_ptr<SimulatedInstance> instance(
      new SimulatedInstance(workload, options, std::move(tokens), std::move(listener)));
  RETURN_IF_ERROR(instance->Start());
  return instance;
}

absl::Status SimulatedInstance::Start() {
  SchedulerOptions& scheduler = options_.scheduler;
  scheduler.tenants.resize(workload_.tenants.size());
  for (size_t i = 0; i < scheduler.tenants.size(); ++i) {
    scheduler.tenants[i].name = workload_.tenants[i];
  }
  if (options_.host_blocks > 0) {
    host_ = std::make_unique<SimulatedTier>(TierKind::kHost, options_.host_blocks);
  }
  if (options_.disk_blocks > 0) {
    disk_ = std::make_unique<SimulatedTier>(TierKind::kDisk, options_.disk_blocks);
  }
  scheduler.kv.host = host_.get();
  scheduler.kv.disk = disk_.get();
  metrics_ = std::make_unique<SchedulerMetrics>(registry_, scheduler, options_.engine.num_blocks);
  ASSIGN_OR_RETURN(scheduler_, Scheduler::Create(engine_.info(), scheduler, *metrics_, *this));
  tally_.instances = 1;
  tally_.blocks = options_.engine.num_blocks;
  return absl::OkStatus();
}

void SimulatedInstance::AddProgram(int32_t program) {
  const WorkloadProgram& added = workload_.programs[static_cast<size_t>(program)];
  const int64_t start = absl::ToInt64Nanoseconds(added.start);
  CHECK(start >= now_nanos_ && !added.turns.empty());
  if (!programs_.empty()) {
    CHECK(workload_.programs[static_cast<size_t>(programs_.back().index)].start <= added.start);
  }
  programs_.push_back({.index = program});
}

int64_t SimulatedInstance::NextEventNanos() const {
  int64_t next = std::min(step_end_nanos_, poll_nanos_);
  if (const std::optional<int64_t> move = mover_.next_nanos()) next = std::min(next, *move);
  if (next_start_ < programs_.size()) {
    const auto index = static_cast<size_t>(programs_[next_start_].index);
    next = std::min(next, absl::ToInt64Nanoseconds(workload_.programs[index].start));
  }
  if (!returns_.empty()) next = std::min(next, returns_.top().nanos);
  if (!departures_.empty()) next = std::min(next, departures_.top().nanos);
  return next;
}

void SimulatedInstance::RunUntil(int64_t nanos) {
  while (true) {
    const int64_t next = NextEventNanos();
    if (next >= nanos) break;
    NoteState(next);
    now_nanos_ = next;
    HandleEvents();
  }
  // Nobody waits for nothing.
  CHECK(nanos != kNever || scheduler_->idle());
}

void SimulatedInstance::HandleEvents() {
  poll_nanos_ = kNever;
  if (step_end_nanos_ == now_nanos_) FinishStep();
  while (mover_.next_nanos() && *mover_.next_nanos() <= now_nanos_) {
    scheduler_->OnMoveDone(mover_.FinishNext(), Now());
  }
  while (next_start_ < programs_.size() &&
         absl::ToInt64Nanoseconds(
             workload_.programs[static_cast<size_t>(programs_[next_start_].index)].start) <=
             now_nanos_) {
    Send(static_cast<int32_t>(next_start_++));
  }
  while (!returns_.empty() && returns_.top().nanos <= now_nanos_) {
    const int32_t program = returns_.top().program;
    returns_.pop();
    Send(program);
  }
  while (!departures_.empty() && departures_.top().nanos <= now_nanos_) {
    scheduler_->Cancel(departures_.top().turn);  // one that is over changes nothing
    departures_.pop();
  }
  if (step_end_nanos_ == kNever) PlanStep();
}

void SimulatedInstance::PlanStep() {
  const bool planned = scheduler_->Plan(Now(), plan_);
  jobs_.clear();
  scheduler_->TakeMoves(jobs_);
  mover_.Take(jobs_, now_nanos_);
  if (!planned) {
    const bool has_pins = scheduler_->store().pins().num_pins() > 0;
    if (has_pins && !scheduler_->idle()) poll_nanos_ = now_nanos_ + kPinPollNanos;
    return;
  }
  NoteOpens();
  NoteRows();
  const CostProfile& profile = options_.profile;
  const StepShape shape = ShapeOf(plan_);
  double seconds = profile.step.SecondsOf(shape) + profile.between_steps_seconds +
                   profile.token_seconds * (shape.decode_rows + shape.prompt_ends);
  if (now_nanos_ - last_end_nanos_ >= kPauseNanos) seconds += profile.after_pause_seconds;
  const int64_t nanos = std::max<int64_t>(std::llround(1e9 * seconds), 1);
  step_end_nanos_ = now_nanos_ + nanos;
  ++tally_.steps;
  tally_.rows += static_cast<int64_t>(plan_.tokens.size());
  tally_.busy_nanos += nanos;
}

void SimulatedInstance::FinishStep() {
  step_end_nanos_ = kNever;
  last_end_nanos_ = now_nanos_;
  CHECK(engine_.Execute(plan_, result_).ok());
  scheduler_->Commit(result_, Now());
}

void SimulatedInstance::NoteOpens() {
  for (const SequenceOpen& open : plan_.opens) {
    const RequestId id{open.sampling.seed};
    slot_programs_[static_cast<size_t>(Number(open.slot))] = ProgramOf(id);
    Program& program = Of(id);
    if (program.opened) {
      ++program.record.preemptions;
    } else {
      program.opened = true;
      program.record.scheduled_nanos = now_nanos_;
      program.record.opened = num_opened_++;
    }
  }
}

void SimulatedInstance::NoteRows() {
  for (const PlanSequence& part : plan_.sequences) {
    const int32_t index = slot_programs_[static_cast<size_t>(Number(part.slot))];
    Program& program = programs_[static_cast<size_t>(index)];
    const int32_t end = part.first_position + part.num_tokens;
    program.record.recomputed_tokens +=
        std::max(0, std::min(end, program.computed_tokens) - part.first_position);
    if (program.computed_tokens > 0) {  // others have published more of it meanwhile
      program.record.found_late_tokens +=
          std::max(0, part.first_position - program.computed_tokens);
    }
    program.computed_tokens = std::max(program.computed_tokens, end);
    tally_.service.Add(Tally::PartyOf(program.record.tenant, program.record.offline), now_nanos_,
                       part.num_tokens);
  }
}

void SimulatedInstance::Send(int32_t program) {
  scheduler_->Submit(MakeRequest(program), Now());  // a refusal is heard in OnDone
}

Request SimulatedInstance::MakeRequest(int32_t index) {
  Program& program = programs_[static_cast<size_t>(index)];
  const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(program.index)];
  const WorkloadTurn& turn = wanted.turns[static_cast<size_t>(program.turn)];
  const int32_t kept = std::min(turn.kept_tokens, static_cast<int32_t>(program.tokens.size()));
  program.tokens.resize(static_cast<size_t>(kept));
  tokens_.Append(turn.runs, program.tokens);
  program.record = {.program = program.index,
                    .turn = program.turn,
                    .tenant = wanted.tenant,
                    .offline = wanted.offline,
                    .arrival_nanos = now_nanos_,
                    .prompt_tokens = static_cast<int32_t>(program.tokens.size()),
                    .kept_tokens = kept};
  program.computed_tokens = 0;
  program.opened = false;

  Request request;
  request.id = IdOf(index, program.turn);
  request.tenant = TenantIndex{wanted.tenant};
  request.reuse_scope = ScopeOf(wanted.tenant);
  request.prompt = program.tokens;
  request.max_tokens = turn.completion_tokens;
  request.sampling.seed = Number(request.id);  // by which the plan's rows are known again
  request.arrival = Now();
  request.session = wanted.session;
  const bool is_last = static_cast<size_t>(program.turn) + 1 == wanted.turns.size();
  if (options_.retain && !is_last) request.retain = {.ttl = *options_.retain};
  if (request.session.empty() && wanted.turns.size() > 1) {
    request.session = Concat("program ", program.index);
  }
  request.session_final = is_last && !request.session.empty();
  request.offline = wanted.offline;
  if (turn.patience) {
    departures_.push(
        {.nanos = now_nanos_ + absl::ToInt64Nanoseconds(*turn.patience), .turn = request.id});
  }
  if (turn.tool) request.tool_hint = {.name = workload_.tools[static_cast<size_t>(*turn.tool)]};
  return request;
}

void SimulatedInstance::OnPrompt(PromptEvent event) {
  Of(event.request).record.cached_tokens = event.cached_tokens;
}

void SimulatedInstance::OnToken(TokenEvent event) {
  Program& program = Of(event.request);
  TurnRecord& record = program.record;
  if (record.completion_tokens++ == 0) {
    record.first_token_nanos = now_nanos_;
  } else {
    tally_.Of(record.tenant, record.offline).itl.Add(now_nanos_ - program.last_token_nanos);
  }
  program.last_token_nanos = now_nanos_;
  program.tokens.push_back(event.token);
}

void SimulatedInstance::OnDone(RequestDone event) {
  if (event.retry_after) {
    Of(event.request).record.retry_after_nanos = absl::ToInt64Nanoseconds(*event.retry_after);
  }
  EndTurn(ProgramOf(event.request), event.status.ok()                 ? TurnEnd::kDone
                                    : absl::IsCancelled(event.status) ? TurnEnd::kCancelled
                                                                      : TurnEnd::kRefused);
}

void SimulatedInstance::EndTurn(int32_t index, TurnEnd end) {
  Program& program = programs_[static_cast<size_t>(index)];
  const WorkloadProgram& wanted = workload_.programs[static_cast<size_t>(program.index)];
  program.record.end = end;
  program.record.end_nanos = now_nanos_;
  Note(program.record);
  ++program.turn;
  TenantTally& tenant = tally_.Of(wanted.tenant, wanted.offline);
  if (end == TurnEnd::kDone && static_cast<size_t>(program.turn) < wanted.turns.size()) {
    const absl::Duration after = wanted.turns[static_cast<size_t>(program.turn)].after;
    returns_.push({.nanos = now_nanos_ + std::max<int64_t>(absl::ToInt64Nanoseconds(after), 0),
                   .program = index});
    return;
  }
  if (end == TurnEnd::kDone) {
    ++tenant.programs_done;
    tenant.job.Add(now_nanos_ - absl::ToInt64Nanoseconds(wanted.start));
  } else {
    ++tenant.programs_cut;
    for (; static_cast<size_t>(program.turn) < wanted.turns.size(); ++program.turn) {
      Note({.program = program.index,
            .turn = program.turn,
            .tenant = wanted.tenant,
            .offline = wanted.offline,
            .end = TurnEnd::kAbandoned,
            .end_nanos = now_nanos_});
    }
  }
  program.tokens = {};
}

void SimulatedInstance::Note(const TurnRecord& record) {
  ++turns_ended_;
  tally_.AddTurn(record, options_.slo);
  tally_.end_nanos = now_nanos_;
  if (listener_) listener_(record);
}

void SimulatedInstance::NoteState(int64_t until_nanos) {
  const BlockCounts blocks = scheduler_->block_counts();
  InstanceState state;
  state.values = {blocks.free,
                  blocks.held,
                  blocks.evictable,
                  blocks.moving,
                  scheduler_->store().pins().num_blocks(),
                  scheduler_->num_running(),
                  scheduler_->num_waiting()};
  tally_.states.Hold(state, until_nanos);
}

Tally SimulatedInstance::TakeTally() {
  NoteState(now_nanos_);
  tally_.offloads = mover_.num_done(MoveKind::kOffload);
  tally_.restores = mover_.num_done(MoveKind::kRestore);
  tally_.demotes = mover_.num_done(MoveKind::kDemote);
  return tally_;
}

}  // namespace holdfast
