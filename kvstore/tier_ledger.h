// Who has how much of one tier, and whose block goes next. One eviction policy for each tenant; the
// one with the least value among their candidates goes, except that nobody is taken from at or
// below its floor, and that a tenant at its ceiling gives its own first.
//
// Thread: the scheduler's alone.    Bound: one policy for each tenant that has something here. All
// calls as the policies', but Worst: O(tenants) of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/kv_store_options.h"

namespace holdfast {

class TierLedger final {
 public:
  // `capacity` 0: there is no such tier, and nothing is ever entered.
  TierLedger(TierKind tier, int32_t capacity, const KvStoreOptions& options);

  // For the tenants that there are, and behind them for new ones. Who has more keeps it.
  void SetShares(const std::vector<TenantShares>& tenants);

  void Take(TenantIndex owner) {
    ++Of(owner).used;
    ++num_used_;
  }
  void GiveBack(TenantIndex owner);
  int32_t used(TenantIndex owner) const { return Of(owner).used; }
  int32_t capacity() const { return capacity_; }
  int32_t num_used() const { return num_used_; }  // by all together

  // The places that may go now. See EvictionPolicy.
  void Add(TenantIndex owner, const EvictableBlock& block, absl::Time now);
  void Remove(TenantIndex owner, int32_t place, EvictionLeave why, absl::Time now);
  void OnUsed(TenantIndex owner, uint64_t content, int32_t depth, absl::Time now);
  int32_t num_evictable() const { return num_evictable_; }

  // Whether `count` more would be more than the ceiling.
  bool AtCeiling(TenantIndex owner, int32_t count = 1) const;
  // Whether one may be taken from it by somebody else, `going` being on their way out already.
  bool AboveFloor(TenantIndex owner, int32_t going = 0) const {
    return Of(owner).used - going > Of(owner).share.floor_blocks;
  }
  int32_t floor(TenantIndex owner) const { return Of(owner).share.floor_blocks; }

  // The place of least value of those tenants for which `may_go(tenant)`.
  template <typename MayGo>
  std::optional<int32_t> Worst(absl::Time now, MayGo may_go) {
    std::optional<Victim> worst;
    for (size_t i = 0; i < tenants_.size(); ++i) {
      Tenant& tenant = tenants_[i];
      if (!tenant.policy || tenant.policy->size() == 0) continue;
      if (!may_go(TenantIndex{static_cast<int32_t>(i)})) continue;
      const std::optional<Victim> candidate = tenant.policy->Worst(now);
      if (candidate && (!worst || candidate->keep_value < worst->keep_value)) worst = candidate;
    }
    if (!worst) return std::nullopt;
    return worst->place;
  }
  std::optional<int32_t> WorstOf(TenantIndex owner, absl::Time now);

 private:
  struct Tenant {
    TierShare share;
    int32_t used = 0;
    std::unique_ptr<EvictionPolicy> policy;  // made when first needed
  };
  Tenant& Of(TenantIndex owner);
  const Tenant& Of(TenantIndex owner) const;
  EvictionPolicy& PolicyOf(TenantIndex owner);

  const TierKind tier_;
  const int32_t capacity_;
  const EvictionFactory make_policy_;
  std::vector<Tenant> tenants_;
  int32_t num_evictable_ = 0;
  int32_t num_used_ = 0;
};

}  // namespace holdfast
