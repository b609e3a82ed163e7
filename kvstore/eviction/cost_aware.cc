#include "kvstore/eviction/cost_aware.h"

namespace holdfast {

CostAwareEviction::CostAwareEviction(int32_t capacity, const CostAwareOptions& options)
    : value_(capacity, options.cost, options.half_life),
      duel_(capacity, options.first, options.half_life, value_),
      by_recency_(capacity),
      by_value_(value_) {}

void CostAwareEviction::Add(const EvictableBlock& block, absl::Time now) {
  by_recency_.Add(block, now);
  by_value_.Add(block, now);
}

void CostAwareEviction::Remove(int32_t place, EvictionLeave why, absl::Time now) {
  by_recency_.Remove(place, why, now);
  by_value_.Remove(place, why, now);
}

void CostAwareEviction::OnUsed(uint64_t content, int32_t depth, absl::Time now) {
  value_.OnUsed(content, depth, now);
  duel_.OnUsed(content, depth, now);
  by_value_.OnUsed(content, depth, now);
}

std::optional<Victim> CostAwareEviction::Worst(absl::Time now) {
  if (duel_.order() == EvictionOrder::kValue) return by_value_.Worst(now);
  const std::optional<Victim> oldest = by_recency_.Worst(now);
  if (!oldest) return std::nullopt;
  // By the value in both orders, so that instances that follow different ones compare.
  return Victim{.place = oldest->place, .keep_value = by_value_.KeepValue(oldest->place, now)};
}

}  // namespace holdfast
