// Lends out the KV blocks of the device tier and takes them back. Knows ids and counts; the bytes
// live in the engine.
//
//              TryAcquire                   the last reference goes
//      free ──────────────► held ───────────────┬──────────────┬───────────────┐
//       ▲                   ▲ ▲                 ▼              ▼               ▼
//       │                   │ │            a move uses it   published     neither: free
//       │                   │ └── Share ──── moving ◄─────── evictable
//       │                   │                  │ BeginMove     │   ▲
//       │                   └───── Share ──────┼───────────────┤   │
//       │                                      │ the last EndMove; published
//       │                                      ├───────────────┼───┘
//       └── the last EndMove; not published ───┘               │
//       └─────────────────────────── Evict ────────────────────┘
//
// References and moves are counted apart: references are those of sequences and pins, moves those
// of the mover, who reads a block (offload) or fills it (restore) and cannot be interrupted. A held
// block may also be in a move; it counts as held. `moving` is what nobody refers to and yet cannot
// be lent.
//
// Thread: the scheduler's alone; no lock.    Bound: capacity, fixed at construction.
// Source: paged KV memory, PagedAttention (Kwon et al., SOSP 2023, section 4); the states are ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "config/base/prefetch.h"
#include "config/ids.h"

namespace holdfast {

struct BlockCounts {  // always sums to the capacity
  int32_t free = 0, held = 0, evictable = 0, moving = 0;
  bool operator==(const BlockCounts&) const = default;
};

enum class BlockState : uint8_t { kFree, kHeld, kEvictable, kMoving };

class BlockPool final {
 public:
  explicit BlockPool(int32_t capacity);  // in blocks, > 0

  // Appends `count` blocks, one reference each, to `table`. False: too few are free, and nothing
  // has changed; the caller evicts, waits or preempts. All or nothing, so that no sequence is left
  // holding half a grant. The same history gives the same blocks.
  [[nodiscard]] bool TryAcquire(int32_t count, std::vector<BlockId>& table);

  // Each returns the state that follows.
  BlockState Share(BlockId block);      // one more reference: not free
  BlockState Release(BlockId block);    // one reference less
  BlockState BeginMove(BlockId block);  // the mover reads or fills it from now on: not free
  BlockState EndMove(BlockId block);

  void Prefetch(BlockId block) const { PrefetchToWrite(&entries_[Index(block)]); }

  // Its content is immutable from now on and may be found by prefix. Not free, not published.
  void Publish(BlockId block);
  // It is not found any more: evictable becomes free; a moving one once its last move has ended.
  // A held block here is a bug.
  BlockState Evict(BlockId block);

  BlockState state(BlockId block) const { return StateOf(entries_[Index(block)]); }
  int32_t references(BlockId block) const { return entries_[Index(block)].references; }
  int32_t moves(BlockId block) const { return entries_[Index(block)].moves; }
  bool published(BlockId block) const { return entries_[Index(block)].published; }
  BlockCounts counts() const { return counts_; }
  int32_t capacity() const { return static_cast<int32_t>(entries_.size()); }

  // Recounts everything: a broken invariant stops the process. O(capacity); for tests and idle
  // time.
  void CheckInvariants() const;

 private:
  struct Entry {
    int32_t references = 0;
    int16_t moves = 0;
    bool published = false;
  };
  static BlockState StateOf(const Entry& entry);
  static int32_t& CountOf(BlockCounts& counts, BlockState state);
  size_t Index(BlockId block) const;                    // stops at an id that was never given out
  BlockState Settle(BlockId block, BlockState before);  // after a change: keeps the counts

  std::vector<Entry> entries_;
  std::vector<BlockId> free_;  // a stack: what was used last is warm
  BlockCounts counts_;
};

}  // namespace holdfast
