#include "scheduler/usage_meter.h"

#include <utility>

#include "config/base/check.h"

namespace holdfast {

UsageMeter::UsageMeter(int32_t num_tenants, int64_t block_bytes, SchedulerMetrics& metrics)
    : block_bytes_(static_cast<double>(block_bytes)),
      metrics_(metrics),
      tenants_(static_cast<size_t>(num_tenants)) {}

void UsageMeter::EndStep(absl::Duration took) {
  const auto step_rows = static_cast<double>(std::exchange(step_rows_, 0));
  const double seconds = absl::ToDoubleSeconds(took);
  for (size_t i = 0; i < tenants_.size(); ++i) {
    const int32_t rows = std::exchange(tenants_[i].rows, 0);
    if (rows == 0 || seconds <= 0) continue;
    metrics_.Of(TenantIndex{static_cast<int32_t>(i)})
        .compute_seconds.Add(seconds * rows / step_rows);
  }
}

void UsageMeter::CountUntil(absl::Time now, Tenant& tenant) {
  const int32_t blocks = tenant.held + tenant.pinned;
  if (blocks > 0 && now > tenant.since) {
    tenant.block_seconds += absl::ToDoubleSeconds(now - tenant.since) * blocks;
  }
  tenant.since = now;
}

void UsageMeter::AddHeld(TenantIndex tenant, int32_t blocks, absl::Time now) {
  if (blocks == 0) return;
  Tenant& holds = tenants_[Index(tenant)];
  CountUntil(now, holds);
  holds.held += blocks;
  CHECK(holds.held >= 0);
}

void UsageMeter::CountHeld(const PinTable& pins, absl::Time now) {
  for (size_t i = 0; i < tenants_.size(); ++i) {
    const TenantIndex index{static_cast<int32_t>(i)};
    Tenant& tenant = tenants_[i];
    const int32_t pinned = pins.num_blocks(index);
    if (tenant.held + tenant.pinned + pinned == 0 && tenant.block_seconds == 0) continue;
    CountUntil(now, tenant);
    tenant.pinned = pinned;
    if (const double held = std::exchange(tenant.block_seconds, 0); held > 0) {
      metrics_.Of(index).kv_byte_seconds.Add(held * block_bytes_);
    }
  }
}

}  // namespace holdfast
