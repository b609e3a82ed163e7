// The tokenizer and the chat template of a model: what the engine found in its files, in the text
// room's terms. Neither room knows the other, so this sees both.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/weights.h"
#include "text/text.h"

namespace holdfast {

struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // null: the model has none
};

// From the GGUF arrays, else from tokenizer.json. kNotFound: the model's folder has none.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const VocabularySource& source);

// An empty source: the model has none. `own_path`: a file in place of the model's; empty: none.
// Reads small files only.
absl::StatusOr<ChatTemplateSource> FindChatTemplate(const VocabularySource& source,
                                                    const std::string& own_path = {});

// kInvalidArgument: tokenizer and model do not belong together, or the template is none.
absl::StatusOr<ModelText> LoadText(const LoadedModel& model, ChatTemplateSource chat);

}  // namespace holdfast
