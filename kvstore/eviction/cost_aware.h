// Lets go first what is cheap to lose: of each evictable block the value of keeping it is
//
//   keep_value = (reuses to be expected per second of keeping it) x (work to compute it again)
//
// in FLOP per block-second. The first is learnt from the reuses seen, by class and age
// (reuse_model.h); the second is known from the block's depth: every token costs the weights once,
// and attention to all tokens before it. Because what was used once only forms classes of its own,
// a scan of contents that come once cannot push out what is in use.
//
//   class = (uses so far, also before an eviction: 1, 2, more)
//           x (depth: below 2k, 8k, 32k tokens, and beyond)
//
// What is learnt can be wrong: where letting the least recently used go would have found more, that
// is done (order_duel.h).
//
// The block with the least value is looked for among all while there are few, and else among a
// sample drawn anew after every change, joined with the least ones of the samples before: in a
// large cache the exact order is not worth keeping, as every block's value changes while it ages.
// The draw depends on nothing but the history of calls: the same history evicts the same blocks.
//
// Sources: keeping by expected benefit per cost and space, GreedyDual-Size-Frequency (Cherkasova,
// HP Labs 1998); ranking sampled candidates by a value that changes with age, Hyperbolic Caching
// (Blankstein, Sen, Freedman, ATC 2017) and LHD (Beckmann, Chen, Cidon, NSDI 2018); carrying the
// least ones over, the eviction pool of Redis 3; that KV reuse is predictable by kind and age and
// that recency alone is not enough, "KVCache Cache in the Wild" (Wang et al., ATC 2025) and
// Mooncake (Qin et al., FAST 2025).
//
// Thread: the scheduler's alone.    Bound: a heap entry for each place; of evicted contents the
// sample that is watched (reuse_sample.h), the uses of 32 times the capacity, at most 2^22, in 4 B
// each (use_memory.h), and the open bets on four times the capacity, at most 2^18. Add, Remove
// O(log n), OnComputed O(1) amortised; Worst looks at kLookedAt candidates at most.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/eviction/order_duel.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/eviction/reuse_model.h"
#include "kvstore/eviction/reuse_sample.h"
#include "kvstore/eviction/use_memory.h"

namespace holdfast {

// Work of computing one token again, in FLOP or in anything else that is linear in time.
struct RecomputeCost {
  double token = 0;         // whatever its position
  double per_position = 0;  // and for each token before it

  // Of a dense decoder: two FLOP for each weight, and four for each place attended to in each
  // dimension of each query head (scores and sums): Kaplan et al. 2020, section 2.1. The output
  // matrix works once for a whole prompt: leave it out of `weights`.
  static constexpr RecomputeCost OfDecoder(double weights, double layers, double heads,
                                           double head_dim) {
    return {.token = 2 * weights, .per_position = 4 * layers * heads * head_dim};
  }
};

struct CostAwareOptions {
  RecomputeCost cost = RecomputeCost::OfDecoder(106.2e6, 30, 9, 64);  // the default model
  absl::Duration half_life = absl::Minutes(30);                       // of what was learnt
  EvictionOrder first = EvictionOrder::kValue;  // followed until the other has done better
};

class CostAwareEviction final : public EvictionPolicy {
 public:
  static constexpr int32_t kLookedAt = 64;  // up to so many present, Worst is exact

  // capacity in places, > 0: what is learnt reaches back 32 times as many arrivals.
  CostAwareEviction(int32_t capacity, const CostAwareOptions& options);

  void Add(const EvictableBlock& block, absl::Time now) override;
  void Remove(int32_t place, EvictionLeave why, absl::Time now) override;
  void OnComputed(uint64_t content, absl::Time now) override;
  std::optional<Victim> Worst(absl::Time now) override;
  int32_t size() const override { return static_cast<int32_t>(candidates_.size()); }

  EvictionOrder order() const { return duel_.order(); }
  // What kValue compares; of one that is present.
  double KeepValue(int32_t place, absl::Time now) const;
  size_t num_watched() const { return sample_.size(); }

 private:
  struct Candidate {
    EvictableBlock block;
    int32_t uses = 0;
    int32_t block_class = 0;
    double cost = 0;
  };
  struct Ranked {
    double value = 0;
    absl::Time last_used;
    int32_t depth = 0;
    int32_t place = 0;
  };
  static constexpr size_t kCarriedOver = 16;

  static bool GoesBefore(const Ranked& a, const Ranked& b);
  static int32_t ClassOf(int32_t uses, int32_t depth);
  double CostOf(const EvictableBlock& block) const;
  Ranked Rank(const Candidate& candidate, absl::Time now) const;
  void FindWorst(absl::Time now);  // any is present
  Ranked LeastByValue(absl::Time now);

  const RecomputeCost cost_;
  ReuseModel model_;
  ReuseSample sample_;
  UseMemory uses_;
  OrderDuel duel_;
  LruEviction by_recency_;
  std::vector<Candidate> candidates_;
  absl::flat_hash_map<int32_t, uint32_t> by_place_;  // index into candidates_
  std::vector<Ranked> least_;                        // of the last search, the least first
  uint64_t num_changes_ = 0;
  std::optional<Victim> found_;  // by the last search; of use until the next change
  uint64_t found_spared_ = 0;    // the content that the other order would have let go
  uint64_t found_changes_ = 0;
  absl::Time found_at_;
};

}  // namespace holdfast
