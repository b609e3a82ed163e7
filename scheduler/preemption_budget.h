// How much of others' work each tenant may cause to be computed again by having places and blocks
// taken back from them: by what it is served itself, and `burst` tokens besides. What others
// have lost is known when they run again, since most of it is usually still in the cache; so one
// tenant may be beyond its budget by what one plan takes back.
//
// For another's admission one sequence is taken back twice at most; for another's growth as often
// as this budget allows, which grows with what the grower is served.
//
// Thread: the scheduler's alone.    Bound: the configured tenants.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/ids.h"

namespace holdfast {

class PreemptionBudget final {
 public:
  PreemptionBudget(int32_t num_tenants, int64_t burst_tokens)
      : burst_(burst_tokens), left_(static_cast<size_t>(num_tenants), burst_tokens) {}

  void AddTenant() { left_.push_back(burst_); }  // behind the others

  void OnServed(TenantIndex tenant, int32_t tokens) {
    int64_t& left = Left(tenant);
    left = std::min(burst_, left + tokens);
  }
  // Tokens that somebody computes again because it was taken back for `tenant`.
  void OnRecomputed(TenantIndex tenant, int32_t tokens) { Left(tenant) -= tokens; }

  bool MayTakeBack(TenantIndex tenant) const {
    return left_[static_cast<size_t>(Number(tenant))] > 0;
  }

 private:
  int64_t& Left(TenantIndex tenant) { return left_[static_cast<size_t>(Number(tenant))]; }

  const int64_t burst_;
  std::vector<int64_t> left_;
};

}  // namespace holdfast
