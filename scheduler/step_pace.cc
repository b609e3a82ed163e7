#include "scheduler/step_pace.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

StepPace::StepPace(int32_t num_tenants, int32_t step_rows_max, absl::Duration step_time_max)
    : rows_max_(step_rows_max),
      time_max_(step_time_max),
      seen_(static_cast<size_t>(num_tenants), absl::InfinitePast()),
      rows_(step_rows_max) {
  CHECK(step_rows_max > 0 && step_time_max > absl::ZeroDuration());
}

int32_t StepPace::PrefillRowsMax(absl::Time now) {
  const auto there = std::count_if(seen_.begin(), seen_.end(),
                                   [&](absl::Time seen) { return now - seen <= kThere; });
  shared_ = there > 1;
  return shared_ ? static_cast<int32_t>(rows_) : rows_max_;
}

void StepPace::OnStep(int32_t prefill_rows, absl::Duration took, absl::Duration decodes_take) {
  if (!shared_ || prefill_rows == 0) return;
  const absl::Duration prefills_took = took - decodes_take;
  const absl::Duration left = std::max(time_max_ - decodes_take, time_max_ / 2);
  if (prefills_took > left) {
    rows_ = std::min(rows_, prefill_rows * absl::FDivDuration(left, prefills_took));
  } else if (prefill_rows >= static_cast<int32_t>(rows_)) {
    rows_ *= 1.25;
  }
  rows_ = std::clamp(rows_, std::min<double>(kRowsMin, rows_max_), static_cast<double>(rows_max_));
}

}  // namespace holdfast
