// Who of several tenants is next: the one that has been served least, by its weight.
//
// A virtual token counter for each tenant adds what it was served, divided by its weight:
//
//   prefill_cost * prompt tokens computed + cached_cost * prompt tokens found
//     + decode_cost * completion tokens
//
// The tenant that waits with the least counter goes first, of those that run less than their share
// before the others, so that nobody waits while there is room and nobody has anything better to do
// (work-conserving). Who begins to wait after a pause is
// lifted to the least counter of those who wait: a pause saves nothing up.
//
// Bound. With U = max(prefill_cost * longest prompt, decode_cost * tokens that the KV pool holds) /
// weight of the lighter one: of two tenants that wait
//   - the counters are apart by 2 U at most: who is let in last was ahead by U at most (then only
//   to
//     what is within its share of places and blocks; otherwise it was the least served), and is
//     charged another U for what then runs of it;
//   - so over any time in which both wait, services by weight differ by 4 U at most.
// VTC, which lets in nobody but the least served, has half of both; U more is the price of giving
// no place out only to take it back. Not bounded: who is held back by bounds of its own (places,
// blocks that are kept for another, long_prefill_tokens_max, a prefix that is being computed).
//
// Source: VTC, "Fairness in Serving Large Language Models" (Sheng et al., OSDI 2024), algorithm 2
// and theorem 4.4; weights as in its section on weighted VTC; the cost of cached tokens is ours.
// Thread: the scheduler's alone.    Bound: the configured tenants. Calls are O(tenants).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/ids.h"

namespace holdfast {

// As in VTC's measurements; a token that was found costs its blocks' places, but no rows.
struct ServiceCost {
  double prefill = 1.0, cached = 0.1, decode = 2.0;
};

// How far a tenant may be ahead of the least served and still be let in to what is within its
// share of places and blocks: U of VTC's theorem 4.4.
inline double ServiceAheadMax(int32_t context_tokens, int64_t pool_tokens) {
  return std::max(ServiceCost().prefill * context_tokens,
                  ServiceCost().decode * static_cast<double>(pool_tokens));
}
// And how far two that wait may be apart: by that, and by what the sequences that it then runs may
// still be charged, which all fit the pool.
inline double ServiceSpreadMax(int32_t context_tokens, int64_t pool_tokens) {
  return 2 * ServiceAheadMax(context_tokens, pool_tokens);
}

class FairShare final {
 public:
  explicit FairShare(std::vector<double> weights);  // each > 0; at least one

  void OnWaiting(TenantIndex tenant);     // one more of it waits
  void OnNotWaiting(TenantIndex tenant);  // one fewer
  void Charge(TenantIndex tenant, double cost) { At(tenant).served += cost / At(tenant).weight; }

  void AddTenant(double weight);  // > 0; behind the others, served nothing yet

  // > 0. What the tenant was served more than the least of those who wait counts by it as well: an
  // old weight is not paid for any longer.
  void SetWeight(TenantIndex tenant, double weight);

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
  double LeastServed() const;  // of those who wait; nobody does: of who did last

  std::vector<Tenant> tenants_;
  double last_served_ = 0;  // of the last to wait no more
};

}  // namespace holdfast
