#include <utility>

#include "config/base/status_macros.h"
#include "workload/agent_sessions.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"

namespace holdfast {
namespace {

using nlohmann::json;

// The first tool of the step: the word of its shell command where there is one.
std::optional<std::string> ToolOf(const json& step) {
  for (const char* key : {"cmd", "tools"}) {
    const json& names = FieldOf(step, key);
    if (!names.is_array() || names.empty()) continue;
    if (std::optional<std::string> name = TextOf(names.front()); name && !name->empty()) {
      return name;
    }
  }
  return std::nullopt;
}

std::optional<std::string_view> ReadStep(const json& row, const WorkloadOptions& options,
                                         AgentCall& call) {
  if (!row.is_object()) return "bad_row";
  const auto prompt = TokensOf(FieldOf(row, "prompt_tokens"));
  const auto output = TokensOf(FieldOf(row, "output_tokens"));
  const auto tool_s = NumberOf(FieldOf(row, "tool_s"));
  if (!prompt || !output || !tool_s || *tool_s < 0 || *tool_s > 1e9) return "bad_number";
  if (*prompt == 0) return "zero_input";
  const std::optional<int32_t> completion = CompletionToAsk(*output, options);
  if (!completion) return "zero_output";
  const bool has_reasoning = TokensOf(FieldOf(row, "reasoning_tokens")).value_or(0) > 0;
  call.lengths = {*prompt, *completion, !has_reasoning};
  call.cached_tokens = TokensOf(FieldOf(row, "cached_tokens")).value_or(0);
  call.tool_time = absl::Seconds(*tool_s);
  call.tool = ToolOf(row);
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Trace> ReadAgentSteps(LineFile& file, const WorkloadOptions& options) {
  ASSIGN_OR_RETURN(Trace trace, ReadAgentSessions(file, "steps", [&](const json& steps) {
                     std::vector<AgentRow> rows(steps.size());
                     for (size_t i = 0; i < rows.size(); ++i) {
                       rows[i].reason = ReadStep(steps[i], options, rows[i].call);
                     }
                     return rows;
                   }));
  trace.workload.assumptions.emplace_back(
      "runs of sessions are laid over each other, each from its own first session");
  return trace;
}

}  // namespace holdfast
