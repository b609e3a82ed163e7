// What a registry would tell a scrape, as numbers by name and labels.
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "config/base/metrics.h"

namespace holdfast {

class MetricValues final {
 public:
  explicit MetricValues(const MetricsRegistry& registry) {
    std::istringstream lines(registry.Serialize());
    for (std::string line; std::getline(lines, line);) {
      const size_t space = line.rfind(' ');
      if (line.starts_with('#') || space == std::string::npos) continue;
      values_.emplace(line.substr(0, space), std::stod(line.substr(space + 1)));
    }
  }

  // The sum over all series of `name` whose labels contain each of `labels`, such as tier="host".
  double Sum(std::string_view name, const std::vector<std::string>& labels = {}) const {
    double sum = 0;
    for (const auto& [series, value] : values_) {
      if (series.substr(0, series.find('{')) != name) continue;
      bool has_all = true;
      for (const std::string& label : labels) has_all &= series.find(label) != std::string::npos;
      if (has_all) sum += value;
    }
    return sum;
  }

 private:
  std::map<std::string, double> values_;
};

}  // namespace holdfast
