// Evictable blocks by recency: which goes first when room is needed. All calls O(1): a doubly
// linked list threaded through an array by block.
//
// Children go before their parents: whoever held a block held its whole prefix, and the store
// releases a table from its tail, so a parent always enters after its children.
//
// Thread: the scheduler's alone.    Bound: one link for each block of the pool.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "config/ids.h"

namespace holdfast {

class LruEviction final {
 public:
  explicit LruEviction(int32_t capacity);  // in blocks

  void Add(BlockId block);     // it became evictable: now the most recent; not in the list before
  void Remove(BlockId block);  // it is held again, or gone; in the list before
  std::optional<BlockId> Oldest() const;  // nullopt: nothing is evictable
  int32_t size() const { return size_; }

 private:
  struct Link {
    int32_t older = 0, newer = 0;
    bool linked = false;
  };
  Link& At(BlockId block);

  std::vector<Link> links_;  // by block; the last is the ring's anchor
  int32_t anchor_;
  int32_t size_ = 0;
};

}  // namespace holdfast
