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
  Sessions(const char* list_key, const AgentListReader& read_list, SessionStarts starts,
           TraceRows& rows)
      : list_key_(list_key), read_list_(read_list), starts_(starts), rows_(rows) {}

  absl::Status Add(const std::string& line) {
    const std::optional<json> session = ParseJsonRow(line);
    std::vector<AgentRow> list;
    if (session && FieldOf(*session, list_key_).is_array()) {
      list = read_list_(FieldOf(*session, list_key_));
    }
    if (list.empty()) {
      RETURN_IF_ERROR(rows_.Read());
      rows_.Drop(session ? "no_calls" : "bad_row");
      return absl::OkStatus();
    }
    const auto num_rows = static_cast<int64_t>(list.size());
    RETURN_IF_ERROR(rows_.Read(num_rows));
    const std::optional<double> start_s =
        starts_ == SessionStarts::kStamped ? NumberOf(FieldOf(*session, "start_s")) : 0;
    if (!start_s || *start_s < 0 || *start_s > kStartMax) {
      rows_.Drop(start_s && *start_s < 0 ? "negative_time" : "bad_number", num_rows);
      return absl::OkStatus();
    }
    AddProgram(absl::Seconds(*start_s), TextOf(FieldOf(*session, "session")).value_or(""), list);
    return absl::OkStatus();
  }

  int64_t num_shrunk() const { return num_shrunk_; }

 private:
  void AddProgram(absl::Duration start, std::string name, const std::vector<AgentRow>& list) {
    WorkloadProgram program{.start = start, .session = std::move(name)};
    const AgentCall* before = nullptr;
    for (const auto& [call, reason] : list) {
      if (reason) {
        rows_.Drop(*reason);
        continue;
      }
      WorkloadTurn turn = TurnOf(call.lengths, before != nullptr ? Kept(*before, call) : 0, rows_);
      if (before != nullptr) turn.after = before->tool_time;
      if (call.tool) turn.tool = rows_.Tool(*call.tool);
      program.turns.push_back(std::move(turn));
      before = &call;
    }
    if (!program.turns.empty()) rows_.programs().push_back(std::move(program));
  }

  int32_t Kept(const AgentCall& before, const AgentCall& call) {
    if (call.lengths.prompt_tokens < before.lengths.prompt_tokens) ++num_shrunk_;
    return KeptOf(before.lengths, call.lengths.prompt_tokens,
                  std::min(call.cached_tokens, before.lengths.prompt_tokens));
  }

  const char* list_key_;
  const AgentListReader& read_list_;
  const SessionStarts starts_;
  TraceRows& rows_;
  int64_t num_shrunk_ = 0;
};

}  // namespace

absl::StatusOr<Trace> ReadAgentSessions(LineFile& file, const char* list_key,
                                        const AgentListReader& read_list, SessionStarts starts) {
  TraceRows rows;
  Sessions sessions(list_key, read_list, starts, rows);
  RETURN_IF_ERROR(
      ForEachLine(file, rows, [&](const std::string& line) { return sessions.Add(line); }));
  rows.Assume(
      "an answer without reasoning is sent back whole and in its place; one with reasoning counts "
      "as new text of the next prompt");
  if (starts == SessionStarts::kNotStamped) rows.Assume(kAllStartAtZero);
  if (sessions.num_shrunk() > 0) {
    rows.Assume(Concat(sessions.num_shrunk(),
                       " prompts are shorter than the one before: of it they keep as much as the "
                       "source's own cache found"));
  }
  return std::move(rows).Finish(NameOfFile(file.path()));
}

absl::Duration AnswerTime(int32_t completion_tokens, const WorkloadOptions& options) {
  return options.answer_base + absl::Seconds(completion_tokens / options.answer_tokens_per_second);
}

std::string AnswerTimeAssumption(const WorkloadOptions& options) {
  return Concat("a tool's time is the gap to the next call less an answer's, taken as ",
                absl::ToDoubleSeconds(options.answer_base), " s and its tokens at ",
                options.answer_tokens_per_second, "/s");
}

}  // namespace holdfast
