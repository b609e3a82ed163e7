// Each tenant's part of one step's rows, by weight, of those that have rows to compute in it: what
// its decodes take counts, the rest is for its prefills before anybody gets more than his part.
// What a tenant does not use goes to the others, so no row is lost by it.
//
// The counter (policy/fair_share.h) alone would give all rows to the least served tenant first: one
// that sends little, and is ahead by its last prompt, would then wait for as many rows as it is
// ahead while another's flood fills whole steps.
//
// Thread: the scheduler's alone.    Bound: the configured tenants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/ids.h"

namespace holdfast {

class TenantRows final {
 public:
  explicit TenantRows(const std::vector<double>& weights);  // each > 0

  void Begin(int32_t step_rows);  // a new step, in which nobody has rows yet
  void AddDecode(TenantIndex tenant) { Take(tenant, 1); }
  void AddPrefill(TenantIndex tenant) { Take(tenant, 0); }  // it has one to compute
  void Take(TenantIndex tenant, int32_t rows);
  int32_t num_present() const { return num_present_; }  // who have rows or prefills to compute

  // O(1). Of its part, whether or not it has rows yet; a tenant without any has one at least.
  int32_t PartLeft(TenantIndex tenant) const;

 private:
  struct Tenant {
    double weight = 1;
    int32_t rows = 0;
    bool present = false;
  };
  static size_t Index(TenantIndex tenant) { return static_cast<size_t>(Number(tenant)); }

  std::vector<Tenant> tenants_;
  int32_t step_rows_ = 0;
  double weight_ = 0;  // of those present
  int32_t num_present_ = 0;
};

}  // namespace holdfast
