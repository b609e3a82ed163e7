// The readers of the kinds of workload files. Each takes the file's lines from the first, drops
// under a counted reason what it cannot use, and fails only with the file as a whole.
//
//   reason          the row
//   long_line       has more than kLineBytesMax bytes
//   bad_row         is not JSON, has too few columns, or lacks a field
//   bad_number      has a field that is no number, or one out of bounds
//   negative_time   is stamped before the file's zero
//   zero_input      asks for nothing
//   zero_output     failed at the source: no token came (WorkloadOptions::failures)
//   block_count     has block ids that do not fit its prompt's length
//   filtered        is of another model or log type than asked for
//   no_calls        is a session without calls
//   no_lengths      is a client whose lengths are not known
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "workload/line_file.h"
#include "workload/trace_rows.h"
#include "workload/workload_options.h"

namespace holdfast {

// Columns by name: Timestamp (s), Model, Request tokens, Response tokens, Log Type, and in the
// third trace Session ID and Elapsed time; also as t_s, model, ... with underscores. Rows of one
// session become one program: what its user waited is the next stamp minus this one and its elapsed
// time, never less than nothing. The trace has no text, so history is assumed: a prompt at least as
// long as the one before with its answer continues it, any other begins anew. Without a session a
// row is a program, and shares nothing.
// Source: BurstGPT (Wang et al., KDD 2025; github.com/HPMLL/BurstGPT, CC BY 4.0).
absl::StatusOr<Trace> ReadBurstGpt(LineFile& file, const WorkloadOptions& options);

// Columns by name: TIMESTAMP (date and time), ContextTokens, GeneratedTokens; or t_s,
// context_tokens, generated_tokens. Requests share nothing.
// Source: Azure LLM inference trace 2023 (Patel et al., "Splitwise", ISCA 2024; CC BY 4.0).
absl::StatusOr<Trace> ReadAzure(LineFile& file, const WorkloadOptions& options);

// Fields timestamp (ms), input_length, output_length, hash_ids: one id for each `block_tokens`
// tokens of the prompt, with or without one for what is left at its end. Equal ids are equal runs;
// what is left without an id is nobody else's.
// Source: Mooncake (Qin et al., FAST 2025; Apache-2.0): 512, the last block in part. rtp-llm's
// online log (github.com/alibaba/rtp-llm, Apache-2.0): 1024, full blocks.
absl::StatusOr<Trace> ReadBlockIds(LineFile& file, const WorkloadOptions& options,
                                   int32_t block_tokens);

// One session a line, with steps of prompt_tokens, cached_tokens, output_tokens, reasoning_tokens,
// tools, cmd and tool_s. A step waits for the tool of the one before. Of the step before it keeps
//   its prompt and answer   if the prompt is that long, and the answer held no reasoning (which is
//                           not sent back, and comes first in an answer);
//   its prompt              if the prompt is that long;
//   what the source's own cache found (nothing if it does not say)   if the prompt has shrunk.
// Sessions start as stamped in their runs, all runs laid over each other.
// Source: ISO-Bench agent trajectories (Apache-2.0).
absl::StatusOr<Trace> ReadAgentSteps(LineFile& file, const WorkloadOptions& options);

// One session a line, with calls [t, prompt, cached, output, reasoning, gap, cmd, ...]. The gap to
// the next call holds the answer's time, which is taken off as WorkloadOptions::answer_* say; the
// rest is the tool's, never less than nothing. Reasoning is not in `output` and was generated too.
// What is kept: as with ReadAgentSteps.
// Source: mini-swe-agent runs on SWE-bench Verified (github.com/gruckion/mini-swe-agent, MIT).
absl::StatusOr<Trace> ReadAgentCalls(LineFile& file, const WorkloadOptions& options);

// One session a line, with calls [t, prompt, output, ...], t the time at which the answer was
// logged. The gap to the next answer, less the time that this one took (WorkloadOptions::answer_*),
// is the tool's, never less than nothing; tools have no names. What is kept: as above.
// Source: agent sessions of inference-sim (github.com/inference-sim/inference-sim, Apache-2.0).
absl::StatusOr<Trace> ReadAgentLog(LineFile& file, const WorkloadOptions& options);

// One session a line, with events of t, id, cause, name and cmd. Events with prompt_tokens_total
// and completion_tokens_total, the sums so far, are actions; a call is what such sums grow by, and
// its actions are those with the same sums. The next call waits for the last of the events that
// they cause. Sessions are not stamped. What is kept: as above. Source: OpenHands' evaluation
// output (github.com/All-Hands-AI/OpenHands, MIT).
absl::StatusOr<Trace> ReadAgentEvents(LineFile& file, const WorkloadOptions& options);

// One call a line: session, t_s, prompt and output as text, of which lengths are made (a token: 4
// bytes) and what prompts have in common, also between sessions, block by block of 16 tokens. The
// text itself is not kept. A session is its lines by t_s, when calls were sent: a few lines stand
// before earlier ones. The gap to the next call, less this answer's time
// (WorkloadOptions::answer_*), is the tool's, never less than nothing; tools have no names and
// sessions are not stamped. Source: multi-agent sessions of github.com/LMCache/lmcache-agent-trace
// (Apache-2.0).
absl::StatusOr<Trace> ReadAgentTexts(LineFile& file, const WorkloadOptions& options);

// One dialogue a line, with messages of role, t, usage and tool_calls. The assistant's messages
// that have a usage are calls; each waits for the last message of a tool or user before it. What is
// kept: as above. Source: tau2-bench (github.com/sierra-research/tau2-bench, MIT).
absl::StatusOr<Trace> ReadDialogues(LineFile& file, const WorkloadOptions& options);

// A line of metadata (window_s, token_window_s, quantiles), then one client a line: rate and cv in
// each window, quantiles of input_tokens and output_tokens in each token window. A client is a
// tenant; its requests are drawn: Gamma waits with the window's rate (times rate_scale) and cv,
// lengths by inverse quantile, straight between the given ones, input and output apart. Requests
// share nothing. Refused: more than kRowsMax requests to draw; give a window, a smaller rate_scale
// or programs_max.
// Source: ServeGen (Xiang et al., 2025; github.com/alibaba/ServeGen, Apache-2.0).
absl::StatusOr<Trace> ReadClientRates(LineFile& file, const WorkloadOptions& options);

// Of a request at a service: what the answer asks for, if it is to be kept.
inline std::optional<int32_t> CompletionToAsk(int32_t output, const WorkloadOptions& options) {
  if (output > 0) return output;
  if (options.failures == WorkloadOptions::Failures::kOneToken) return 1;
  return std::nullopt;
}

}  // namespace holdfast
