// Rows of JSON-lines files: parsed without exceptions and to a bounded depth, read by checked
// look-ups.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace holdfast {

// The object that the line holds. Nothing: not JSON, no object, or nested deeper than traces are.
std::optional<nlohmann::json> ParseJsonRow(const std::string& line);

// The value under the key; JSON null for none, and for null.
const nlohmann::json& FieldOf(const nlohmann::json& object, const char* key);

// Nothing: the value is none of that. Finite numbers; counts from 0 to kRequestTokensMax; numbers
// of at least zero.
std::optional<double> NumberOf(const nlohmann::json& value);
std::optional<int32_t> TokensOf(const nlohmann::json& value);
std::optional<std::vector<double>> AmountsOf(const nlohmann::json& value);
std::optional<std::string> TextOf(const nlohmann::json& value);  // as PlainName has it

}  // namespace holdfast
