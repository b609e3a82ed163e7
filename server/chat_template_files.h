// The chat template of a Hugging Face folder and the texts of its end tokens, read from
// tokenizer_config.json and chat_template.jinja.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace holdfast {

struct ChatTemplateSource {
  std::string source;                // Jinja; empty: the model has none
  std::string bos_token, eos_token;  // empty: not told
};

// Empty paths are files that the folder lacks. A jinja file wins over the template in the JSON; of
// several named templates there, the one named `default` counts. kInvalidArgument names the file.
absl::StatusOr<ChatTemplateSource> ReadChatTemplateFiles(const std::string& tokenizer_config_path,
                                                         const std::string& chat_template_path);

}  // namespace holdfast
