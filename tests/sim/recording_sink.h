// Keeps what the scheduler says, and stops the process where it breaks the contract of events.h: an
// event after the end, a second PromptEvent, a token before the prompt's event or after a choice's
// last.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "config/base/check.h"
#include "config/ids.h"
#include "scheduler/events.h"

namespace holdfast {

struct RecordedChoice {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> tops;
  std::optional<SequenceEnd> end;
  bool operator==(const RecordedChoice&) const = default;
};

struct RecordedRequest {
  std::optional<PromptEvent> prompt;
  std::map<int32_t, RecordedChoice> choices;
  std::optional<absl::Status> done;
  std::optional<absl::Duration> retry_after;
  StageTimes times;
};

class RecordingSink final : public TokenSink {
 public:
  void OnPrompt(PromptEvent event) override {
    RecordedRequest& request = requests_[event.request];
    CHECK(!request.done && !request.prompt);
    request.prompt = std::move(event);
  }
  void OnToken(TokenEvent event) override {
    RecordedRequest& request = requests_[event.request];
    CHECK(!request.done && request.prompt);
    RecordedChoice& choice = request.choices[event.choice];
    CHECK(!choice.end);
    choice.tokens.push_back(event.token);
    choice.logprobs.push_back(event.logprob);
    choice.tops.push_back(std::move(event.top));
    choice.end = event.end;
  }
  void OnDone(RequestDone event) override {
    RecordedRequest& request = requests_[event.request];
    CHECK(!request.done);
    request.done = std::move(event.status);
    request.retry_after = event.retry_after;
    request.times = std::move(event.times);
    order_done_.push_back(event.request);
  }

  const RecordedRequest& operator[](RequestId id) { return requests_[id]; }
  bool done(RequestId id) { return requests_[id].done.has_value(); }
  const std::vector<RequestId>& order_done() const { return order_done_; }

 private:
  std::map<RequestId, RecordedRequest> requests_;
  std::vector<RequestId> order_done_;
};

}  // namespace holdfast
