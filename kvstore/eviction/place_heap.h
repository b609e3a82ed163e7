// Places ordered by a key that does not change while they are in: a binary heap that knows where
// each place stands, so that any of them can leave. Push and Remove O(log n), Top O(1).
//
// Equal keys are ordered by place, so that the same history gives the same order everywhere.
//
// Thread: its owner's.    Bound: one entry for each place; its memory, 4 B and an entry for
// each, is taken at construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "config/base/check.h"

namespace holdfast {

// Key: cheap to copy, ordered by <.
template <typename Key>
class PlaceHeap final {
 public:
  struct Entry {
    Key key{};
    int32_t place = 0;
  };

  explicit PlaceHeap(int32_t capacity) : positions_(Size(capacity), kAbsent) {
    heap_.reserve(Size(capacity));
  }

  void Push(int32_t place, const Key& key) {  // not present before
    CHECK(!Contains(place));
    heap_.push_back({.key = key, .place = place});
    MoveUp(size() - 1);
  }

  void Remove(int32_t place) {  // present before
    CHECK(Contains(place));
    const int32_t hole = positions_[Size(place)];
    positions_[Size(place)] = kAbsent;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (last.place == place) return;
    heap_[Size(hole)] = last;
    if (hole > 0 && Before(last, heap_[Size((hole - 1) / 2)])) {
      MoveUp(hole);
    } else {
      MoveDown(hole);
    }
  }

  bool Contains(int32_t place) const {
    CHECK(place >= 0 && Size(place) < positions_.size());
    return positions_[Size(place)] != kAbsent;
  }
  const Entry& Top() const {  // the least; not empty
    CHECK(!heap_.empty());
    return heap_.front();
  }
  int32_t size() const { return static_cast<int32_t>(heap_.size()); }

 private:
  static constexpr int32_t kAbsent = std::numeric_limits<int32_t>::max();

  static size_t Size(int32_t value) { return static_cast<size_t>(value); }
  static bool Before(const Entry& a, const Entry& b) {
    if (a.key < b.key) return true;
    if (b.key < a.key) return false;
    return a.place < b.place;
  }
  void Put(int32_t position, const Entry& entry) {
    heap_[Size(position)] = entry;
    positions_[Size(entry.place)] = position;
  }

  void MoveUp(int32_t position) {
    const Entry entry = heap_[Size(position)];
    while (position > 0) {
      const int32_t parent = (position - 1) / 2;
      if (!Before(entry, heap_[Size(parent)])) break;
      Put(position, heap_[Size(parent)]);
      position = parent;
    }
    Put(position, entry);
  }

  void MoveDown(int32_t position) {
    const Entry entry = heap_[Size(position)];
    for (;;) {
      int32_t child = 2 * position + 1;
      if (child >= size()) break;
      if (child + 1 < size() && Before(heap_[Size(child + 1)], heap_[Size(child)])) ++child;
      if (!Before(heap_[Size(child)], entry)) break;
      Put(position, heap_[Size(child)]);
      position = child;
    }
    Put(position, entry);
  }

  std::vector<Entry> heap_;
  std::vector<int32_t> positions_;  // by place
};

}  // namespace holdfast
