#include <algorithm>
#include <utility>

#include "config/base/status_macros.h"
#include "workload/agent_sessions.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"

namespace holdfast {
namespace {

using nlohmann::json;

// Places in a call's list.
constexpr size_t kStamp = 0, kPrompt = 1, kOutput = 2;

// `stamp_s` is the call's; the reason to drop it, or nothing.
std::optional<std::string_view> ReadCall(const json& row, const WorkloadOptions& options,
                                         AgentCall& call, double& stamp_s) {
  if (!row.is_array() || row.size() <= kOutput) return "bad_row";
  const auto stamp = NumberOf(row[kStamp]);
  const auto prompt = TokensOf(row[kPrompt]);
  const auto output = TokensOf(row[kOutput]);
  if (!stamp || !prompt || !output || *stamp > 1e9) return "bad_number";
  if (*stamp < 0) return "negative_time";
  if (*prompt == 0) return "zero_input";
  const std::optional<int32_t> completion = CompletionToAsk(*output, options);
  if (!completion) return "zero_output";
  stamp_s = *stamp;
  call.lengths = {*prompt, *completion};
  return std::nullopt;
}

std::vector<AgentRow> ReadCalls(const json& calls, const WorkloadOptions& options) {
  std::vector<AgentRow> rows(calls.size());
  AgentCall* before = nullptr;
  double before_s = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    AgentCall& call = rows[i].call;
    double stamp_s = 0;
    rows[i].reason = ReadCall(calls[i], options, call, stamp_s);
    if (rows[i].reason) continue;
    if (before != nullptr) {
      const absl::Duration gap = absl::Seconds(stamp_s - before_s);
      before->tool_time =
          std::max(gap - AnswerTime(call.lengths.completion_tokens, options), absl::ZeroDuration());
    }
    before = &call;
    before_s = stamp_s;
  }
  return rows;
}

}  // namespace

absl::StatusOr<Trace> ReadAgentLog(LineFile& file, const WorkloadOptions& options) {
  ASSIGN_OR_RETURN(Trace trace, ReadAgentSessions(file, "calls", [&](const json& calls) {
                     return ReadCalls(calls, options);
                   }));
  trace.workload.assumptions.push_back(AnswerTimeAssumption(options));
  return trace;
}

}  // namespace holdfast
