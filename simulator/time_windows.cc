#include "simulator/time_windows.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

AmountWindows::AmountWindows(size_t num_parties) : amounts_(num_parties) {}

void AmountWindows::Coarsen() {
  window_nanos_ *= 2;
  for (std::vector<int64_t>& windows : amounts_) {
    const size_t halves = (windows.size() + 1) / 2;
    for (size_t i = 0; i < halves; ++i) {
      windows[i] = windows[2 * i] + (2 * i + 1 < windows.size() ? windows[2 * i + 1] : 0);
    }
    windows.resize(halves);
  }
}

void AmountWindows::Add(size_t party, int64_t at_nanos, int64_t amount) {
  CHECK(at_nanos >= 0);
  while (static_cast<size_t>(at_nanos / window_nanos_) >= kWindowsMax) Coarsen();
  const auto window = static_cast<size_t>(at_nanos / window_nanos_);
  std::vector<int64_t>& windows = amounts_[party];
  if (windows.size() <= window) windows.resize(window + 1);
  windows[window] += amount;
}

void AmountWindows::Merge(const AmountWindows& other) {
  CHECK(amounts_.size() == other.amounts_.size());
  AmountWindows added = other;
  while (window_nanos_ < added.window_nanos_) Coarsen();
  while (added.window_nanos_ < window_nanos_) added.Coarsen();
  for (size_t party = 0; party < amounts_.size(); ++party) {
    std::vector<int64_t>& windows = amounts_[party];
    const std::vector<int64_t>& more = added.amounts_[party];
    if (windows.size() < more.size()) windows.resize(more.size());
    for (size_t i = 0; i < more.size(); ++i) windows[i] += more[i];
  }
}

size_t AmountWindows::num_windows() const {
  size_t count = 0;
  for (const std::vector<int64_t>& windows : amounts_) count = std::max(count, windows.size());
  return count;
}

int64_t AmountWindows::Amount(size_t party, size_t window) const {
  const std::vector<int64_t>& windows = amounts_[party];
  return window < windows.size() ? windows[window] : 0;
}

const char* StateFieldName(size_t field) {
  static constexpr std::array<const char*, InstanceState::kNumFields> kNames = {
      "free", "held", "evictable", "moving", "pinned", "running", "waiting"};
  return kNames[field];
}

void StateSamples::Sample() {
  if (samples_.size() == kWindowsMax) {
    Coarsen();
    return;  // the next is at a window's beginning again: kWindowsMax is even
  }
  samples_.push_back(last_);
  next_nanos_ += window_nanos_;
}

void StateSamples::Coarsen() {
  window_nanos_ *= 2;
  const size_t halves = (samples_.size() + 1) / 2;
  for (size_t i = 0; i < halves; ++i) samples_[i] = samples_[2 * i];
  samples_.resize(halves);
  next_nanos_ = static_cast<int64_t>(samples_.size()) * window_nanos_;
}

void StateSamples::Merge(const StateSamples& other) {
  StateSamples added = other;
  while (window_nanos_ < added.window_nanos_) Coarsen();
  while (added.window_nanos_ < window_nanos_) added.Coarsen();
  const size_t count = std::max(samples_.size(), added.samples_.size());
  samples_.resize(count, last_);
  added.samples_.resize(count, added.last_);
  for (size_t i = 0; i < count; ++i) {
    for (size_t field = 0; field < InstanceState::kNumFields; ++field) {
      samples_[i].values[field] += added.samples_[i].values[field];
    }
  }
  for (size_t field = 0; field < InstanceState::kNumFields; ++field) {
    last_.values[field] += added.last_.values[field];
  }
  next_nanos_ = static_cast<int64_t>(count) * window_nanos_;
}

}  // namespace holdfast
