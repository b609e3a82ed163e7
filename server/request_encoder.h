// From a request's words to what the scheduler and the stream need: the prompt's tokens, the masks
// of an answer that is held to a form, and the marks by which its parts are told apart.
//
// Thread: any; on prompt workers, since a prompt may take long. Bound: the bytes that the context's
// tokens can spell; grammars as in grammars.h.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "config/ids.h"
#include "scheduler/request.h"
#include "server/choice_text.h"
#include "server/generation.h"
#include "server/grammars.h"
#include "server/reasoning.h"
#include "text/text.h"

namespace holdfast {

struct EncodedRequest {
  std::vector<TokenId> prompt;
  std::vector<std::shared_ptr<TokenMask>> masks;  // one a choice; empty: held to nothing
  AnswerMarks marks;
};

struct RequestEncoderOptions {
  GenerationService::ModelInfo model;
  std::vector<TokenId> eos_tokens;
};

class RequestEncoder final {
 public:
  // `chat_template` may be null: then chats are refused. References must outlive this.
  RequestEncoder(RequestEncoderOptions options, const Tokenizer& tokenizer,
                 const ChatTemplate* chat_template);

  // Empties what of `request` is not needed any more and sets its max_tokens. kInvalidArgument:
  // what is wrong with it.
  absl::StatusOr<EncodedRequest> Encode(GenerationRequest& request);

  absl::StatusOr<std::vector<TokenId>> EncodeText(const std::variant<ChatInput, std::string>& text,
                                                  bool add_special_tokens) const;
  absl::StatusOr<std::string> DecodeText(const std::vector<TokenId>& tokens) const;

 private:
  absl::Status EncodePrompt(GenerationRequest& request, std::vector<TokenId>& prompt) const;
  // `param`: how the caller names the chat.
  absl::Status EncodeChat(const ChatInput& input, absl::string_view param,
                          std::vector<TokenId>& prompt) const;
  // Refuses what is too long whatever its tokens are, before they are sought.
  absl::Status CheckBytes(absl::string_view parameter, size_t bytes) const;
  AnswerMarks MarksOf(const GenerationRequest& request, std::span<const TokenId> prompt) const;
  absl::StatusOr<std::shared_ptr<const Grammar>> GrammarOf(GenerationRequest& request);
  // Of one that is held to a grammar or to a bound on its reasoning.
  absl::Status MakeMasks(GenerationRequest& request, EncodedRequest& encoded);

  const RequestEncoderOptions options_;
  const Tokenizer& tokenizer_;
  const ChatTemplate* const chat_template_;
  const size_t prompt_bytes_max_;
  const std::vector<TokenId> tool_marks_;  // control tokens that are marks of tool calls
  const ReasoningTokens reasoning_tokens_;
  Grammars grammars_;
};

}  // namespace holdfast
