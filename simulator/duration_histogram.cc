#include "simulator/duration_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {

// Below 2^kSubBits each value has its own bucket; above, each octave has 2^kSubBits of them.
size_t DurationHistogram::BucketOf(uint64_t value) {
  if (value < uint64_t{1} << kSubBits) return value;
  const int shift = std::bit_width(value) - 1 - kSubBits;
  return (static_cast<size_t>(shift) << kSubBits) + static_cast<size_t>(value >> shift);
}

double DurationHistogram::MiddleOf(size_t bucket) {
  if (bucket < size_t{2} << kSubBits) return static_cast<double>(bucket);
  const size_t shift = (bucket >> kSubBits) - 1;
  const size_t leading = bucket - (shift << kSubBits);
  return std::ldexp(static_cast<double>(leading) + 0.5, static_cast<int>(shift));
}

void DurationHistogram::Cover(size_t first, size_t end) {
  if (counts_.empty()) first_ = first;
  if (first < first_) {
    counts_.insert(counts_.begin(), first_ - first, 0);
    first_ = first;
  }
  if (end > first_ + counts_.size()) counts_.resize(end - first_);
}

void DurationHistogram::Add(int64_t nanos) {
  CHECK(nanos >= 0);
  const size_t bucket = BucketOf(static_cast<uint64_t>(nanos));
  if (bucket < first_ || bucket >= first_ + counts_.size()) Cover(bucket, bucket + 1);
  ++counts_[bucket - first_];
  min_ = count_ == 0 ? nanos : std::min(min_, nanos);
  max_ = std::max(max_, nanos);
  sum_ += nanos;
  ++count_;
}

void DurationHistogram::Merge(const DurationHistogram& other) {
  if (other.count_ == 0) return;
  Cover(other.first_, other.first_ + other.counts_.size());
  for (size_t i = 0; i < other.counts_.size(); ++i) {
    counts_[other.first_ + i - first_] += other.counts_[i];
  }
  min_ = count_ == 0 ? other.min_ : std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  count_ += other.count_;
}

double DurationHistogram::mean() const {
  return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_);
}

double DurationHistogram::Quantile(double q) const {
  if (count_ == 0) return 0.0;
  const auto rank =
      std::clamp<int64_t>(std::llround(std::ceil(q * static_cast<double>(count_))), 1, count_);
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += static_cast<int64_t>(counts_[i]);
    if (seen < rank) continue;
    return std::clamp(MiddleOf(first_ + i), static_cast<double>(min_), static_cast<double>(max_));
  }
  return static_cast<double>(max_);
}

}  // namespace holdfast
