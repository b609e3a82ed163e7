#include "workload/json_row.h"

#include <cmath>
#include <utility>

#include "workload/trace_rows.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

using nlohmann::json;

constexpr int kDepthMax = 16;

// Looked at before parsing: the tree is built first and could be judged only then.
bool TooDeep(const std::string& text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kDepthMax) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

std::optional<json> ParseJsonRow(const std::string& line) {
  if (TooDeep(line)) return std::nullopt;
  json row = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return std::nullopt;
  return row;
}

const json& FieldOf(const json& object, const char* key) {
  static const json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

std::optional<double> NumberOf(const json& value) {
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  if (!std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<int32_t> TokensOf(const json& value) {
  const std::optional<double> number = NumberOf(value);
  if (!number || *number < 0 || *number > kRequestTokensMax || *number != std::floor(*number)) {
    return std::nullopt;
  }
  return static_cast<int32_t>(*number);
}

std::optional<std::vector<double>> AmountsOf(const json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<double> amounts;
  for (const json& entry : value) {
    const std::optional<double> amount = NumberOf(entry);
    if (!amount || *amount < 0) return std::nullopt;
    amounts.push_back(*amount);
  }
  return amounts;
}

std::optional<std::string> TextOf(const json& value) {
  if (!value.is_string()) return std::nullopt;
  return PlainName(value.get_ref<const std::string&>());
}

}  // namespace holdfast
