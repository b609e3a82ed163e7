// The last so many durations of one kind, as an empirical distribution.
//
// Thread: its owner's.    Bound: the capacity. Add is O(capacity) moves of eight bytes, some 100 ns
// at 1,024; nothing is allocated once it is full.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace holdfast {

class DurationSample final {
 public:
  explicit DurationSample(size_t capacity);  // > 0

  void Add(double seconds);  // >= 0; the oldest goes where there is no room

  size_t size() const { return sorted_.size(); }
  std::span<const double> sorted() const { return sorted_; }  // ascending, seconds
  double mean() const;                                        // seconds; 0 when empty
  // Share of the durations that are not longer than this; 0 when empty.
  double ShareWithin(double seconds) const;
  // Mean of what each of them is within this time: min(duration, seconds); 0 when empty.
  double MeanUpTo(double seconds) const;

 private:
  size_t capacity_;
  size_t next_ = 0;           // the oldest, once it is full
  std::vector<double> ring_;  // by age
  std::vector<double> sorted_;
};

}  // namespace holdfast
