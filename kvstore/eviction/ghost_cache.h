// What a cache of a given size would hold if it evicted in a given order, without the cache: names
// and no blocks. Told of every chain of blocks that is used, it says which of them it would have
// found.
//
// It keeps the rules of the store: what a chain found or brought stays until the chain ends, and
// children go before parents.
//
//   BeginChain   Use Use Use      BeginChain
//   ----------> (held, root first) ----------> the last one may go, if nothing hangs on it
//
// Source: ghosts that tell what another policy would have found, ARC (Megiddo and Modha, FAST
// 2003), Mini-simulations (Waldspurger et al., ATC 2017).
//
// Thread: its owner's.    Bound: one entry for each place, some 80 B with the order's; taken by
// use. Calls O(1) and those of the order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "kvstore/eviction/policy.h"

namespace holdfast {

class GhostCache final {
 public:
  // `order` is new, and for so many places. capacity > 0.
  GhostCache(int32_t capacity, std::unique_ptr<EvictionPolicy> order);

  void BeginChain(absl::Time now);
  // The next of the chain, deeper than those before. True: it was there. What does not fit into the
  // cache beside the rest of its chain is not kept.
  bool Use(uint64_t content, int32_t depth, absl::Time now);

  size_t size() const { return by_content_.size(); }

 private:
  static constexpr int32_t kNone = -1;
  struct Entry {
    uint64_t content = 0;
    absl::Time last_used;
    int32_t depth = 0;
    int32_t parent = kNone;
    int32_t num_children = 0;
    bool offered = false;  // to the order
  };
  Entry& At(int32_t place) { return entries_[static_cast<size_t>(place)]; }
  void Offer(int32_t place, absl::Time now);
  int32_t TakePlace(absl::Time now);  // kNone: none may go

  const int32_t capacity_;
  const std::unique_ptr<EvictionPolicy> order_;
  std::vector<Entry> entries_;
  absl::flat_hash_map<uint64_t, int32_t> by_content_;
  int32_t last_ = kNone;  // of the chain
  bool cut_ = false;      // the chain's rest does not fit
};

}  // namespace holdfast
