#include "scheduler/tenant_rows.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

TenantRows::TenantRows(const std::vector<double>& weights) {
  for (double weight : weights) {
    CHECK(weight > 0);
    tenants_.push_back({.weight = weight});
  }
}

void TenantRows::Begin(int32_t step_rows) {
  step_rows_ = step_rows;
  weight_ = 0;
  num_present_ = 0;
  for (Tenant& tenant : tenants_) tenant.present = false;
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

int32_t TenantRows::PartLeft(TenantIndex tenant) const {
  const Tenant& asks = tenants_[Index(tenant)];
  const double weight = asks.present ? weight_ : weight_ + asks.weight;
  const auto part = static_cast<int32_t>(step_rows_ * (asks.weight / weight));
  return std::max(std::max(part, 1) - (asks.present ? asks.rows : 0), 0);
}

}  // namespace holdfast
