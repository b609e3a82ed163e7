#include "scheduler/tenant_rows.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

TenantRows::TenantRows(const std::vector<double>& weights) {
  for (double weight : weights) AddTenant(weight);
}

void TenantRows::AddTenant(double weight) {
  CHECK(weight > 0);
  tenants_.push_back({.weight = weight});
}

void TenantRows::Begin(int32_t step_rows) {
  if (step_rows_ > 0) Save();
  step_rows_ = step_rows;
  weight_ = 0;
  num_present_ = 0;
  for (Tenant& tenant : tenants_) tenant.present = false;
}

void TenantRows::Save() {
  for (Tenant& tenant : tenants_) {
    const int32_t rows = tenant.present ? tenant.rows : 0;
    tenant.saved = std::clamp(tenant.saved + PartOf(tenant) - rows, 0, step_rows_);
  }
}

void TenantRows::Take(TenantIndex tenant, int32_t rows) {
  Tenant& takes = tenants_[Index(tenant)];
  if (!takes.present) {
    takes.present = true;
    takes.rows = 0;
    weight_ += takes.weight;
    ++num_present_;
  }
  takes.rows += rows;
}

int32_t TenantRows::PartOf(const Tenant& tenant) const {
  const double weight = tenant.present ? weight_ : weight_ + tenant.weight;
  const double part = std::min(tenant.weight / weight, 1.0);  // more: its weight has just grown
  return std::max(static_cast<int32_t>(step_rows_ * part), 1);
}

int32_t TenantRows::PartLeft(TenantIndex tenant) const {
  const Tenant& asks = tenants_[Index(tenant)];
  return std::max(PartOf(asks) + asks.saved - (asks.present ? asks.rows : 0), 0);
}

}  // namespace holdfast
