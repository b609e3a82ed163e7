// Traffic as agents make it, from a seed alone: programs of several turns, each of which comes back
// with its whole history, what was answered, and a tool's result; next to single questions, choices
// and scored prompts. All take their texts from the same small stock, whoever's they are: what one
// tenant has said another says too, and only the scopes keep them apart.
//
// A trace has no clock of its own: an agent comes at a time, and thinks between its turns; how long
// a turn takes is the server's matter. So the same trace can be served under any circumstances, and
// the texts are the same as long as the answers are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/reuse_scope.h"
#include "scheduler/request.h"

namespace holdfast {

struct AgentTurn {
  absl::Duration think;                    // since the turn before was answered
  std::vector<TokenId> said;               // after the history
  Request request;                         // all but id, tenant, scope, prompt and session
  std::optional<absl::Duration> patience;  // then it cancels
};

struct Agent {
  TenantIndex tenant{};
  ReuseScope scope{};
  uint8_t mark = 0;  // for the scope, in FakeEngine's marks; dense from 1
  std::string session;
  absl::Duration arrives;
  std::vector<AgentTurn> turns;
};

inline constexpr int32_t kTraceTenants = 4;  // the last two are one sharing group

struct AgentTrace {
  int32_t vocab_size = 0, context_tokens = 0;
  std::vector<Agent> agents;
};

AgentTrace MakeAgentTrace(uint32_t seed);

}  // namespace holdfast
