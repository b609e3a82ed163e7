// Which evictable block goes first when room is needed. One instance for each tenant and tier, so
// that what is learnt of one tenant's reuse is never readable in another's hits; the store compares
// the instances' candidates by value and applies floors and ceilings (kv_store.h).
//
// The store keeps the rule that a parent outlives its children on a tier: it adds a place only
// while no child of it lies on that tier, and removes it when one comes. Pinned and held places are
// never added. All calls O(1) or O(log n).
//
// Thread: the scheduler's alone.    Bound: places are dense numbers below `capacity`; each
// policy states its memory.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace holdfast {

// What a policy may know of a block.
struct EvictableBlock {
  int32_t place = 0;     // the BlockId or TierSlot as a number
  int32_t depth = 0;     // blocks before it in its sequence: the cost of computing it again grows
  uint64_t content = 0;  // names the content, also after eviction (BlockKey::low)
  absl::Time last_used;  // when it was last referenced
};

enum class EvictionLeave : uint8_t {
  kReused,    // somebody refers to it again: a hit
  kEvicted,   // it was the victim
  kForgotten  // dropped for another reason, of which nothing is to be learnt
};

struct Victim {
  int32_t place = 0;
  double keep_value = 0;  // what is lost by letting it go; comparable between instances of one kind
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  virtual void Add(const EvictableBlock& block, absl::Time now) = 0;          // not present before
  virtual void Remove(int32_t place, EvictionLeave why, absl::Time now) = 0;  // present before
  // Content that a sequence used, found or computed, whether it is here or not: a policy may learn
  // from it. Told when the sequence lets go of its chain, of each of its blocks, the root first.
  virtual void OnUsed(uint64_t content, int32_t depth, absl::Time now) = 0;
  // The one with the least value; nullopt: none is evictable. Changes nothing that an observer
  // sees.
  virtual std::optional<Victim> Worst(absl::Time now) = 0;
  virtual int32_t size() const = 0;
};

}  // namespace holdfast
