// Least recently used first, by the time that the store hands in: not by when a block was added,
// since a parent is added only when its last child has left, with a last use long past.
//
// Of blocks used last at the same time, the deeper goes first (what lies nearer to the root serves
// more prompts), then the one added earlier.
//
// keep_value is the last use in seconds since the Unix epoch, so that the candidates of several
// instances are compared as if they were one list.
//
// Thread: the scheduler's alone.    Bound: one heap entry for each place; Add, Remove O(log n).
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include "kvstore/eviction/place_heap.h"
#include "kvstore/eviction/policy.h"

namespace holdfast {

class LruEviction final : public EvictionPolicy {
 public:
  explicit LruEviction(int32_t capacity);  // in places, > 0

  void Add(const EvictableBlock& block, absl::Time now) override;
  void Remove(int32_t place, EvictionLeave why, absl::Time now) override;
  void OnUsed(uint64_t content, int32_t depth, absl::Time now) override;
  std::optional<Victim> Worst(absl::Time now) override;
  int32_t size() const override { return heap_.size(); }

 private:
  struct Key {
    absl::Time last_used;
    int32_t depth = 0;
    uint64_t order = 0;  // of Add

    bool operator<(const Key& other) const {
      return std::tie(last_used, other.depth, order) <
             std::tie(other.last_used, depth, other.order);
    }
  };

  PlaceHeap<Key> heap_;
  uint64_t num_added_ = 0;
};

}  // namespace holdfast
