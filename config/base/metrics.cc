#include "config/base/metrics.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "config/base/check.h"
#include "config/base/mutex.h"
#include "prometheus/client_metric.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/metric_family.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace holdfast {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;

// Both of one family, so that their buckets are the same.
void AddTo(prometheus::ClientMetric& sum, const prometheus::ClientMetric& part) {
  sum.counter.value += part.counter.value;
  sum.gauge.value += part.gauge.value;
  sum.histogram.sample_count += part.histogram.sample_count;
  sum.histogram.sample_sum += part.histogram.sample_sum;
  CHECK(sum.histogram.bucket.size() == part.histogram.bucket.size());
  for (size_t i = 0; i < sum.histogram.bucket.size(); ++i) {
    sum.histogram.bucket[i].cumulative_count += part.histogram.bucket[i].cumulative_count;
  }
}

}  // namespace

struct MetricsRegistry::Impl {
  // Merge: a second family of the same name is the first one.
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};

  std::string bounded_label;  // empty: none
  size_t values_max = 0;
  mutable Mutex mutex;
  std::set<std::string> own ABSL_GUARDED_BY(mutex);       // values with series of their own
  std::set<std::string> left_out ABSL_GUARDED_BY(mutex);  // names of gauges

  void Note(const MetricLabels& labels) {
    const auto found = labels.find(bounded_label);
    if (found == labels.end() || found->second == kOther) return;
    MutexLock lock(&mutex);
    if (own.size() < values_max) own.insert(found->second);
  }

  // Puts the sum of the metrics of values beyond the bound in their place.
  void AddUp(prometheus::MetricFamily& family) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::map<Labels, prometheus::ClientMetric> sums;  // by the labels of the sum
    const auto taken = [&](prometheus::ClientMetric& metric) {
      for (auto& label : metric.label) {
        if (label.name != bounded_label || own.contains(label.value)) continue;
        if (left_out.contains(family.name)) return true;
        label.value = kOther;
        const auto [sum, is_first] = sums.emplace(metric.label, metric);
        if (!is_first) AddTo(sum->second, metric);
        return true;
      }
      return false;
    };
    std::erase_if(family.metric, taken);
    for (auto& [labels, sum] : sums) family.metric.push_back(std::move(sum));
  }
};

void Counter::Add(double amount) {
  DCHECK(amount >= 0.0);
  static_cast<prometheus::Counter*>(impl_)->Increment(amount);
}

double Counter::value() const { return static_cast<prometheus::Counter*>(impl_)->Value(); }

void Gauge::Set(double value) { static_cast<prometheus::Gauge*>(impl_)->Set(value); }

void Gauge::Add(double amount) {
  // Increment with a negative amount is ignored by some versions of the library; be explicit.
  auto* gauge = static_cast<prometheus::Gauge*>(impl_);
  if (amount >= 0.0) {
    gauge->Increment(amount);
  } else {
    gauge->Decrement(-amount);
  }
}

void Histogram::Observe(double value) {
  static_cast<prometheus::Histogram*>(impl_)->Observe(value);
}

MetricsRegistry::MetricsRegistry() : impl_(std::make_unique<Impl>()) {}
MetricsRegistry::~MetricsRegistry() = default;

void MetricsRegistry::BoundLabel(const std::string& label, size_t values_max) {
  CHECK(impl_->bounded_label.empty() && !label.empty());
  impl_->bounded_label = label;
  impl_->values_max = values_max;
}

Counter MetricsRegistry::AddCounter(const std::string& name, const std::string& help,
                                    const MetricLabels& labels) {
  impl_->Note(labels);
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  return Counter(&family.Add(labels));
}

Gauge MetricsRegistry::AddGauge(const std::string& name, const std::string& help,
                                const MetricLabels& labels, BeyondBound beyond) {
  if (beyond == BeyondBound::kLeftOut) {
    MutexLock lock(&impl_->mutex);
    impl_->left_out.insert(name);
  }
  impl_->Note(labels);
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  return Gauge(&family.Add(labels));
}

Histogram MetricsRegistry::AddHistogram(const std::string& name, const std::string& help,
                                        const std::vector<double>& buckets,
                                        const MetricLabels& labels) {
  impl_->Note(labels);
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  return Histogram(&family.Add(labels, buckets));
}

std::string MetricsRegistry::Serialize() const {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  if (!impl_->bounded_label.empty()) {
    MutexLock lock(&impl_->mutex);
    for (prometheus::MetricFamily& family : families) impl_->AddUp(family);
  }
  return prometheus::TextSerializer().Serialize(families);
}

std::vector<double> LatencyBuckets() {
  return {0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
          0.075, 0.1,   0.15,  0.2,   0.3,    0.5,  0.75,  1.0,  1.5,  2.0,
          3.0,   5.0,   7.5,   10.0,  15.0,   20.0, 30.0,  60.0, 120.0};
}

}  // namespace holdfast
