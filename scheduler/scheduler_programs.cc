// Turns of agent programs: what the table of programs is told, and what stays for the next turn.
#include <algorithm>

#include "config/base/check.h"
#include "scheduler/scheduler.h"

namespace holdfast {
namespace {

// A pin whose turn has come stays so long after that, so that its KV does not go while its user
// stands in the queue; Continuum's authors keep it without a bound.
constexpr absl::Duration kPinGrace = absl::Seconds(2);

}  // namespace

absl::Duration Scheduler::ServiceOf(const ActiveRequest& active) const {
  return active.admitted ? std::max(now_ - active.admitted_at, absl::ZeroDuration())
                         : absl::ZeroDuration();
}

void Scheduler::Arrive(ActiveRequest& active) {
  const Request& request = active.request;
  if (request.session.empty()) return;
  Program& program =
      programs_.OnArrive(request.tenant, request.session, active.arrival, active.submitted);
  active.program = &program;
  if (programs_.orders_by_program()) {
    for (const std::unique_ptr<Sequence>& choice : active.choices) {
      choice->order.arrival = programs_.RankOf(program, active.arrival).arrival;
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
  const TtlDecision decision = programs_.OnTurnEnd(
      *active.program,
      {.tool = request.tool_hint ? std::string_view(request.tool_hint->name) : std::string_view(),
       .final = request.session_final,
       .context_tokens = context_tokens,
       .service = ServiceOf(active),
       .reload = reload_.Of(context_tokens, has_lower_tier ? context_tokens : 0),
       .pinned_share = static_cast<double>(store_.pins().num_blocks()) / store_.capacity(),
       .other_tokens = other_tokens},
      now_);
  active.program = nullptr;
  return decision.ttl;
}

// After a good end, instead of giving its blocks back.
void Scheduler::PinForSession(Sequence& sequence) {
  ActiveRequest& active = *sequence.request;
  const Request& request = active.request;
  if (request.session.empty() || sequence.order.choice != 0) return;
  const uint64_t program = programs_.orders_by_program() && active.program != nullptr
                               ? active.program->first_arrival
                               : 0;
  absl::Duration ttl;
  if (active.program != nullptr) ttl = EndTurn(active, sequence.computed_tokens);
  if (request.retain) ttl = request.retain->ttl;
  if (request.session_final || ttl <= absl::ZeroDuration()) return;
  if (!sequence.opened || active.ReuseOf(sequence) == PrefixReuse::kNone) return;
  const bool pinned =
      store_.TryPin({.tenant = request.tenant,
                     .session = request.session,
                     .priority = request.retain ? request.retain->priority : 0,
                     .program = program,
                     .deadline = now_ + ttl},
                    request.reuse_scope,
                    std::span(sequence.tokens).first(static_cast<size_t>(sequence.computed_tokens)),
                    now_, sequence.blocks, sequence.published);
  if (pinned) active.pin = store_.pins().Find(request.tenant, request.session)->id;
}

}  // namespace holdfast
