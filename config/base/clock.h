// Time as the rooms see it: handed in, so that tests and the simulator own it.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace holdfast {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;  // any thread
};

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace holdfast
