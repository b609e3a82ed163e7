// What comes back from the scheduler for a request. Events of one choice arrive in order and are
// neither lost nor repeated, also across preemption.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/ids.h"
#include "engine/step_plan.h"

namespace holdfast {

// kStopToken: a stop token was drawn (delivered as the last token). kLength: max_tokens or context.
enum class SequenceEnd : uint8_t { kStopToken, kLength };

// One drawn token of one choice.
struct TokenEvent {
  RequestId request{};
  int32_t choice = 0;
  TokenId token = 0;
  float logprob = 0.0f;            // with sampling.top_logprobs
  std::vector<TokenLogprob> top;   // likewise; best first
  std::optional<SequenceEnd> end;  // set on the choice's last token
};

// Sent once before the first token: how much of the prompt needed no prefill; and logprobs of
// prompt tokens 1.. when asked for (entry i belongs to prompt token i + 1); and with
// Request::pooling the pooled state.
struct PromptEvent {
  RequestId request{};
  int32_t cached_tokens = 0;
  struct TokenWithTop {
    TokenLogprob chosen;
    std::vector<TokenLogprob> top;
  };
  std::vector<TokenWithTop> prompt_logprobs;
  std::vector<float> pooled;
};

// When a request came to its stages, as absl::InfinitePast where it did not.
struct StageTimes {
  absl::Time admitted = absl::InfinitePast();  // its first choice left the queue
  absl::Time restored = absl::InfinitePast();  // what that then found in lower tiers was back
  int64_t restored_tokens = 0;
  // The turn before of its session had ended, with a call of `tool`.
  absl::Time tool_called = absl::InfinitePast();
  std::string tool;
};

// The request is over: all choices ended (ok), cancelled (kCancelled), shed (kResourceExhausted),
// the model gave no finite number for it (kInternal) or the device failed (kUnavailable). Always
// the last event; its blocks are back already.
struct RequestDone {
  RequestId request{};
  absl::Status status;
  bool pinned = false;  // its KV is kept for the session's next turn (Request::retain)
  std::optional<absl::Duration> retry_after;  // shed: when room is to be expected
  StageTimes times;
};

// Where the scheduler's thread puts events. Must not block; bounded per request by the receiver.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnPrompt(PromptEvent event) = 0;
  virtual void OnToken(TokenEvent event) = 0;
  virtual void OnDone(RequestDone event) = 0;
};

}  // namespace holdfast
