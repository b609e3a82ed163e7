#include "scheduler/queue_departures.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {
namespace {

// Long beside a step, short beside the upper bound of what is told.
constexpr double kFadeSeconds = 10;

}  // namespace

void QueueDepartures::Look(int64_t waiting, absl::Time now) {
  CHECK(waiting >= 0 && entered_ >= static_cast<uint64_t>(waiting));
  const uint64_t left = entered_ - static_cast<uint64_t>(waiting);
  CHECK(left >= left_);
  now = std::max(now, looked_at_);
  if (someone_waited_) {
    const double faded = std::exp(-absl::ToDoubleSeconds(now - looked_at_) / kFadeSeconds);
    departures_ = departures_ * faded + static_cast<double>(left - left_);
    seconds_ = seconds_ * faded + kFadeSeconds * (1 - faded);
  }
  left_ = left;
  someone_waited_ = waiting > 0;
  looked_at_ = now;
}

absl::Duration QueueDepartures::TimeUntilLeft(int64_t num_requests) const {
  if (seconds_ == 0) return kRetryAfterMin;
  if (departures_ == 0) return kRetryAfterMax;
  return std::clamp(*ExpectedUntilLeft(num_requests), kRetryAfterMin, kRetryAfterMax);
}

std::optional<absl::Duration> QueueDepartures::ExpectedUntilLeft(int64_t num_requests) const {
  if (departures_ == 0) return std::nullopt;
  return absl::Seconds(static_cast<double>(num_requests) * seconds_ / departures_);
}

}  // namespace holdfast
