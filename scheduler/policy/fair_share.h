// Who of several tenants is next: the one that has been served least, by its weight.
//
// A virtual token counter for each tenant adds what it was served, divided by its weight:
//
//   prefill_cost * prompt tokens computed + cached_cost * prompt tokens found
//     + decode_cost * completion tokens
//
// The tenant that waits with the least counter goes first, so that nobody waits while there is room
// and nobody has anything better to do (work-conserving). Who begins to wait after a pause is
// lifted to the least counter of those who wait: a pause saves nothing up.
//
// Bound: of two tenants that both wait all the time, services by weight differ at most by
//   2 * max(prefill_cost * longest prompt, decode_cost * tokens that the KV pool holds) / weight
// of the lighter one, beyond what they differed by before; for no order of admissions can do
// better than that by more than half when sequences are not taken back.
//
// Source: VTC, "Fairness in Serving Large Language Models" (Sheng et al., OSDI 2024), algorithm 2
// and theorem 4.4; weights as in its section on weighted VTC; the cost of cached tokens is ours.
// Thread: the scheduler's alone.    Bound: the configured tenants. Calls are O(tenants).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/ids.h"

namespace holdfast {

// As in VTC's measurements; a token that was found costs its blocks' places, but no rows.
struct ServiceCost {
  double prefill = 1.0, cached = 0.1, decode = 2.0;
};

class FairShare final {
 public:
  explicit FairShare(std::vector<double> weights);  // each > 0; at least one

  void OnWaiting(TenantIndex tenant);     // one more of it waits
  void OnNotWaiting(TenantIndex tenant);  // one fewer
  void Charge(TenantIndex tenant, double cost) { At(tenant).served += cost / At(tenant).weight; }

  double served(TenantIndex tenant) const { return tenants_[Index(tenant)].served; }
  double weight(TenantIndex tenant) const { return tenants_[Index(tenant)].weight; }
  int32_t waiting(TenantIndex tenant) const { return tenants_[Index(tenant)].waiting; }

 private:
  struct Tenant {
    double weight = 1, served = 0;
    int32_t waiting = 0;
  };
  static size_t Index(TenantIndex tenant) { return static_cast<size_t>(Number(tenant)); }
  Tenant& At(TenantIndex tenant) { return tenants_[Index(tenant)]; }

  std::vector<Tenant> tenants_;
  double last_served_ = 0;  // of the last to wait no more
};

}  // namespace holdfast
