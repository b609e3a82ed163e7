// What the traces of agents have in common: one session a line, with its start and a list in which
// its calls lie, each a model's answer and the tool that it asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "workload/line_file.h"
#include "workload/session_history.h"
#include "workload/trace_rows.h"
#include "workload/workload_options.h"

namespace holdfast {

struct AgentCall {
  TraceCall lengths;
  int32_t cached_tokens = 0;  // that the source found of this prompt; 0 if it does not say
  absl::Duration tool_time;   // from the answer's end to the next call
  std::optional<std::string> tool;
};

// A row of a session: a call, or the reason to drop it.
struct AgentRow {
  AgentCall call;
  std::optional<std::string_view> reason;
};

// The rows of a session's list.
using AgentListReader = std::function<std::vector<AgentRow>(const nlohmann::json& list)>;

// Whether sessions say when they start (`start_s`), or all begin together.
enum class SessionStarts : bool { kStamped, kNotStamped };
inline constexpr const char* kAllStartAtZero =
    "the trace does not say when its sessions began: all begin at once unless arrivals are drawn";

// Sessions whose list lies under `list_key`. What a call keeps of the one before: see
// ReadAgentSteps.
absl::StatusOr<Trace> ReadAgentSessions(LineFile& file, const char* list_key,
                                        const AgentListReader& read_list,
                                        SessionStarts starts = SessionStarts::kStamped);

// The time of an answer where a trace does not give it: see WorkloadOptions.
absl::Duration AnswerTime(int32_t completion_tokens, const WorkloadOptions& options);
std::string AnswerTimeAssumption(const WorkloadOptions& options);

}  // namespace holdfast
