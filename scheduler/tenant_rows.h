// Each tenant's part of one step's rows, by weight, of those that have rows to compute in it: what
// its decodes take counts, the rest is for its prefills before anybody gets more than his part.
// What a tenant does not use goes to the others, so no row is lost by it. It is saved for that
// tenant, up to the rows of a whole step, and comes on top of its part when it has more to compute
// again (as in deficit round robin, Shreedhar and Varghese, SIGCOMM 1995, but for those who are not
// there as well). So a short prompt of one that sends little is computed in one step, as it would
// be on a machine of its own; others are behind by a step's rows for it at most.
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

  void AddTenant(double weight);                       // > 0; behind the others, between two steps
  void SetWeight(TenantIndex tenant, double weight) {  // > 0; between two steps
    tenants_[Index(tenant)].weight = weight;
  }

  // O(tenants). A new step, in which nobody has rows yet.
  void Begin(int32_t step_rows);
  void AddDecode(TenantIndex tenant) { Take(tenant, 1); }
  void AddPrefill(TenantIndex tenant) { Take(tenant, 0); }  // it has one to compute
  void Take(TenantIndex tenant, int32_t rows);
  int32_t num_present() const { return num_present_; }  // who have rows or prefills to compute

  // O(1). Of its part and what it saved, whether or not it has rows yet; a tenant without any has
  // one at least.
  int32_t PartLeft(TenantIndex tenant) const;
  // Whether it has saved as much as a step gives it: then it goes before who has had all of that.
  bool IsOwed(TenantIndex tenant) const {
    return tenants_[Index(tenant)].saved >= PartOf(tenants_[Index(tenant)]);
  }

 private:
  struct Tenant {
    double weight = 1;
    int32_t rows = 0;
    int32_t saved = 0;  // of former steps, <= a step's rows
    bool present = false;
  };
  static size_t Index(TenantIndex tenant) { return static_cast<size_t>(Number(tenant)); }

  int32_t PartOf(const Tenant& tenant) const;
  void Save();  // of the step that ends

  std::vector<Tenant> tenants_;
  int32_t step_rows_ = 0;
  double weight_ = 0;  // of those present
  int32_t num_present_ = 0;
};

}  // namespace holdfast
