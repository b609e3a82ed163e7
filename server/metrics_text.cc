#include "server/metrics_text.h"

#include <algorithm>
#include <optional>

#include "absl/strings/numbers.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

// Takes `{a="b",c="d"}` off the front of `rest`; a value has \\, \" and \n for what would end it.
bool TakeLabels(std::string_view& rest, std::map<std::string, std::string>& labels) {
  rest.remove_prefix(1);
  while (!rest.starts_with('}')) {
    const size_t equals = rest.find("=\"");
    if (equals == std::string_view::npos) return false;
    std::string& value = labels[std::string(rest.substr(0, equals))];
    size_t i = equals + 2;
    for (; i < rest.size() && rest[i] != '"'; ++i) {
      const bool escaped = rest[i] == '\\';
      if (escaped && ++i == rest.size()) return false;
      value += escaped && rest[i] == 'n' ? '\n' : rest[i];
    }
    if (i == rest.size()) return false;
    rest.remove_prefix(i + 1);
    if (rest.starts_with(',')) rest.remove_prefix(1);
  }
  rest.remove_prefix(1);
  return true;
}

// Of a line whose name ends at `name_end`.
std::optional<MetricSample> SampleOf(std::string_view line, size_t name_end) {
  MetricSample sample{.name = std::string(line.substr(0, name_end))};
  std::string_view rest = line.substr(name_end);
  if (rest.starts_with('{') && !TakeLabels(rest, sample.labels)) return std::nullopt;
  if (!rest.starts_with(' ')) return std::nullopt;
  rest.remove_prefix(1);
  const std::string_view value = rest.substr(0, rest.find(' '));  // a time may follow
  if (!absl::SimpleAtod(AbslView(value), &sample.value)) return std::nullopt;
  return sample;
}

}  // namespace

std::string MetricSample::Label(const std::string& label) const {
  const auto found = labels.find(label);
  return found == labels.end() ? "" : found->second;
}

void ReadMetrics(std::string_view text, const std::function<bool(std::string_view name)>& wants,
                 const std::function<void(const MetricSample&)>& take) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t name_end = line.find_first_of("{ ");
    if (name_end == 0 || name_end == std::string_view::npos || !wants(line.substr(0, name_end)))
      continue;
    if (const auto sample = SampleOf(line, name_end)) take(*sample);
  }
}

}  // namespace holdfast
