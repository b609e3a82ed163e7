// Looks after every step whether two tenants that both wait stay as near each other in service as
// policy/fair_share.h says.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "config/limits.h"
#include "config/tenant_config.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "scheduler/policy/fair_share.h"
#include "scheduler/scheduler.h"

namespace holdfast {

class BoundWatch final {
 public:
  BoundWatch(const EngineInfo& engine, const std::vector<TenantConfig>& tenants)
      : num_(static_cast<int32_t>(tenants.size())) {
    double lightest = tenants.front().weight;
    for (const TenantConfig& tenant : tenants) lightest = std::min(lightest, tenant.weight);
    spread_max_ =
        ServiceSpreadMax(engine.context_tokens, int64_t{engine.num_blocks} * kBlockTokens) /
        lightest;
  }

  // Whoever has nobody waiting in between, as when the last of them is let in, begins anew.
  void Look(const Scheduler& scheduler) {
    for (int32_t a = 0; a < num_; ++a) {
      for (int32_t b = a + 1; b < num_; ++b) Look(scheduler, TenantIndex{a}, TenantIndex{b});
    }
  }

  double greatest() const { return greatest_ / spread_max_; }  // of what may be
  int64_t num_looks() const { return num_looks_; }

 private:
  void Look(const Scheduler& scheduler, TenantIndex a, TenantIndex b) {
    const auto key = std::pair(Number(a), Number(b));
    if (scheduler.num_waiting(a) == 0 || scheduler.num_waiting(b) == 0) {
      since_.erase(key);
      return;
    }
    const double difference = scheduler.served(a) - scheduler.served(b);
    const double since = since_.try_emplace(key, difference).first->second;
    greatest_ = std::max({greatest_, std::abs(difference), std::abs(difference - since) / 2});
    ++num_looks_;
    ASSERT_LE(std::abs(difference), spread_max_);
    ASSERT_LE(std::abs(difference - since), 2 * spread_max_);
  }

  const int32_t num_;
  double spread_max_ = 0;
  double greatest_ = 0;
  int64_t num_looks_ = 0;
  std::map<std::pair<int32_t, int32_t>, double> since_;
};

}  // namespace holdfast
