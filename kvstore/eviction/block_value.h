// What keeping a block is worth, learnt from the uses of one tenant's blocks:
//
//   keep_value = (reuses to be expected per second of keeping it) x (work to compute it again)
//
// in FLOP per block-second. The first is learnt by class and age (reuse_model.h) from a sample of
// all contents, in the cache or not (reuse_sample.h); the second is known from the block's depth:
// every token costs the weights once, and attention to all tokens before it.
//
//   class = (uses so far, also before an eviction: 1, 2, more)
//           x (depth: below 2k, 8k, 32k tokens, and beyond)
//
// Sources: keeping by expected benefit per cost and space, GreedyDual-Size-Frequency (Cherkasova,
// HP Labs 1998); that KV reuse is predictable by kind and age, "KVCache Cache in the Wild" (Wang et
// al., ATC 2025).
//
// Thread: its owner's.    Bound: what the sample watches, and the uses of 32 times the capacity, at
// most 2^22, in 4 B each (use_memory.h). Every call O(1) amortised.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
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

class BlockValue final {
 public:
  // capacity in blocks, > 0.
  BlockValue(int32_t capacity, const RecomputeCost& cost, absl::Duration half_life);

  void OnUsed(uint64_t content, int32_t depth, absl::Time now);

  double CostOf(int32_t depth) const;  // of the whole block, FLOP
  int32_t ClassOf(uint64_t content, int32_t depth) const;
  double ReuseRate(int32_t block_class, absl::Duration age) const {
    return model_.Index(block_class, absl::ToDoubleSeconds(age));
  }
  size_t num_watched() const { return sample_.size(); }

 private:
  const RecomputeCost cost_;
  ReuseModel model_;
  ReuseSample sample_;
  UseMemory uses_;
};

}  // namespace holdfast
