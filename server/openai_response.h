// Generation events as OpenAI's answer objects: one JSON body, or the events of an SSE stream. Both
// take the events of all prompts of one call in any interleaving.
//
//   stream, chat:   role chunk per choice, chunks of content and of tool calls, one chunk with
//                   finish_reason per choice, [usage chunk], data: [DONE]
//   stream, text:   [echoed prompt], text chunks, finish_reason, [usage chunk], data: [DONE]
//
// A token that is no UTF-8 by itself shows U+FFFD in chat logprobs, where `bytes` tells the truth,
// and "bytes:\xe2\x9c" in the older completions form, where the text is a key.
//
// Thread: one call's answer is made by one thread. Bound: holds the answer's text and logprobs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/answer_writer.h"
#include "server/generation.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/openai_codec.h"

namespace holdfast {

struct AnswerHead {
  std::string id;  // "chatcmpl-..." or "cmpl-..."
  int64_t created_unix = 0;
  std::string model;
  std::string system_fingerprint;                  // empty: left out
  std::function<std::string(TokenId)> token_text;  // bytes of a token
};

// Each token with its bytes and alternatives, as chat and responses have them.
void AppendChatLogprobs(const std::vector<TokenTextWithTop>& tokens, Json& list);

// What a call has used so far, over all its prompts.
class UsageCount final {
 public:
  explicit UsageCount(int32_t num_prompts) : prompts_(num_prompts) {}
  void Add(int32_t prompt, const GenerationEvent& event);
  Json ToJson() const;

 private:
  struct OfPrompt {
    int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
    std::optional<absl::Duration> kept_for;
  };
  std::vector<OfPrompt> prompts_;
};

// Logprobs of the older completions form: four parallel lists. `text_offset` counts characters
// from the start of the choice's text, the echoed prompt included; a token that the text does not
// show is where the next begins.
class LegacyLogprobs final {
 public:
  void AddPrompt(const PromptInfo& prompt, const AnswerHead& head);
  void Add(const TokenTextWithTop& token);
  Json Take();  // what was added since the last Take; offsets go on

 private:
  void Append(const TokenTextWithTop& token, int64_t offset);
  void Append(const std::string& bytes, Json logprob, Json top, int64_t offset);

  int64_t offset_ = 0;  // of what comes next
  Json tokens_ = Json::array(), token_logprobs_ = Json::array(), top_logprobs_ = Json::array(),
       offsets_ = Json::array();
};

// Not streamed: gathers everything, then one body.
class AnswerBody final : public AnswerBodyWriter {
 public:
  AnswerBody(AnswerHead head, const AnswerShape& shape);
  void Add(int32_t prompt, GenerationEvent&& event) override;
  std::string Finish() override;

 private:
  struct Choice {
    std::string reasoning, text;
    std::vector<ToolCallDelta> tool_calls;  // whole
    Json chat_logprobs = Json::array();
    LegacyLogprobs legacy_logprobs;
    FinishReason finish = FinishReason::kStop;
  };
  Json ChoiceJson(int32_t index, Choice& choice) const;
  Json MessageJson(Choice& choice) const;

  const AnswerHead head_;
  const AnswerShape shape_;
  UsageCount usage_;
  std::vector<Choice> choices_;
};

// Streamed.
class AnswerStream final : public AnswerStreamWriter {
 public:
  AnswerStream(AnswerHead head, const AnswerShape& shape);
  void Append(int32_t prompt, GenerationEvent&& event, std::string& sse) override;
  void AppendEnd(std::string& sse) override;  // usage, if asked for, and [DONE]
  void AppendError(const OpenAiError& error, std::string& sse) const override;

 private:
  void AppendChunk(int32_t index, absl::string_view delta, const Json& logprobs,
                   absl::string_view finish, std::string& sse);
  void AppendPrompt(int32_t prompt, const PromptInfo& info, std::string& sse);
  void AppendDelta(int32_t prompt, const ChoiceDelta& delta, std::string& sse);
  void AppendToolCalls(int32_t index, const std::vector<ToolCallDelta>& calls, std::string& sse);

  const AnswerHead head_;
  const AnswerShape shape_;
  const std::string opening_;  // of every chunk, up to "choices":
  UsageCount usage_;
  std::vector<LegacyLogprobs> legacy_logprobs_;  // by choice index
};

}  // namespace holdfast
