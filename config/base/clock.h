// Time as the rooms see it: handed in, so that tests and the simulator own it.
#pragma once

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace holdfast {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;  // any thread
};

// What the machine believes the date to be; it may be set forwards and back.
class WallClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

// The date when the process first asked, and from then on only the time that passes: what deadlines
// and durations are measured by, so that setting the machine's clock ends no pin and no request.
inline absl::Time SteadyNow() {
  using Steady = std::chrono::steady_clock;
  static const struct {
    absl::Time date = absl::Now();
    Steady::time_point point = Steady::now();
  } start;
  return start.date + absl::FromChrono(Steady::now() - start.point);
}

class SteadyClock final : public Clock {
 public:
  absl::Time Now() const override { return SteadyNow(); }
};

}  // namespace holdfast
