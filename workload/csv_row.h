// Rows of comma-separated files, and their columns by name. Fields may be quoted ("a,b", with
// quotes in the places of whole fields only); a field never spans lines.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

inline constexpr size_t kColumnsMax = 256;  // further ones are not looked at

std::vector<std::string> SplitCsvRow(const std::string& line);

class CsvHeader final {
 public:
  explicit CsvHeader(const std::string& line);

  // The column with one of these names. They are compared in lower case and without spaces and
  // underscores: "Request tokens" is request_tokens is RequestTokens.
  std::optional<size_t> Find(std::initializer_list<std::string_view> names) const;

 private:
  std::vector<std::string> names_;  // lower case, without spaces and underscores
};

// Whole text is a number, finite.
std::optional<double> ParseNumber(const std::string& text);
// A count from 0 to kRequestTokensMax, also written as 12.0.
std::optional<int32_t> ParseTokens(const std::string& text);

}  // namespace holdfast
