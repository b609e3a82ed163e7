// Least keep_value first (block_value.h).
//
// The block with the least value is looked for among all while there are few, and else among a
// sample drawn anew after every change, joined with the least ones of the samples before: in a
// large cache the exact order is not worth keeping, as every block's value changes while it ages.
// The draw depends on nothing but the history of calls: the same history evicts the same blocks.
//
// Sources: ranking sampled candidates by a value that changes with age, Hyperbolic Caching
// (Blankstein, Sen, Freedman, ATC 2017) and LHD (Beckmann, Chen, Cidon, NSDI 2018); carrying the
// least ones over, the eviction pool of Redis 3.
//
// Thread: its owner's.    Bound: one entry for each place. Add, Remove O(1); Worst looks at
// kLookedAt candidates at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "kvstore/eviction/block_value.h"
#include "kvstore/eviction/policy.h"

namespace holdfast {

class ValueOrder final : public EvictionPolicy {
 public:
  static constexpr int32_t kLookedAt = 64;  // up to so many present, Worst is exact

  explicit ValueOrder(const BlockValue& value) : value_(value) {}  // which outlives it

  void Add(const EvictableBlock& block, absl::Time now) override;
  void Remove(int32_t place, EvictionLeave why, absl::Time now) override;
  void OnUsed(uint64_t content, int32_t depth, absl::Time now) override;
  std::optional<Victim> Worst(absl::Time now) override;
  int32_t size() const override { return static_cast<int32_t>(candidates_.size()); }

  double KeepValue(int32_t place, absl::Time now) const;  // of one that is present

 private:
  struct Candidate {
    absl::Time last_used;
    int32_t place = 0;
    int32_t depth = 0;
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
  Ranked Rank(const Candidate& candidate, absl::Time now) const;
  Victim FindWorst(absl::Time now);  // any is present

  const BlockValue& value_;
  std::vector<Candidate> candidates_;
  absl::flat_hash_map<int32_t, uint32_t> by_place_;  // index into candidates_
  std::vector<Ranked> least_;                        // of the last search, the least first
  uint64_t num_changes_ = 0;
  std::optional<Victim> found_;  // by the last search; of use until the next change
  uint64_t found_changes_ = 0;
  absl::Time found_at_;
};

}  // namespace holdfast
