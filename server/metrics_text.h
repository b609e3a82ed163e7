// Prometheus' text format, as far as /metrics writes it: the samples of some metrics.
//
// Thread: any; pure. Bound: the text's.
// Source: "Exposition formats", Prometheus' documentation, version 0.0.4 of the text.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace holdfast {

struct MetricSample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;

  std::string Label(const std::string& label) const;  // empty: it has none
};

// Of the metrics that `wants`; what is no such line is passed over.
void ReadMetrics(std::string_view text, const std::function<bool(std::string_view name)>& wants,
                 const std::function<void(const MetricSample&)>& take);

}  // namespace holdfast
