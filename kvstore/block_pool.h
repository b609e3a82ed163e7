// Lends out the KV blocks of the device tier and takes them back. Knows ids and counts; the bytes
// live in the engine.
//
//          TryAcquire         Release of the last reference
//   free ------------> held -------------------------------> evictable if published, else free
//    ^                  ^                                        |
//    |                  +----------------- Share ----------------+
//    +-------------------------------- Evict --------------------+
//
// Lower tiers will add a state `moving` between evictable and free.
//
// Thread: the scheduler's alone; no lock.    Bound: capacity, fixed at construction.
// Source: paged KV memory, PagedAttention (Kwon et al., SOSP 2023, section 4); the states are ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/ids.h"

namespace holdfast {

struct BlockCounts {  // always sums to the capacity
  int32_t free = 0, held = 0, evictable = 0;
  bool operator==(const BlockCounts&) const = default;
};

enum class BlockState : uint8_t { kFree, kHeld, kEvictable };

class BlockPool final {
 public:
  explicit BlockPool(int32_t capacity);  // in blocks, > 0

  // Appends `count` blocks, one reference each, to `table`. False: too few are free, and nothing
  // has changed; the caller evicts, waits or preempts. All or nothing, so that no sequence is left
  // holding half a grant. The same history gives the same blocks.
  [[nodiscard]] bool TryAcquire(int32_t count, std::vector<BlockId>& table);

  void Share(BlockId block);    // one more reference: a prefix hit on a held or evictable block
  void Publish(BlockId block);  // held; its content is now immutable and may be found by prefix
  BlockState Release(BlockId block);  // one reference less; the state that follows
  void Evict(BlockId block);  // the policy chose it; any other than an evictable block is a bug

  BlockState state(BlockId block) const;
  int32_t references(BlockId block) const { return entries_[Index(block)].references; }
  bool published(BlockId block) const { return entries_[Index(block)].published; }
  BlockCounts counts() const { return counts_; }
  int32_t capacity() const { return static_cast<int32_t>(entries_.size()); }

  // Recounts everything: a broken invariant stops the process. O(capacity); for tests and idle
  // time.
  void CheckInvariants() const;

 private:
  struct Entry {
    int32_t references = 0;
    bool published = false;
  };
  size_t Index(BlockId block) const;  // stops at an id that was never given out

  std::vector<Entry> entries_;
  std::vector<BlockId> free_;  // a stack: what was used last is warm
  BlockCounts counts_;
};

}  // namespace holdfast
