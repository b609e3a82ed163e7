#include "engine/json_document.h"

#include <cmath>
#include <limits>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "engine/load_error.h"

namespace holdfast {
namespace {

// Looked at before parsing, since a tree of any depth would be built first and judged then.
bool TooDeep(absl::string_view text) {
  int32_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kJsonDepthMax) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<JsonDocument> JsonDocument::Parse(absl::string_view text, std::string name) {
  if (TooDeep(text)) {
    return Malformed(name, "JSON: wanted at most ", kJsonDepthMax, " levels, found more");
  }
  using nlohmann::json;
  std::vector<absl::flat_hash_set<std::string>> keys;  // of the objects that are open
  std::string twice;
  const json::parser_callback_t callback = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && twice.empty()) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) twice = key;
    }
    return true;
  };
  json top = json::parse(text.begin(), text.end(), callback, /*allow_exceptions=*/false);
  if (top.is_discarded()) return Malformed(name, "wanted JSON, found something else");
  if (!twice.empty()) return Malformed(name, "key ", Quoted(twice), " occurs twice");
  if (!top.is_object()) return Malformed(name, "wanted a JSON object at the top");
  return JsonDocument(std::move(name), std::move(top));
}

const nlohmann::json* JsonDocument::Find(absl::string_view key) const {
  const auto found = top_.find(std::string(key));
  return found == top_.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<std::optional<int32_t>> JsonDocument::Count(absl::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  // nlohmann keeps what is not negative as unsigned.
  if (value->is_number_unsigned() &&
      value->get<uint64_t>() <= uint64_t{std::numeric_limits<int32_t>::max()}) {
    return static_cast<int32_t>(value->get<uint64_t>());
  }
  return Malformed(name_, Quoted(key), ": wanted an integer from 0 to 2147483647");
}

absl::StatusOr<std::optional<float>> JsonDocument::Number(absl::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (std::abs(number) <= std::numeric_limits<float>::max()) return static_cast<float>(number);
  }
  return Malformed(name_, Quoted(key), ": wanted a finite number");
}

absl::StatusOr<std::optional<bool>> JsonDocument::Flag(absl::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  return Malformed(name_, Quoted(key), ": wanted true or false");
}

absl::StatusOr<std::optional<std::string>> JsonDocument::Text(absl::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get_ref<const std::string&>();
  return Malformed(name_, Quoted(key), ": wanted a string");
}

absl::StatusOr<std::optional<JsonDocument>> JsonDocument::Object(absl::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) return Malformed(name_, Quoted(key), ": wanted an object");
  return JsonDocument(absl::StrCat(name_, " (", key, ")"), *value);
}

}  // namespace holdfast
