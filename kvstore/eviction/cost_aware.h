// Lets go first what is cheap to lose: the block of least keep_value (block_value.h), reuses to be
// expected a second times the work to compute it again. Because what was used once only forms
// classes of its own, a scan of contents that come once cannot push out what is in use.
//
// What is learnt needs reuses to learn from, and can be wrong. So it begins as LRU, holds the two
// orders against each other in ghosts of the cache, and follows the value where that is surely
// better (order_duel.h).
//
// Sources: named in the headers of its parts; that recency alone is not enough for KV blocks,
// Mooncake (Qin et al., FAST 2025).
//
// Thread: the scheduler's alone.    Bound: a heap entry and a candidate for each place; what
// block_value.h and order_duel.h state. Add, Remove O(log n), OnUsed O(log n) amortised; Worst
// looks at ValueOrder::kLookedAt candidates at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "kvstore/eviction/block_value.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/eviction/order_duel.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/eviction/value_order.h"

namespace holdfast {

struct CostAwareOptions {
  RecomputeCost cost = RecomputeCost::OfDecoder(106.2e6, 30, 9, 64);  // the default model
  absl::Duration half_life = absl::Minutes(30);                       // of what was learnt
  EvictionOrder first = EvictionOrder::kRecency;  // followed until the other has done better
};

class CostAwareEviction final : public EvictionPolicy {
 public:
  CostAwareEviction(int32_t capacity, const CostAwareOptions& options);  // in places, > 0

  void Add(const EvictableBlock& block, absl::Time now) override;
  void Remove(int32_t place, EvictionLeave why, absl::Time now) override;
  void OnUsed(uint64_t content, int32_t depth, absl::Time now) override;
  std::optional<Victim> Worst(absl::Time now) override;
  int32_t size() const override { return by_recency_.size(); }

  EvictionOrder order() const { return duel_.order(); }
  double KeepValue(int32_t place, absl::Time now) const { return by_value_.KeepValue(place, now); }
  size_t num_watched() const { return value_.num_watched(); }

 private:
  BlockValue value_;
  OrderDuel duel_;
  LruEviction by_recency_;
  ValueOrder by_value_;
};

}  // namespace holdfast
