// What the server hands to the scheduler: a prompt in tokens for one tenant. Text stays outside.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "engine/step_plan.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

// The tool that an agent will call after this turn, where its caller knows.
struct ToolHint {
  std::string name;                        // not empty, kToolNameBytesMax at most
  std::optional<absl::Duration> expected;  // how long it takes
  bool operator==(const ToolHint&) const = default;
};

struct Request {
  RequestId id{};
  TenantIndex tenant{};
  ReuseScope reuse_scope{};
  std::vector<TokenId> prompt;  // not empty, prompt + max_tokens <= context
  // Completion tokens of each choice, >= 0; 0 only with prompt logprobs or pooling.
  int32_t max_tokens = 0;
  // Drawing one of these ends the sequence; it is the last token delivered.
  std::vector<TokenId> stop_tokens;
  int32_t num_choices = 1;  // n; choice i draws with seed sampling.seed + i
  SamplingParams sampling;
  // What the choices draw must keep to, one a choice; empty: nothing.
  std::vector<std::shared_ptr<TokenMask>> masks;
  std::optional<int32_t> prompt_top_logprobs;  // echo with logprobs; computes the whole prompt
  // The prompt becomes an embedding, which comes with the PromptEvent; max_tokens is 0. kMean needs
  // every token computed, so nothing is reused and, as nobody would find it again, nothing kept.
  Pooling pooling = Pooling::kNone;
  bool reuse_prefix = true;  // false: neither match nor publish KV (for tests and comparisons)
  // Lower first, as in vLLM, among its tenant's; within the tenant's priority_max.
  int32_t priority = 0;
  bool offline = false;  // takes what others leave
  absl::Time arrival;

  // The agent program that the request is a turn of; empty: none. Its pin, if it has one, is
  // continued by the first request that shares its scope, and is gone once that one computes.
  std::string session;
  // After a good end the first choice's KV stays for the session's next turn until `ttl` is over,
  // room permitting (kvstore/pin_table.h). Needs a session.
  struct Retain {
    absl::Duration ttl;
    int32_t priority = 0;  // lower is more important
  };
  std::optional<Retain> retain;
  bool session_final = false;  // nothing of the session is kept beyond this request
  std::optional<ToolHint> tool_hint;
  // Without a hint: Scheduler::NameTool will tell what tool its first choice's answer calls, at
  // about the time when that choice ends.
  bool names_tool = false;
};

}  // namespace holdfast
