// Turns of agent programs: what the table of programs is told, and what stays for the next turn.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "scheduler/scheduler.h"

namespace holdfast {
namespace {

// A pin whose turn has come stays so long after that, so that its KV does not go while its user
// stands in the queue; Continuum's authors keep it without a bound.
constexpr absl::Duration kPinGrace = absl::Seconds(2);

// How long the KV of a turn that is not known to be worth it stays to hear what its answer calls.
// Some milliseconds do, unless the text workers have no core.
constexpr absl::Duration kNameWait = absl::Seconds(1);

}  // namespace

absl::Duration Scheduler::ServiceOf(const ActiveRequest& active) const {
  return active.admitted ? std::max(now_ - active.times.admitted, absl::ZeroDuration())
                         : absl::ZeroDuration();
}

// Of a turn that names no session: the program that its prompt goes on from, if there is one.
void Scheduler::FindProgram(ActiveRequest& active) {
  Request& request = active.request;
  if (!programs_.orders_by_program() || !request.reuse_prefix || !active.draws()) return;
  std::optional<TurnEnds::End> end =
      turn_ends_.Take(request.tenant, request.reuse_scope, active.choices.front().tokens,
                      active.submitted, active.prompt_key.emplace());
  if (!end) return;
  if (end->first) {
    // A client that names a session so is the program's own tenant, and gets what it asks for.
    end->session =
        absl::StrCat("prefix-", ++num_found_programs_[static_cast<size_t>(Number(request.tenant))]);
    programs_.AddFirstTurn(request.tenant, end->session, *end->first);
  }
  request.session = std::move(end->session);
}

// For a next turn that will name no session either.
void Scheduler::RememberEnd(const Sequence& sequence) {
  const ActiveRequest& active = *sequence.request;
  const Request& request = active.request;
  if (!active.prompt_key) return;
  TurnEnds::End end{.session = request.session};
  if (request.session.empty()) {
    end.first =
        FirstTurn{.arrival = active.arrival,
                  .arrived = active.submitted,
                  .finished = now_,
                  .service = ServiceOf(active),
                  .tool = request.tool_hint ? request.tool_hint->name : active.tool.value_or("")};
  }
  turn_ends_.Add(request.tenant, request.reuse_scope,
                 std::span(sequence.tokens).first(static_cast<size_t>(sequence.computed_tokens)),
                 active.prompt_size, *active.prompt_key, request.id, std::move(end), now_);
}

void Scheduler::Arrive(ActiveRequest& active) {
  const Request& request = active.request;
  if (request.session.empty()) FindProgram(active);
  if (request.session.empty()) return;
  Program& program =
      programs_.OnArrive(request.tenant, request.session, active.arrival, active.submitted);
  active.program = &program;
  if (!program.last_tool.empty() && program.turns_in_flight == 1) {
    active.times.tool_called = program.last_finish;
    active.times.tool = program.last_tool;
  }
  if (programs_.orders_by_program()) {
    for (Sequence& choice : active.choices) {
      choice.order.arrival = programs_.RankOf(program, active.arrival).arrival;
    }
  }
  store_.ExtendPin(request.tenant, request.session, request.reuse_scope,
                   active.submitted + kPinGrace);
}

// The table may forget the program with it.
absl::Duration Scheduler::EndTurn(ActiveRequest& active, int32_t context_tokens) {
  const Request& request = active.request;
  int64_t other_tokens = 0;
  for (const Sequence* sequence : running_) {
    if (sequence->request != &active) other_tokens += sequence->computed_tokens;
  }
  const bool has_lower_tier = options_.kv.host != nullptr || options_.kv.disk != nullptr;
  const std::string_view tool = request.tool_hint ? std::string_view(request.tool_hint->name)
                                : active.tool     ? std::string_view(*active.tool)
                                                  : std::string_view();
  const TtlDecision decision = programs_.OnTurnEnd(
      *active.program,
      {.tool = tool,
       .final = request.session_final,
       .context_tokens = context_tokens,
       .service = ServiceOf(active),
       .reload = reload_.Of(context_tokens, has_lower_tier ? context_tokens : 0),
       .other_tokens = other_tokens,
       .named_later = IsNamedLater(active) ? std::optional(request.id) : std::nullopt},
      now_);
  active.program = nullptr;
  return decision.ttl;
}

bool Scheduler::IsNamedLater(const ActiveRequest& active) {
  return active.request.names_tool && !active.request.tool_hint && !active.tool;
}

void Scheduler::NameTool(RequestId id, std::string_view tool, absl::Time now) {
  thread_.CheckThread();
  const auto found = requests_.find(id);
  // Its first choice may be over while its turn is not.
  if (found != requests_.end() && (found->second->choices.front().state != SequenceState::kEnded ||
                                   found->second->program != nullptr)) {
    ActiveRequest& active = *found->second;
    if (IsNamedLater(active)) active.tool = std::string(tool);
    return;
  }
  turn_ends_.NameTool(id, tool);
  const std::optional<ProgramTable::Named> named = programs_.NameTool(id, tool);
  if (!named) return;
  now_ = std::max(now_, now);
  store_.DecidePin(named->tenant, named->session, named->ended + named->ttl, now_);
}

// After a good end, instead of giving its blocks back.
void Scheduler::PinForSession(Sequence& sequence) {
  ActiveRequest& active = *sequence.request;
  const Request& request = active.request;
  if (sequence.order.choice != 0) return;
  RememberEnd(sequence);
  if (request.session.empty()) return;
  PinRequest pin{.tenant = request.tenant, .session = request.session, .state = PinState::kPaused};
  absl::Duration ttl;
  if (active.program != nullptr) {
    if (programs_.orders_by_program()) pin.program = active.program->first_arrival;
    const bool named_later = programs_.pins() && IsNamedLater(active);
    ttl = EndTurn(active, sequence.computed_tokens);
    if (named_later) {
      if (ttl <= absl::ZeroDuration()) pin.state = PinState::kProvisional;
      ttl = std::max(ttl, kNameWait);
    }
  }
  if (request.retain) {
    ttl = request.retain->ttl;
    pin.state = PinState::kAsked;
    pin.priority = request.retain->priority;
  }
  if (request.session_final || ttl <= absl::ZeroDuration()) return;
  if (!sequence.opened || active.ReuseOf(sequence) == PrefixReuse::kNone) return;
  pin.deadline = now_ + ttl;
  const std::span<const TokenId> computed =
      std::span(sequence.tokens).first(static_cast<size_t>(sequence.computed_tokens));
  if (store_.TryPin(pin, request.reuse_scope, computed, now_, sequence.blocks,
                    sequence.published)) {
    active.pin = store_.pins().Find(request.tenant, request.session)->id;
  }
}

// How much of what was kept for it the turn has found.
void Scheduler::NoteContinued(const ActiveRequest& request, PinId id) {
  const Pin* pin = store_.pins().Find(request.request.tenant, request.request.session);
  if (pin == nullptr || pin->id != id) return;
  const auto num_blocks =
      static_cast<int32_t>(pin->blocks.size()) - (pin->partial_tokens.empty() ? 0 : 1);
  const int32_t kept = num_blocks * kBlockTokens + static_cast<int32_t>(pin->partial_tokens.size());
  // At least the last token of a prompt is computed.
  metrics_.programs.OnPinContinued(request.cached_tokens.value_or(0),
                                   std::min(kept, request.prompt_size - 1));
}

bool Scheduler::DropPin(TenantIndex tenant, const std::string& session) {
  thread_.CheckThread();
  return tenants_.Knows(tenant) && store_.ReleasePin(tenant, session, PinEnd::kForced, now_);
}

int32_t Scheduler::DropPins(std::optional<TenantIndex> tenant) {
  thread_.CheckThread();
  std::vector<std::pair<TenantIndex, std::string>> owners;
  store_.pins().ForEach([&](const Pin& pin) {
    if (!tenant || pin.tenant == *tenant) owners.emplace_back(pin.tenant, pin.session);
  });
  for (const auto& [owner, session] : owners) {
    store_.ReleasePin(owner, session, PinEnd::kForced, now_);
  }
  return static_cast<int32_t>(owners.size());
}

void Scheduler::BeginHandDown() {
  CHECK(idle() && !step_running());
  DropPins(std::nullopt);
  store_.BeginHandDown();
}

}  // namespace holdfast
