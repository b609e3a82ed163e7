#include "scheduler/policy/fair_share.h"

#include <algorithm>
#include <optional>

#include "config/base/check.h"

namespace holdfast {

FairShare::FairShare(std::vector<double> weights) {
  CHECK(!weights.empty());
  for (double weight : weights) AddTenant(weight);
}

void FairShare::AddTenant(double weight) {
  CHECK(weight > 0);
  tenants_.push_back({.weight = weight});
}

double FairShare::LeastServed() const {
  std::optional<double> least;
  for (const Tenant& tenant : tenants_) {
    if (tenant.waiting > 0) least = std::min(least.value_or(tenant.served), tenant.served);
  }
  return least.value_or(last_served_);
}

void FairShare::OnWaiting(TenantIndex tenant) {
  Tenant& comes = At(tenant);
  if (comes.waiting == 0) comes.served = std::max(comes.served, LeastServed());
  ++comes.waiting;
}

void FairShare::SetWeight(TenantIndex tenant, double weight) {
  CHECK(weight > 0);
  Tenant& changes = At(tenant);
  if (changes.weight == weight) return;
  const double least = LeastServed();
  if (changes.served > least) {
    changes.served = least + (changes.served - least) * (changes.weight / weight);
  }
  changes.weight = weight;
}

void FairShare::OnNotWaiting(TenantIndex tenant) {
  Tenant& goes = At(tenant);
  CHECK(goes.waiting > 0);
  if (--goes.waiting == 0) last_served_ = goes.served;
}

}  // namespace holdfast
