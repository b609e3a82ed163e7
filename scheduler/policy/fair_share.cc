#include "scheduler/policy/fair_share.h"

#include <algorithm>
#include <optional>

#include "config/base/check.h"

namespace holdfast {

FairShare::FairShare(std::vector<double> weights) {
  CHECK(!weights.empty());
  for (double weight : weights) {
    CHECK(weight > 0);
    tenants_.push_back({.weight = weight});
  }
}

void FairShare::OnWaiting(TenantIndex tenant) {
  Tenant& comes = At(tenant);
  if (comes.waiting == 0) {
    std::optional<double> least;
    for (const Tenant& other : tenants_) {
      if (other.waiting > 0) least = std::min(least.value_or(other.served), other.served);
    }
    comes.served = std::max(comes.served, least.value_or(last_served_));
  }
  ++comes.waiting;
}

void FairShare::OnNotWaiting(TenantIndex tenant) {
  Tenant& goes = At(tenant);
  CHECK(goes.waiting > 0);
  if (--goes.waiting == 0) last_served_ = goes.served;
}

}  // namespace holdfast
