#include "scheduler/usage_meter.h"

#include <utility>

#include "config/base/check.h"

namespace holdfast {

UsageMeter::UsageMeter(int32_t num_tenants, int64_t block_bytes, SchedulerMetrics& metrics)
    : block_bytes_(static_cast<double>(block_bytes)), metrics_(metrics) {
  for (int32_t i = 0; i < num_tenants; ++i) AddTenant();
}

void UsageMeter::AddTenant() {
  tenants_.emplace_back();
  computing_.reserve(tenants_.capacity());
  holding_.reserve(tenants_.capacity());
}

void UsageMeter::EndStep(absl::Duration took) {
  const auto step_rows = static_cast<double>(std::exchange(step_rows_, 0));
  const double seconds = absl::ToDoubleSeconds(took);
  for (const TenantIndex tenant : computing_) {
    const int32_t rows = std::exchange(tenants_[Index(tenant)].rows, 0);
    if (seconds > 0) metrics_.Of(tenant).compute_seconds.Add(seconds * rows / step_rows);
  }
  computing_.clear();
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
  if (!std::exchange(holds.listed, true)) holding_.push_back(tenant);
}

void UsageMeter::CountHeld(const PinTable& pins, absl::Time now) {
  std::erase_if(holding_, [&](TenantIndex index) {
    Tenant& tenant = tenants_[Index(index)];
    CountUntil(now, tenant);
    tenant.pinned = pins.num_blocks(index);
    if (const double held = std::exchange(tenant.block_seconds, 0); held > 0) {
      metrics_.Of(index).kv_byte_seconds.Add(held * block_bytes_);
    }
    tenant.listed = tenant.held + tenant.pinned > 0;
    return !tenant.listed;
  });
}

}  // namespace holdfast
