#include "server/chat_template_files.h"

#include <cstddef>
#include <fstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

constexpr size_t kTemplateFileBytesMax = 16 << 20;

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file.is_open() ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0 || static_cast<size_t>(size) > kTemplateFileBytesMax) {
    return absl::InvalidArgumentError(Concat(path, " cannot be read, or has more than ",
                                             kTemplateFileBytesMax,
                                             " bytes; the model's folder is not whole"));
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  file.read(text.data(), size);
  if (file.gcount() != size) {
    return absl::InvalidArgumentError(Concat(path, " cannot be read to its end"));
  }
  return text;
}

std::string StringOr(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// A token is written as its text or as {"content": text, ...}.
std::string TokenText(const nlohmann::json& config, const char* key) {
  const auto found = config.find(key);
  if (found != config.end() && found->is_object()) return StringOr(*found, "content");
  return StringOr(config, key);
}

// A template is written as its text or as [{"name": ..., "template": text}, ...].
std::string TemplateText(const nlohmann::json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end() || !found->is_array()) return StringOr(config, "chat_template");
  for (const nlohmann::json& entry : *found) {
    if (entry.is_object() && StringOr(entry, "name") == "default") {
      return StringOr(entry, "template");
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<ChatTemplateSource> ReadChatTemplateFiles(const std::string& tokenizer_config_path,
                                                         const std::string& chat_template_path) {
  ChatTemplateSource result;
  if (!tokenizer_config_path.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(tokenizer_config_path));
    const nlohmann::json config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      return absl::InvalidArgumentError(
          Concat(tokenizer_config_path, " is not a JSON object; the model's folder is not whole"));
    }
    result = {.source = TemplateText(config),
              .bos_token = TokenText(config, "bos_token"),
              .eos_token = TokenText(config, "eos_token")};
  }
  if (!chat_template_path.empty()) {
    ASSIGN_OR_RETURN(result.source, ReadSmallFile(chat_template_path));
  }
  return result;
}

}  // namespace holdfast
