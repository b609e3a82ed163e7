// What the traces of agents have in common: one session a line, with its start and a list of calls,
// each a model's answer and the tool that it asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "workload/line_file.h"
#include "workload/session_history.h"
#include "workload/trace_rows.h"

namespace holdfast {

struct AgentCall {
  TraceCall lengths;
  int32_t cached_tokens = 0;  // that the source found of this prompt; 0 if it does not say
  absl::Duration tool_time;   // from the answer's end to the next call
  std::optional<std::string> tool;
};

// Reads one entry of a session's list. The reason to drop it, or nothing.
using AgentCallReader =
    std::function<std::optional<std::string_view>(const nlohmann::json& row, AgentCall& call)>;

// Sessions whose calls lie under `calls_key`. What a call keeps of the one before: see
// ReadAgentSteps.
absl::StatusOr<Trace> ReadAgentSessions(LineFile& file, const char* calls_key,
                                        const AgentCallReader& read_call);

}  // namespace holdfast
