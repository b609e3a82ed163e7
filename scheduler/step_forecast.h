// How long a step that runs will take, where that can be told, so that the next is planned shortly
// before it ends: any earlier, and whoever comes meanwhile would wait for one step more.
//
// A step of decodes alone is taken to last as long as the last such step with about as many rows.
// Of prefills nothing is told: they take long, and planning beside them would save little of it.
//
// Thread: the scheduler's alone.    Bound: two numbers.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <optional>

#include "absl/time/time.h"
#include "scheduler/policy/reload_cost.h"

namespace holdfast {

class StepForecast final {
 public:
  void OnStep(const StepWork& work, absl::Duration took) {
    if (work.prefill_rows > 0) return;
    decode_rows_ = work.decode_rows;
    took_ = took;
  }

  std::optional<absl::Duration> Of(const StepWork& work) const {
    if (work.prefill_rows > 0 || decode_rows_ == 0) return std::nullopt;
    if (std::abs(work.decode_rows - decode_rows_) > decode_rows_ / kAlike) return std::nullopt;
    return took_;
  }

 private:
  static constexpr int32_t kAlike = 8;  // rows may differ by one in so many

  int32_t decode_rows_ = 0;  // 0: none has been
  absl::Duration took_;
};

}  // namespace holdfast
