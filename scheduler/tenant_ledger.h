// How many requests of each tenant run and wait, beside what it may. A request runs while at least
// one of its choices runs; it waits until it has run for the first time.
//
// Thread: the scheduler's alone.    Bound: the configured tenants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/ids.h"
#include "config/tenant_config.h"

namespace holdfast {

struct TenantLoad {
  int32_t running = 0;      // requests
  int32_t waiting = 0;      // requests that have not run yet
  int32_t running_max = 0;  // 0: no bound of its own
  int32_t waiting_max = 0;  // 0: no bound of its own
};

class TenantLedger final {
 public:
  explicit TenantLedger(const std::vector<TenantConfig>& tenants);  // empty: one, without bounds

  // New bounds, by TenantIndex, for the tenants that there are, and behind them for new ones. Who
  // has more running than it now may keeps them.
  void SetBounds(const std::vector<TenantConfig>& tenants);

  int32_t size() const { return static_cast<int32_t>(loads_.size()); }
  bool Knows(TenantIndex tenant) const;
  const TenantLoad& operator[](TenantIndex tenant) const { return loads_[Index(tenant)]; }

  void AddRunning(TenantIndex tenant, int32_t change);  // the counts never go below 0
  void AddWaiting(TenantIndex tenant, int32_t change);

 private:
  size_t Index(TenantIndex tenant) const;

  std::vector<TenantLoad> loads_;
};

}  // namespace holdfast
