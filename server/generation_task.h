// One request at work on a stream worker: its choices, its end of the stream, and what it has used.
//
//   made ──► events of the scheduler ──► all choices ended ──► End(ok)
//                      └──► cancelled, timed out, device lost ──► End(status)
//
// End is what the client sees and happens once; the task itself stays until the scheduler has said
// RequestDone, since its sequences may hold blocks until then.
//
// Thread: its stream worker's alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/events.h"
#include "server/choice_text.h"
#include "server/generation.h"
#include "server/generation_metrics.h"
#include "server/token_stream.h"
#include "text/text.h"

namespace holdfast {

class GenerationTask final {
 public:
  // `prompt`: the request's tokens. `request.max_tokens` is set.
  // `marks`: see ChoiceText.
  GenerationTask(RequestId id, GenerationRequest request, std::vector<TokenId> prompt,
                 StreamWriter writer, const Tokenizer& tokenizer, TenantGenerationMetrics& metrics,
                 const AnswerMarks& marks = {});

  void OnPrompt(PromptEvent event);
  // True: the token completed a stop string, so that its choice has ended and its sequence not.
  bool OnToken(TokenEvent event, absl::Time at);
  // Before the first token: which tools the first choice calls is wanted.
  void ReadTools(ToolCallFormat format) { choices_.front().ReadTools(format); }
  // Then, once after that choice has ended: their name (tool_names.h), empty: none is called.
  std::optional<std::string> TakeTool();
  // The KV stays for the session's next turn. Before End.
  void OnPinned() { pinned_ = true; }
  // Nothing is to be computed: answers with the prompt alone.
  void AnswerWithoutTokens();

  // Ends the stream, once; kOk ends what choices are open with FinishReason::kLength.
  void End(absl::Status status);

  RequestId id() const { return id_; }
  const GenerationRequest& request() const { return request_; }
  const std::vector<TokenId>& prompt() const { return prompt_; }
  bool all_choices_ended() const;      // as the client sees them
  bool has_running_sequence() const {  // as the scheduler does
    return num_ended_sequences_ < request_.num_choices;
  }
  bool ended() const { return ended_; }
  bool reader_gone() const { return reader_gone_; }
  int32_t cached_tokens() const { return cached_tokens_; }
  int32_t completion_tokens() const;
  absl::Time first_token_at() const { return first_token_at_; }  // InfinitePast: none has come

 private:
  void Send(GenerationEvent event);
  void SpellPrompt(PromptInfo& info) const;
  TokenTextWithTop Describe(const PromptEvent::TokenWithTop& token) const;
  TokenText Describe(const TokenLogprob& token) const;

  const RequestId id_;
  const GenerationRequest request_;
  const std::vector<TokenId> prompt_;
  StreamWriter writer_;
  const Tokenizer& tokenizer_;
  TenantGenerationMetrics& metrics_;
  std::vector<ChoiceText> choices_;
  std::vector<absl::Time> last_token_at_;  // by choice; InfinitePast before the first
  absl::Time first_token_at_ = absl::InfinitePast();
  bool tool_taken_ = false;
  int32_t num_ended_sequences_ = 0;
  int32_t cached_tokens_ = 0;
  bool pinned_ = false;
  bool ended_ = false;
  bool reader_gone_ = false;
};

}  // namespace holdfast
