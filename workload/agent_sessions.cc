#include "workload/agent_sessions.h"

#include <algorithm>
#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/json_row.h"

namespace holdfast {
namespace {

using nlohmann::json;

constexpr double kStartMax = 1e10;  // seconds

class Sessions final {
 public:
  Sessions(const char* calls_key, const AgentCallReader& read_call, TraceRows& rows)
      : calls_key_(calls_key), read_call_(read_call), rows_(rows) {}

  absl::Status Add(const std::string& line) {
    const std::optional<json> session = ParseJsonRow(line);
    const bool has_calls = session && FieldOf(*session, calls_key_).is_array() &&
                           !FieldOf(*session, calls_key_).empty();
    if (!has_calls) {
      RETURN_IF_ERROR(rows_.Read());
      rows_.Drop(session ? "no_calls" : "bad_row");
      return absl::OkStatus();
    }
    const json& calls = FieldOf(*session, calls_key_);
    const auto num_calls = static_cast<int64_t>(calls.size());
    RETURN_IF_ERROR(rows_.Read(num_calls));
    const std::optional<double> start_s = NumberOf(FieldOf(*session, "start_s"));
    if (!start_s || *start_s < 0 || *start_s > kStartMax) {
      rows_.Drop(start_s && *start_s < 0 ? "negative_time" : "bad_number", num_calls);
      return absl::OkStatus();
    }
    AddProgram(absl::Seconds(*start_s), TextOf(FieldOf(*session, "session")).value_or(""), calls);
    return absl::OkStatus();
  }

  int64_t num_shrunk() const { return num_shrunk_; }

 private:
  void AddProgram(absl::Duration start, std::string name, const json& calls) {
    WorkloadProgram program{.start = start, .session = std::move(name)};
    std::optional<AgentCall> before;
    for (const json& row : calls) {
      AgentCall call;
      if (const auto reason = read_call_(row, call)) {
        rows_.Drop(*reason);
        continue;
      }
      WorkloadTurn turn = TurnOf(call.lengths, before ? Kept(*before, call) : 0, rows_);
      if (before) turn.after = before->tool_time;
      if (call.tool) turn.tool = rows_.Tool(*call.tool);
      program.turns.push_back(std::move(turn));
      before = std::move(call);
    }
    if (!program.turns.empty()) rows_.programs().push_back(std::move(program));
  }

  int32_t Kept(const AgentCall& before, const AgentCall& call) {
    if (call.lengths.prompt_tokens < before.lengths.prompt_tokens) ++num_shrunk_;
    return KeptOf(before.lengths, call.lengths.prompt_tokens,
                  std::min(call.cached_tokens, before.lengths.prompt_tokens));
  }

  const char* calls_key_;
  const AgentCallReader& read_call_;
  TraceRows& rows_;
  int64_t num_shrunk_ = 0;
};

}  // namespace

absl::StatusOr<Trace> ReadAgentSessions(LineFile& file, const char* calls_key,
                                        const AgentCallReader& read_call) {
  TraceRows rows;
  Sessions sessions(calls_key, read_call, rows);
  RETURN_IF_ERROR(
      ForEachLine(file, rows, [&](const std::string& line) { return sessions.Add(line); }));
  rows.Assume(
      "an answer without reasoning is sent back whole and in its place; one with reasoning counts "
      "as new text of the next prompt");
  if (sessions.num_shrunk() > 0) {
    rows.Assume(Concat(sessions.num_shrunk(),
                       " prompts are shorter than the one before: of it they keep as much as the "
                       "source's own cache found"));
  }
  return std::move(rows).Finish(NameOfFile(file.path()));
}

}  // namespace holdfast
