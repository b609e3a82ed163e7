// Which of two orders of eviction finds more: by recency, or by learnt value. Each has a ghost of
// the cache (ghost_cache.h) that follows it alone and sees every use, so that both are judged by
// what they would have found, whichever one the cache follows.
//
// What one chain finds more by value than by recency is one observation, in blocks and in work;
// both sums fade with time. Value is followed when its lead in both is kSure times the standard
// error of such a sum (the root of the sum of squares), and until it is behind in either. So a lead
// that is luck does not count: where reuse is rare, recency stays.
//
// A large cache is simulated small: only one block of `stride` by depth counts, in a ghost of a
// `stride`th of the capacity. That keeps chains whole, where a sample of contents would tear them.
//
// Sources: set duelling (Qureshi et al., ISCA 2007); simulating a policy on a scaled-down sample,
// Mini-simulations (Waldspurger et al., ATC 2017).
//
// Thread: its owner's.    Bound: two ghosts of kGhostBlocks to twice as many places, or of a
// kStrideMax-th of the capacity. OnUsed O(log n) for one block of a stride, O(1) for the others.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "kvstore/eviction/block_value.h"
#include "kvstore/eviction/ghost_cache.h"

namespace holdfast {

enum class EvictionOrder : uint8_t { kRecency, kValue };

class OrderDuel final {
 public:
  static constexpr int32_t kGhostBlocks = 1024;
  static constexpr int32_t kStrideMax = 32;

  // capacity in blocks, > 0; `value` outlives it.
  OrderDuel(int32_t capacity, EvictionOrder first, absl::Duration half_life,
            const BlockValue& value);

  EvictionOrder order() const { return order_; }

  // The blocks of a chain, the root first: one that is not deeper than the last begins a new one.
  void OnUsed(uint64_t content, int32_t depth, absl::Time now);

 private:
  struct Lead {  // of value over recency
    double chain = 0;
    double sum = 0;
    double squares = 0;

    void EndChain(double keep);
    bool IsSure() const { return sum > 0 && sum * sum > kSure * kSure * squares; }
  };
  static constexpr double kSure = 1.5;

  void EndChain(absl::Time now);

  const BlockValue& value_;
  const absl::Duration half_life_;
  const int32_t stride_;
  GhostCache by_recency_;
  GhostCache by_value_;
  EvictionOrder order_;
  int32_t last_depth_ = -1;
  absl::Time faded_at_ = absl::InfinitePast();
  Lead blocks_;
  Lead work_;
};

}  // namespace holdfast
