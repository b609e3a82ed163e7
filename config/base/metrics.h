// Counters, gauges and histograms on one registry, which /metrics prints in Prometheus' text form.
// Each room declares its own in one header and makes them at start from the registry handed to it.
// Names: holdfast_<room>_<what>_<unit>; base units (seconds, bytes, tokens); counters end in
// _total.
//
// Thread: Add*() on the control plane only (it waits for a scrape; throws on a bad name: a bug);
// the rest any, without a lock except Histogram (one short mutex inside prometheus-cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace holdfast {

using MetricLabels = std::map<std::string, std::string>;

class Counter final {
 public:
  void Add(double amount = 1.0);  // amount >= 0
  double value() const;

 private:
  friend class MetricsRegistry;
  explicit Counter(void* impl) : impl_(impl) {}
  void* impl_;
};

class Gauge final {
 public:
  void Set(double value);
  void Add(double amount);

 private:
  friend class MetricsRegistry;
  explicit Gauge(void* impl) : impl_(impl) {}
  void* impl_;
};

class Histogram final {
 public:
  void Observe(double value);

 private:
  friend class MetricsRegistry;
  explicit Histogram(void* impl) : impl_(impl) {}
  void* impl_;
};

// What becomes of a gauge whose label has a value beyond the bound (MetricsRegistry::BoundLabel).
enum class BeyondBound : uint8_t {
  kAdded,    // counts in the sum of them
  kLeftOut,  // a sum would say nothing: an estimate, a mean
};

class MetricsRegistry final {
 public:
  // The value of a bounded label that stands for all that have no series of their own.
  static constexpr char kOther[] = "other";

  MetricsRegistry();
  ~MetricsRegistry();
  MetricsRegistry(const MetricsRegistry&) = delete;

  // Of this one label the `values_max` values that are added first have series of their own; what
  // the others count is printed added up, as the value `other`, which has none of its own. Each
  // handle counts for itself as before. To be said before a metric with that label is added.
  void BoundLabel(const std::string& label, size_t values_max);

  // The same name and labels give the same metric again. Handles are cheap to copy and live as
  // long as the registry.
  Counter AddCounter(const std::string& name, const std::string& help, const MetricLabels& = {});
  Gauge AddGauge(const std::string& name, const std::string& help, const MetricLabels& = {},
                 BeyondBound = BeyondBound::kAdded);
  Histogram AddHistogram(const std::string& name, const std::string& help,
                         const std::vector<double>& buckets, const MetricLabels& = {});

  std::string Serialize() const;  // Prometheus text format 0.0.4

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// 1 ms to about 2 minutes, for TTFT, ITL, E2E and queue times.
std::vector<double> LatencyBuckets();

}  // namespace holdfast
