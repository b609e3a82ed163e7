#include "workload/csv_row.h"

#include <boost/tokenizer.hpp>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

std::string Plain(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c != ' ' && c != '_' && c != '\t') plain.push_back(absl::ascii_tolower(c));
  }
  return plain;
}

}  // namespace

std::vector<std::string> SplitCsvRow(const std::string& line) {
  // Without escape characters: the library throws on an escape that it does not know.
  using Separator = boost::escaped_list_separator<char>;
  const Separator separator(std::string(), std::string(","), std::string("\""));
  const boost::tokenizer<Separator> fields(line, separator);
  std::vector<std::string> row;
  for (const std::string& field : fields) {
    if (row.size() == kColumnsMax) break;
    row.push_back(field);
  }
  return row;
}

CsvHeader::CsvHeader(const std::string& line) {
  for (const std::string& name : SplitCsvRow(line)) names_.push_back(Plain(name));
}

std::optional<size_t> CsvHeader::Find(std::initializer_list<std::string_view> names) const {
  for (const std::string_view name : names) {
    const std::string plain = Plain(name);
    for (size_t column = 0; column < names_.size(); ++column) {
      if (names_[column] == plain) return column;
    }
  }
  return std::nullopt;
}

std::optional<double> ParseNumber(const std::string& text) {
  double number = 0;
  if (!absl::SimpleAtod(text, &number) || !std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<int32_t> ParseTokens(const std::string& text) {
  const std::optional<double> number = ParseNumber(text);
  if (!number || *number < 0 || *number > kRequestTokensMax || *number != std::floor(*number)) {
    return std::nullopt;
  }
  return static_cast<int32_t>(*number);
}

}  // namespace holdfast
