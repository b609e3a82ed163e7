#include <algorithm>
#include <utility>

#include "config/base/status_macros.h"
#include "workload/agent_sessions.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

using nlohmann::json;

// Places in a call's list.
constexpr size_t kPrompt = 1, kCached = 2, kOutput = 3, kReasoning = 4, kGap = 5, kCommand = 6;

std::optional<std::string_view> ReadCall(const json& row, const WorkloadOptions& options,
                                         AgentCall& call) {
  if (!row.is_array() || row.size() <= kCommand) return "bad_row";
  const auto prompt = TokensOf(row[kPrompt]);
  const auto output = TokensOf(row[kOutput]);
  const int32_t reasoning = TokensOf(row[kReasoning]).value_or(0);
  // A session's last call has no gap.
  const auto gap_s = row[kGap].is_null() ? std::optional<double>(0) : NumberOf(row[kGap]);
  if (!prompt || !output || !gap_s || *gap_s < 0 || *gap_s > 1e9) return "bad_number";
  if (*prompt == 0) return "zero_input";
  const std::optional<int32_t> completion =
      CompletionToAsk(std::min(*output + reasoning, kRequestTokensMax), options);
  if (!completion) return "zero_output";
  call.lengths = {*prompt, *completion, reasoning == 0};
  call.cached_tokens = TokensOf(row[kCached]).value_or(0);
  call.tool_time =
      std::max(absl::Seconds(*gap_s) - AnswerTime(*completion, options), absl::ZeroDuration());
  call.tool = TextOf(row[kCommand]);
  if (call.tool && call.tool->empty()) call.tool.reset();
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Trace> ReadAgentCalls(LineFile& file, const WorkloadOptions& options) {
  ASSIGN_OR_RETURN(Trace trace, ReadAgentSessions(file, "calls", [&](const json& calls) {
                     std::vector<AgentRow> rows(calls.size());
                     for (size_t i = 0; i < rows.size(); ++i) {
                       rows[i].reason = ReadCall(calls[i], options, rows[i].call);
                     }
                     return rows;
                   }));
  trace.whole_second_stamps = true;
  trace.workload.assumptions.push_back(AnswerTimeAssumption(options));
  return trace;
}

}  // namespace holdfast
