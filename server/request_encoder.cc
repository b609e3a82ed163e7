#include "server/request_encoder.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "server/detokenizer.h"
#include "server/http_status.h"
#include "server/request_validator.h"

namespace holdfast {
namespace {

// More bytes than `context` tokens can spell. Threefold, since a normaliser may shorten a text
// (NFC: three bytes to one at most) and JSON lengthens one by its escapes.
size_t PromptBytesMax(const Tokenizer& tokenizer, int32_t context) {
  constexpr size_t kNormaliserShrink = 3;
  size_t longest = 1;
  for (TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    longest = std::max(longest, tokenizer.TokenBytes(token).size());
  }
  return kNormaliserShrink * longest * static_cast<size_t>(std::max(context, 1));
}

std::vector<TokenId> ControlTokens(const Tokenizer& tokenizer, const ToolCallSyntax& syntax) {
  std::vector<TokenId> tokens;
  for (TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    if (!tokenizer.IsSpecial(token)) continue;
    const std::string_view text = tokenizer.TokenBytes(token);
    const bool is_mark =
        text == syntax.open || text == syntax.close || text == syntax.arguments_mark;
    if (is_mark && !text.empty()) tokens.push_back(token);
  }
  return tokens;
}

absl::Status CheckVocabulary(const std::vector<TokenId>& tokens, int32_t vocab_size) {
  for (const TokenId token : tokens) {
    if (token < 0 || token >= vocab_size) {
      return ParameterError("prompt", "invalid_value",
                            absl::StrCat("prompt has the token ", token,
                                         "; the model's vocabulary ends before ", vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace

RequestEncoder::RequestEncoder(RequestEncoderOptions options, const Tokenizer& tokenizer,
                               const ChatTemplate* chat_template)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      chat_template_(chat_template),
      prompt_bytes_max_(PromptBytesMax(tokenizer, options_.model.context_tokens)),
      tool_marks_(ControlTokens(tokenizer, SyntaxOf(options_.model.tool_calls))),
      reasoning_tokens_(options_.model.reasoning == nullptr
                            ? ReasoningTokens()
                            : FindReasoningTokens(*options_.model.reasoning, tokenizer)),
      grammars_(tokenizer, options_.model.vocab_size, options_.eos_tokens) {}

absl::StatusOr<EncodedRequest> RequestEncoder::Encode(GenerationRequest& request) {
  EncodedRequest encoded;
  RETURN_IF_ERROR(EncodePrompt(request, encoded.prompt));
  RETURN_IF_ERROR(FitToContext(request, static_cast<int64_t>(encoded.prompt.size()),
                               options_.model.context_tokens));
  encoded.marks = MarksOf(request, encoded.prompt);
  RETURN_IF_ERROR(MakeMasks(request, encoded));
  return encoded;
}

absl::StatusOr<std::shared_ptr<const Grammar>> RequestEncoder::GrammarOf(
    GenerationRequest& request) {
  const AnswerGrammar asked = *std::exchange(request.grammar, std::nullopt);
  absl::StatusOr<std::shared_ptr<const Grammar>> grammar =
      grammars_.Of(request.tenant, asked.source);
  if (grammar.ok() || !absl::IsInvalidArgument(grammar.status())) return grammar;
  const absl::string_view what = grammar.status().message();
  // Of several tools it is said which one: "tools[1]: ...".
  const size_t place = absl::StartsWith(what, "tools[") ? what.find(": ") : what.npos;
  if (place == what.npos) {
    return ParameterError(asked.param, "invalid_value", absl::StrCat(asked.param, ": ", what));
  }
  const std::string param =
      absl::StrCat(what.substr(0, place), ".", request.names->tool_parameters);
  return ParameterError(param, "invalid_value", absl::StrCat(param, what.substr(place)));
}

absl::Status RequestEncoder::MakeMasks(GenerationRequest& request, EncodedRequest& encoded) {
  const AnswerMarks& marks = encoded.marks;
  const bool bounds_reasoning =
      marks.reasoning != nullptr && request.reasoning_tokens_max.has_value();
  std::shared_ptr<const Grammar> grammar;
  if (request.grammar.has_value()) {
    ASSIGN_OR_RETURN(grammar, GrammarOf(request));
  } else if (!bounds_reasoning) {
    return absl::OkStatus();
  }
  for (int32_t i = 0; i < request.num_choices; ++i) {
    std::unique_ptr<TokenConstraint> constraint;
    if (grammar != nullptr) {
      ASSIGN_OR_RETURN(constraint, Grammars::ConstraintOf(*grammar));
    }
    if (marks.reasoning != nullptr) {
      constraint = MakeReasoningConstraint({.marks = marks.reasoning,
                                            .tokens = &reasoning_tokens_,
                                            .tokenizer = &tokenizer_,
                                            .ends = options_.eos_tokens,
                                            .vocab_size = options_.model.vocab_size,
                                            .begun = marks.reasoning_begun,
                                            .budget = request.reasoning_tokens_max},
                                           std::move(constraint));
    }
    encoded.masks.push_back(
        std::make_shared<TokenMask>(std::move(constraint), options_.model.vocab_size));
  }
  return absl::OkStatus();
}

AnswerMarks RequestEncoder::MarksOf(const GenerationRequest& request,
                                    std::span<const TokenId> prompt) const {
  AnswerMarks marks;
  if (request.tool_calls.has_value()) marks.controls = tool_marks_;
  if (!request.parts_reasoning || options_.model.reasoning == nullptr) return marks;
  marks.reasoning = options_.model.reasoning;
  marks.reasoning_begun = EndsWithMark(prompt, marks.reasoning->open, tokenizer_);
  marks.controls.insert(marks.controls.end(), reasoning_tokens_.controls.begin(),
                        reasoning_tokens_.controls.end());
  return marks;
}

absl::Status RequestEncoder::EncodePrompt(GenerationRequest& request,
                                          std::vector<TokenId>& prompt) const {
  if (auto* tokens = std::get_if<std::vector<TokenId>>(&request.prompt)) {
    prompt = std::exchange(*tokens, {});
    return CheckVocabulary(prompt, options_.model.vocab_size);
  }
  if (auto* chat = std::get_if<ChatInput>(&request.prompt)) {
    const ChatInput input = std::exchange(*chat, {});  // up to megabytes: not kept while it runs
    return EncodeChat(input, request.names->prompt, prompt);
  }
  auto& text = std::get<std::string>(request.prompt);
  RETURN_IF_ERROR(CheckBytes(PromptParam(request), text.size()));
  RETURN_IF_ERROR(tokenizer_.Encode(text, SpecialTokens::kPlain, /*add_bos_eos=*/true, prompt));
  if (!request.echo) text = {};
  return absl::OkStatus();
}

absl::Status RequestEncoder::EncodeChat(const ChatInput& input, absl::string_view param,
                                        std::vector<TokenId>& prompt) const {
  if (chat_template_ == nullptr) {
    return ParameterError(param, "no_chat_template",
                          "the model has no chat template; use completions");
  }
  RETURN_IF_ERROR(CheckBytes(param, input.messages_json.size()));
  absl::Status status = chat_template_->Encode(input, prompt);
  if (absl::IsInvalidArgument(status) && !status.GetPayload(kErrorParamUrl).has_value()) {
    return ParameterError(param, "chat_template_error", status.message());
  }
  return status;
}

absl::StatusOr<std::vector<TokenId>> RequestEncoder::EncodeText(
    const std::variant<ChatInput, std::string>& text, bool add_special_tokens) const {
  std::vector<TokenId> tokens;
  if (const auto* chat = std::get_if<ChatInput>(&text)) {
    RETURN_IF_ERROR(EncodeChat(*chat, kChatNames.prompt, tokens));
  } else {
    const std::string& plain = std::get<std::string>(text);
    RETURN_IF_ERROR(CheckBytes("prompt", plain.size()));
    RETURN_IF_ERROR(tokenizer_.Encode(plain, SpecialTokens::kPlain, add_special_tokens, tokens));
  }
  return tokens;
}

absl::StatusOr<std::string> RequestEncoder::DecodeText(const std::vector<TokenId>& tokens) const {
  RETURN_IF_ERROR(CheckVocabulary(tokens, options_.model.vocab_size));
  Detokenizer detokenizer(tokenizer_, SpecialText::kShow, FirstSpace::kDrop);
  std::string text;
  for (const TokenId token : tokens) detokenizer.Append(token, text);
  detokenizer.Finish(text);
  return text;
}

absl::Status RequestEncoder::CheckBytes(absl::string_view parameter, size_t bytes) const {
  if (bytes <= prompt_bytes_max_) return absl::OkStatus();
  return ParameterError(parameter, "context_length_exceeded",
                        absl::StrCat(parameter, " has ", bytes, " bytes; the model takes ",
                                     options_.model.context_tokens, " tokens, which are ",
                                     prompt_bytes_max_, " bytes at most; shorten it"));
}

}  // namespace holdfast
