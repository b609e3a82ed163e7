#include "config/base/metrics.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/base/check.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace holdfast {

struct MetricsRegistry::Impl {
  // Merge: a second family of the same name is the first one.
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
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

Counter MetricsRegistry::AddCounter(const std::string& name, const std::string& help,
                                    const MetricLabels& labels) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  return Counter(&family.Add(labels));
}

Gauge MetricsRegistry::AddGauge(const std::string& name, const std::string& help,
                                const MetricLabels& labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  return Gauge(&family.Add(labels));
}

Histogram MetricsRegistry::AddHistogram(const std::string& name, const std::string& help,
                                        const std::vector<double>& buckets,
                                        const MetricLabels& labels) {
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  return Histogram(&family.Add(labels, buckets));
}

std::string MetricsRegistry::Serialize() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

std::vector<double> LatencyBuckets() {
  return {0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
          0.075, 0.1,   0.15,  0.2,   0.3,    0.5,  0.75,  1.0,  1.5,  2.0,
          3.0,   5.0,   7.5,   10.0,  15.0,   20.0, 30.0,  60.0, 120.0};
}

}  // namespace holdfast
