#include "server/model_text.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/ids.h"

namespace holdfast {

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const VocabularySource& source) {
  if (source.gguf_model.empty()) {
    if (source.tokenizer_json_path.empty()) {
      return absl::NotFoundError(
          "the model's folder has no tokenizer.json; put the one of the model there, or serve a "
          "GGUF file, which has its vocabulary in it");
    }
    return Tokenizer::FromJsonFile(source.tokenizer_json_path);
  }
  return Tokenizer::FromGguf({.model = source.gguf_model,
                              .pre = source.gguf_pre,
                              .tokens = &source.tokens,
                              .token_types = &source.token_types,
                              .scores = &source.scores,
                              .merges = &source.merges,
                              .add_bos = source.add_bos,
                              .add_eos = source.add_eos,
                              .add_space_prefix = source.add_space_prefix,
                              .bos = source.bos.value_or(-1),
                              .eos = source.eos.value_or(-1),
                              .unknown = source.unknown.value_or(-1),
                              .padding = source.padding.value_or(-1)});
}

absl::StatusOr<ChatTemplateSource> FindChatTemplate(const VocabularySource& source,
                                                    const std::string& own_path) {
  if (source.gguf_model.empty() || !own_path.empty()) {
    return LoadHuggingFaceChatTemplate(source.tokenizer_config_path,
                                       own_path.empty() ? source.chat_template_path : own_path);
  }
  return ChatTemplateSource{.source = source.chat_template};
}

absl::StatusOr<ModelText> LoadText(const LoadedModel& model, ChatTemplateSource chat) {
  const VocabularySource& source = model.vocabulary;
  ModelText text;
  ASSIGN_OR_RETURN(text.tokenizer, MakeTokenizer(source));
  if (text.tokenizer->vocab_size() > model.config.vocab_size) {
    return absl::InvalidArgumentError(Concat("the tokenizer has ", text.tokenizer->vocab_size(),
                                             " tokens, the model ", model.config.vocab_size,
                                             "; they do not belong together"));
  }
  if (chat.source.empty()) return text;
  const auto text_of = [&](std::optional<TokenId> token) {
    return token ? std::string(text.tokenizer->TokenBytes(*token)) : std::string();
  };
  if (chat.bos_token.empty()) {
    chat.bos_token = text_of(source.bos ? source.bos : model.config.bos_token);
  }
  if (chat.eos_token.empty()) {
    std::optional<TokenId> eos = source.eos;
    if (!eos && !model.config.eos_tokens.empty()) eos = model.config.eos_tokens.front();
    chat.eos_token = text_of(eos);
  }
  ASSIGN_OR_RETURN(text.chat_template, ChatTemplate::Create(chat, *text.tokenizer));
  return text;
}

}  // namespace holdfast
