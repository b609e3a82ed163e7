// Two records over simulated time in bounded room: the time is cut into windows of equal length,
// which doubles, two windows becoming one, whenever there would be more than kWindowsMax.
//
// Records of several instances add up, whatever their windows and whenever each of them ended: to
// the same whole in any order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace holdfast {

inline constexpr size_t kWindowsMax = 512;
inline constexpr int64_t kFirstWindowNanos = 1'000'000'000;

// How much of something each of some parties got in each window.
class AmountWindows final {
 public:
  explicit AmountWindows(size_t num_parties);

  void Add(size_t party, int64_t at_nanos, int64_t amount);  // at >= 0
  void Merge(const AmountWindows& other);                    // as many parties

  int64_t window_nanos() const { return window_nanos_; }
  size_t num_windows() const;
  int64_t Amount(size_t party, size_t window) const;
  bool operator==(const AmountWindows&) const = default;

 private:
  void Coarsen();

  int64_t window_nanos_ = kFirstWindowNanos;
  std::vector<std::vector<int64_t>> amounts_;  // [party][window], as far as there was something
};

// What an instance looked like at the beginning of each window.
struct InstanceState {
  enum Field : size_t {
    kFree,  // KV blocks by state: kvstore/block_pool.h
    kHeld,
    kEvictable,
    kMoving,
    kPinned,  // part of the held ones
    kRunning,
    kWaiting,  // sequences
    kNumFields
  };
  std::array<int64_t, kNumFields> values{};
  bool operator==(const InstanceState&) const = default;
};
const char* StateFieldName(size_t field);

class StateSamples final {
 public:
  // `state` held from where the last call ended until `until_nanos`, excluded.
  void Hold(const InstanceState& state, int64_t until_nanos) {
    last_ = state;
    while (next_nanos_ < until_nanos) Sample();
  }
  void Merge(const StateSamples& other);

  int64_t window_nanos() const { return window_nanos_; }
  const std::vector<InstanceState>& samples() const { return samples_; }
  bool operator==(const StateSamples&) const = default;

 private:
  void Sample();
  void Coarsen();

  int64_t window_nanos_ = kFirstWindowNanos;
  int64_t next_nanos_ = 0;  // of the next sample
  std::vector<InstanceState> samples_;
  InstanceState last_;  // lasts beyond the samples
};

}  // namespace holdfast
