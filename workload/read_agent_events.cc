#include <algorithm>
#include <cmath>
#include <utility>

#include "config/base/status_macros.h"
#include "workload/agent_sessions.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

using nlohmann::json;

constexpr double kTotalMax = 1e15;  // tokens that a session has used: sums stay exact

struct Totals {
  double prompt = 0, completion = 0;
  bool operator==(const Totals&) const = default;
};

std::optional<Totals> TotalsOf(const json& event) {
  const auto prompt = NumberOf(FieldOf(event, "prompt_tokens_total"));
  const auto completion = NumberOf(FieldOf(event, "completion_tokens_total"));
  if (!prompt || !completion || *prompt > kTotalMax || *completion > kTotalMax) return std::nullopt;
  return Totals{*prompt, *completion};
}

std::optional<int32_t> TokensBetween(double before, double now) {
  const double tokens = now - before;
  if (tokens < 0 || tokens > kRequestTokensMax || tokens != std::floor(tokens)) return std::nullopt;
  return static_cast<int32_t>(tokens);
}

std::optional<std::string> ToolOf(const json& event) {
  for (const char* key : {"cmd", "name"}) {
    if (std::optional<std::string> name = TextOf(FieldOf(event, key)); name && !name->empty()) {
      return name;
    }
  }
  return std::nullopt;
}

// A session's calls, from its events in their order.
class Events final {
 public:
  explicit Events(const WorkloadOptions& options) : options_(options) {}

  std::vector<AgentRow> Read(const json& events) {
    for (const json& event : events) {
      if (const std::optional<double> cause = NumberOf(FieldOf(event, "cause"))) {
        AddObservation(*cause, event);
      } else if (FieldOf(event, "prompt_tokens_total").is_number()) {
        AddAction(event);
      }
    }
    return std::move(rows_);
  }

 private:
  void AddAction(const json& event) {
    const std::optional<Totals> totals = TotalsOf(event);
    const bool is_same_answer = totals && *totals == before_ && !rows_.empty();
    if (!is_same_answer) {
      rows_.emplace_back();
      rows_.back().reason = totals ? ReadCall(*totals, event) : "bad_number";
      // Of totals that cannot be right the next call's lengths cannot be told either.
      if (totals) before_ = *totals;
      actions_.clear();
    }
    const auto id = NumberOf(FieldOf(event, "id"));
    const auto stamp = NumberOf(FieldOf(event, "t"));
    if (id && stamp) actions_.push_back({*id, *stamp});
  }

  std::optional<std::string_view> ReadCall(const Totals& totals, const json& event) {
    const auto prompt = TokensBetween(before_.prompt, totals.prompt);
    const auto output = TokensBetween(before_.completion, totals.completion);
    if (!prompt || !output) return "bad_number";
    if (*prompt == 0) return "zero_input";
    const std::optional<int32_t> completion = CompletionToAsk(*output, options_);
    if (!completion) return "zero_output";
    rows_.back().call.lengths = {*prompt, *completion};
    rows_.back().call.tool = ToolOf(event);
    return std::nullopt;
  }

  // What an action of the last call found: the next call waits for it.
  void AddObservation(double cause, const json& event) {
    const auto stamp = NumberOf(FieldOf(event, "t"));
    for (const auto& [id, acted_s] : actions_) {
      if (id != cause || !stamp) continue;
      absl::Duration& wait = rows_.back().call.tool_time;
      wait = std::max(wait, absl::Seconds(std::clamp(*stamp - acted_s, 0.0, 1e9)));
    }
  }

  struct Action {
    double id = 0, acted_s = 0;
  };
  const WorkloadOptions& options_;
  std::vector<AgentRow> rows_;
  Totals before_;
  std::vector<Action> actions_;  // of the last call
};

}  // namespace

absl::StatusOr<Trace> ReadAgentEvents(LineFile& file, const WorkloadOptions& options) {
  return ReadAgentSessions(
      file, "events", [&](const json& events) { return Events(options).Read(events); },
      SessionStarts::kNotStamped);
}

}  // namespace holdfast
