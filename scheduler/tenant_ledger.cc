#include "scheduler/tenant_ledger.h"

#include "config/base/check.h"

namespace holdfast {

TenantLedger::TenantLedger(const std::vector<TenantConfig>& tenants) {
  SetBounds(TenantsOrDefault(tenants));
}

void TenantLedger::SetBounds(const std::vector<TenantConfig>& tenants) {
  CHECK(tenants.size() >= loads_.size());
  loads_.resize(tenants.size());
  for (size_t i = 0; i < tenants.size(); ++i) {
    loads_[i].running_max = tenants[i].running_max;
    loads_[i].waiting_max = tenants[i].waiting_max;
  }
}

bool TenantLedger::Knows(TenantIndex tenant) const {
  return Number(tenant) >= 0 && static_cast<size_t>(Number(tenant)) < loads_.size();
}

size_t TenantLedger::Index(TenantIndex tenant) const {
  CHECK(Knows(tenant));
  return static_cast<size_t>(Number(tenant));
}

void TenantLedger::AddRunning(TenantIndex tenant, int32_t change) {
  TenantLoad& load = loads_[Index(tenant)];
  load.running += change;
  CHECK(load.running >= 0);
}

void TenantLedger::AddWaiting(TenantIndex tenant, int32_t change) {
  TenantLoad& load = loads_[Index(tenant)];
  load.waiting += change;
  CHECK(load.waiting >= 0);
}

}  // namespace holdfast
