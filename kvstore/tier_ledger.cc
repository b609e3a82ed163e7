#include "kvstore/tier_ledger.h"

#include "config/base/check.h"
#include "kvstore/eviction/lru.h"

namespace holdfast {

TierLedger::TierLedger(TierKind tier, int32_t capacity, const KvStoreOptions& options)
    : tier_(tier), capacity_(capacity), make_policy_(options.eviction) {
  CHECK(!options.tenants.empty());
  SetShares(options.tenants);
}

void TierLedger::SetShares(const std::vector<TenantShares>& tenants) {
  CHECK(tenants.size() >= tenants_.size());
  tenants_.resize(tenants.size());
  for (size_t i = 0; i < tenants.size(); ++i) {
    tenants_[i].share = tenants[i].tiers[TierAt(tier_)];
  }
}

TierLedger::Tenant& TierLedger::Of(TenantIndex owner) {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(owner)));
  CHECK(index < tenants_.size());
  return tenants_[index];
}

const TierLedger::Tenant& TierLedger::Of(TenantIndex owner) const {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(owner)));
  CHECK(index < tenants_.size());
  return tenants_[index];
}

EvictionPolicy& TierLedger::PolicyOf(TenantIndex owner) {
  Tenant& tenant = Of(owner);
  if (!tenant.policy) {
    tenant.policy =
        make_policy_ ? make_policy_(tier_, capacity_) : std::make_unique<LruEviction>(capacity_);
  }
  return *tenant.policy;
}

void TierLedger::GiveBack(TenantIndex owner) {
  CHECK(Of(owner).used > 0);
  --Of(owner).used;
  --num_used_;
}

void TierLedger::Add(TenantIndex owner, const EvictableBlock& block, absl::Time now) {
  PolicyOf(owner).Add(block, now);
  ++num_evictable_;
}

void TierLedger::Remove(TenantIndex owner, int32_t place, EvictionLeave why, absl::Time now) {
  Of(owner).policy->Remove(place, why, now);
  --num_evictable_;
}

void TierLedger::OnUsed(TenantIndex owner, uint64_t content, int32_t depth, absl::Time now) {
  if (capacity_ > 0) PolicyOf(owner).OnUsed(content, depth, now);
}

bool TierLedger::AtCeiling(TenantIndex owner, int32_t count) const {
  const Tenant& tenant = Of(owner);
  return tenant.share.ceiling_blocks && tenant.used + count > *tenant.share.ceiling_blocks;
}

std::optional<int32_t> TierLedger::WorstOf(TenantIndex owner, absl::Time now) {
  Tenant& tenant = Of(owner);
  if (!tenant.policy) return std::nullopt;
  const std::optional<Victim> worst = tenant.policy->Worst(now);
  if (!worst) return std::nullopt;
  return worst->place;
}

}  // namespace holdfast
