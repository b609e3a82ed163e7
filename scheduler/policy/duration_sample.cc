#include "scheduler/policy/duration_sample.h"

#include <algorithm>
#include <numeric>

#include "config/base/check.h"

namespace holdfast {

DurationSample::DurationSample(size_t capacity) : capacity_(capacity) { CHECK(capacity > 0); }

void DurationSample::Add(double seconds) {
  CHECK(seconds >= 0);
  if (ring_.size() < capacity_) {
    ring_.push_back(seconds);
  } else {
    sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), ring_[next_]));
    ring_[next_] = seconds;
    next_ = (next_ + 1) % capacity_;
  }
  sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), seconds), seconds);
}

double DurationSample::mean() const {
  if (sorted_.empty()) return 0;
  return std::accumulate(sorted_.begin(), sorted_.end(), 0.0) / static_cast<double>(size());
}

double DurationSample::ShareWithin(double seconds) const {
  if (sorted_.empty()) return 0;
  const auto end = std::upper_bound(sorted_.begin(), sorted_.end(), seconds);
  return static_cast<double>(end - sorted_.begin()) / static_cast<double>(size());
}

double DurationSample::MeanUpTo(double seconds) const {
  if (sorted_.empty()) return 0;
  const auto end = std::upper_bound(sorted_.begin(), sorted_.end(), seconds);
  const double within = std::accumulate(sorted_.begin(), end, 0.0);
  return (within + static_cast<double>(sorted_.end() - end) * seconds) /
         static_cast<double>(size());
}

}  // namespace holdfast
