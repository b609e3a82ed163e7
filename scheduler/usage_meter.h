// What each tenant takes of the machine: the time of steps, and KV of the device over time.
//
// A step's time is shared out by the rows of its tenants, whatever becomes of the tokens: rows that
// are computed again after a preemption, or were computed for somebody who has gone, count too.
//
// KV counts while a running sequence or a pin holds it. A block that several hold counts for each;
// one that nobody holds, though it may still be found, for nobody.
//
// Thread: the scheduler's alone.    Bound: the configured tenants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/pin_table.h"
#include "scheduler/metrics.h"

namespace holdfast {

class UsageMeter final {
 public:
  UsageMeter(int32_t num_tenants, int64_t block_bytes, SchedulerMetrics& metrics);

  void AddTenant();  // behind the others

  // O(1). Of the step that is being committed, which EndStep then shares out.
  void AddRows(TenantIndex tenant, int32_t rows) {
    Tenant& computes = tenants_[Index(tenant)];
    if (computes.rows == 0 && rows > 0) computing_.push_back(tenant);
    computes.rows += rows;
    step_rows_ += rows;
  }
  void EndStep(absl::Duration took);  // O(tenants in the step)

  // O(1). Its running sequences hold so many more blocks from now on, or fewer.
  void AddHeld(TenantIndex tenant, int32_t blocks, absl::Time now);
  // O(tenants that hold something or did the last time). Counts until now; the pins are as they
  // have been since the last time, and of blocks that their tenant held until then.
  void CountHeld(const PinTable& pins, absl::Time now);

  int32_t held_blocks(TenantIndex tenant) const { return tenants_[Index(tenant)].held; }

 private:
  struct Tenant {
    int32_t rows = 0;                         // of the step that is being committed
    int32_t held = 0, pinned = 0;             // blocks
    bool listed = false;                      // in holding_
    double block_seconds = 0;                 // not in the metrics yet
    absl::Time since = absl::InfinitePast();  // is counted until then
  };
  static size_t Index(TenantIndex tenant) { return static_cast<size_t>(Number(tenant)); }
  static void CountUntil(absl::Time now, Tenant& tenant);

  const double block_bytes_;
  SchedulerMetrics& metrics_;
  std::vector<Tenant> tenants_;
  std::vector<TenantIndex> computing_;  // with rows of the step that is being committed
  std::vector<TenantIndex> holding_;    // with blocks, or with time that is not in the metrics yet
  int64_t step_rows_ = 0;
};

}  // namespace holdfast
