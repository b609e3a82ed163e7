// How many prefill rows a step may have, so that it does not last longer than `step_time_max` while
// several tenants share the machine: who comes waits for the step that runs, and then for its own
// beside the others'. A machine whose steps are short anyway is not held back; neither is a tenant
// that has been alone for a while.
//
//   prefills that took longer than what decodes leave of that   rows *= time left / time taken
//   shorter ones that had all these rows                        rows *= 5/4
//
// Decodes leave half of it at least: what they take no limit of prefill rows makes shorter.
//
// Thread: the scheduler's alone.    Bound: the configured tenants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"

namespace holdfast {

class StepPace final {
 public:
  // So long after its last row a tenant counts as there: about the pause between two requests of
  // somebody who talks.
  static constexpr absl::Duration kThere = absl::Seconds(10);
  static constexpr int32_t kRowsMin = 32;  // fewer cost more by what each step takes besides

  StepPace(int32_t num_tenants, int32_t step_rows_max, absl::Duration step_time_max);

  void AddTenant() { seen_.push_back(absl::InfinitePast()); }  // behind the others

  void OnRows(TenantIndex tenant, absl::Time now) {
    seen_[static_cast<size_t>(Number(tenant))] = now;
  }
  bool IsThere(TenantIndex tenant, absl::Time now) const {
    return now - seen_[static_cast<size_t>(Number(tenant))] <= kThere;
  }
  // O(tenants). For the step that begins now.
  int32_t PrefillRowsMax(absl::Time now);
  // What that step had, and took; and what its decodes take alone, where that is known.
  void OnStep(int32_t prefill_rows, absl::Duration took,
              absl::Duration decodes_take = absl::ZeroDuration());

 private:
  const int32_t rows_max_;
  const absl::Duration time_max_;
  std::vector<absl::Time> seen_;
  double rows_;
  bool shared_ = false;  // the step that runs
};

}  // namespace holdfast
