// Keeps a medium that fails from being asked again and again: each caller would wait for a
// time-out.
//
//              `failures_max` in a row                 `rest` has passed
//   closed ───────────────────────────► open ──────────────────────────► half open: one probe
//     ▲                                   ▲                                  │        │
//     │                                   └──────── the probe fails ─────────┘        │
//     └───────────────────────────── the probe succeeds ──────────────────────────────┘
//
// Thread: any. Time is handed in.
// Source: the pattern's name and states are Michael Nygard's (Release It!, 2007).
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/mutex.h"

namespace holdfast {

class CircuitBreaker final {
 public:
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };

  CircuitBreaker(int32_t failures_max, absl::Duration rest, const Clock& clock);

  // True: go ahead, and tell the outcome by exactly one of the two below. False: not now.
  [[nodiscard]] bool TryEnter();
  void Succeeded();
  void Failed();

  // TryEnter would say yes now; somebody else may be faster.
  bool MayEnter() const;
  State state() const;

 private:
  const int32_t failures_max_;
  const absl::Duration rest_;
  const Clock& clock_;
  mutable Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kClosed;
  int32_t failures_ ABSL_GUARDED_BY(mutex_) = 0;  // in a row
  absl::Time opened_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
