#include <algorithm>
#include <utility>

#include "config/base/status_macros.h"
#include "workload/agent_sessions.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"

namespace holdfast {
namespace {

using nlohmann::json;

// The reason to drop an agent's message, or nothing.
std::optional<std::string_view> ReadMessage(const json& message, const WorkloadOptions& options,
                                            AgentCall& call) {
  const json& usage = FieldOf(message, "usage");
  const auto stamp = NumberOf(FieldOf(message, "t"));
  const auto prompt = TokensOf(FieldOf(usage, "prompt_tokens"));
  const auto output = TokensOf(FieldOf(usage, "completion_tokens"));
  if (!stamp || !prompt || !output || *stamp > 1e9) return "bad_number";
  if (*stamp < 0) return "negative_time";
  if (*prompt == 0) return "zero_input";
  const std::optional<int32_t> completion = CompletionToAsk(*output, options);
  if (!completion) return "zero_output";
  call.lengths = {*prompt, *completion};
  const json& tools = FieldOf(message, "tool_calls");
  if (tools.is_array() && !tools.empty()) call.tool = TextOf(FieldOf(tools.front(), "name"));
  return std::nullopt;
}

std::vector<AgentRow> ReadMessages(const json& messages, const WorkloadOptions& options) {
  std::vector<AgentRow> rows;
  std::optional<size_t> before;  // the agent's last message that is kept
  double answered_s = 0;         // when it came
  for (const json& message : messages) {
    if (FieldOf(message, "role") == "assistant" && FieldOf(message, "usage").is_object()) {
      rows.emplace_back();
      rows.back().reason = ReadMessage(message, options, rows.back().call);
      if (rows.back().reason) continue;
      before = rows.size() - 1;
      answered_s = *NumberOf(FieldOf(message, "t"));
    } else if (const auto stamp = NumberOf(FieldOf(message, "t")); before && stamp) {
      // The last message before the agent's next one is what that waits for.
      rows[*before].call.tool_time = absl::Seconds(std::clamp(*stamp - answered_s, 0.0, 1e9));
    }
  }
  return rows;
}

}  // namespace

absl::StatusOr<Trace> ReadDialogues(LineFile& file, const WorkloadOptions& options) {
  return ReadAgentSessions(file, "messages",
                           [&](const json& messages) { return ReadMessages(messages, options); });
}

}  // namespace holdfast
