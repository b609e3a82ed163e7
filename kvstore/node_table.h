// From the hash of a block key to its node: open addressing with linear probing. Unlike a general
// hash table it never rehashes and leaves no tombstones (a removal shifts back what follows), so
// that with tens of millions of entries no single insertion costs a second; and a probe reads only
// this table, not the nodes.
//
//   slot: [low half of the hash | node]     home of a hash h: h * slots / 2^32
//
// Thread: the scheduler's alone.    Bound: 4/3 slots of 8 bytes for each node of the capacity.
// Source: Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithms L and R.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "config/base/check.h"
#include "config/base/prefetch.h"
#include "config/ids.h"

namespace holdfast {

class NodeTable final {
 public:
  explicit NodeTable(int32_t capacity)
      : slots_(static_cast<size_t>(capacity) + static_cast<size_t>(capacity) / 3 + 2) {}

  // The first node of this hash for which `is_it(node)` holds.
  template <typename IsIt>
  std::optional<NodeId> Find(uint32_t hash, IsIt is_it) const {
    for (size_t at = Home(hash);; at = Next(at)) {
      const Slot& slot = slots_[at];
      if (slot.node == kEmpty) return std::nullopt;
      if (slot.hash == hash && is_it(NodeId{slot.node})) return NodeId{slot.node};
    }
  }

  void Insert(uint32_t hash, NodeId node) {
    size_t at = Home(hash);
    while (slots_[at].node != kEmpty) at = Next(at);
    slots_[at] = {.hash = hash, .node = Number(node)};
  }

  void Erase(uint32_t hash, NodeId node) {
    size_t hole = Home(hash);
    while (slots_[hole].node != Number(node)) {
      CHECK(slots_[hole].node != kEmpty);
      hole = Next(hole);
    }
    // Whatever follows and could lie in the hole moves there, so that no probe ends too early.
    for (size_t at = Next(hole); slots_[at].node != kEmpty; at = Next(at)) {
      if (Distance(Home(slots_[at].hash), at) < Distance(hole, at)) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole].node = kEmpty;
  }

  // Brings near what a Find or an Insert of this hash will touch first.
  void Prefetch(uint32_t hash) const { PrefetchToWrite(&slots_[Home(hash)]); }

  size_t num_bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  static constexpr uint32_t kEmpty = ~uint32_t{0};
  struct Slot {
    uint32_t hash = 0;
    uint32_t node = kEmpty;
  };

  size_t Home(uint32_t hash) const {
    return static_cast<size_t>((uint64_t{hash} * slots_.size()) >> 32);
  }
  size_t Next(size_t at) const { return at + 1 == slots_.size() ? 0 : at + 1; }
  size_t Distance(size_t from, size_t to) const {
    return to >= from ? to - from : to + slots_.size() - from;
  }

  std::vector<Slot> slots_;
};

}  // namespace holdfast
