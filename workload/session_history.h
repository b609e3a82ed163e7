// The prompt of a session's next turn where a trace gives lengths only: how much of it is the turn
// before, and how much is new.
#pragma once

#include <algorithm>
#include <cstdint>

#include "workload/trace_rows.h"

namespace holdfast {

// A call of a session as a trace has it.
struct TraceCall {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;
  bool answer_is_sent_back = true;  // whole, at its place: not if it began with reasoning
};

// As much of the turn before as the lengths allow: its prompt and answer, or its prompt; if the
// prompt has shrunk, `kept_if_shrunk` tokens of it (0 <= that).
inline int32_t KeptOf(const TraceCall& before, int32_t prompt_tokens, int32_t kept_if_shrunk) {
  const int64_t with_answer =
      int64_t{before.prompt_tokens} + (before.answer_is_sent_back ? before.completion_tokens : 0);
  if (prompt_tokens >= with_answer) return static_cast<int32_t>(with_answer);
  if (prompt_tokens >= before.prompt_tokens) return before.prompt_tokens;
  return std::min(kept_if_shrunk, prompt_tokens);
}

// The turn of `call` with what it keeps, the rest in a run of its own.
inline WorkloadTurn TurnOf(const TraceCall& call, int32_t kept_tokens, TraceRows& rows) {
  WorkloadTurn turn{.kept_tokens = kept_tokens, .completion_tokens = call.completion_tokens};
  if (const int32_t fresh = call.prompt_tokens - kept_tokens; fresh > 0) {
    turn.runs.push_back({.id = rows.FreshRun(), .num_tokens = fresh});
  }
  return turn;
}

}  // namespace holdfast
