// How often contents have been used, in the cache or not, as far as it is remembered: one slot for
// each hash, of which the last writer is the owner. A wrong answer takes two contents with the same
// slot and 24 equal bits more: it misjudges one block, and harms nothing else.
//
// Thread: its owner's.    Bound: 4 B for each slot, taken at the first Count. O(1).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace holdfast {

class UseMemory final {
 public:
  explicit UseMemory(size_t slots) : size_(std::bit_ceil(std::max<size_t>(slots, 1))) {}

  void Count(uint64_t content) {  // one use more; up to 255
    if (slots_.empty()) slots_.resize(size_);
    const uint64_t hash = Hash(content);
    uint32_t& slot = slots_[Slot(hash)];
    if ((slot & ~kUses) != Tag(hash)) slot = Tag(hash);
    if ((slot & kUses) < kUses) ++slot;
  }
  int32_t Uses(uint64_t content) const {  // 0: not remembered
    if (slots_.empty()) return 0;
    const uint64_t hash = Hash(content);
    const uint32_t slot = slots_[Slot(hash)];
    return (slot & ~kUses) == Tag(hash) ? static_cast<int32_t>(slot & kUses) : 0;
  }

 private:
  static constexpr uint32_t kUses = 255;
  static uint64_t Hash(uint64_t content) {  // names are hashes already, but not in every test
    content = (content ^ (content >> 32)) * 0x9E3779B97F4A7C15u;
    return content ^ (content >> 29);
  }
  size_t Slot(uint64_t hash) const { return static_cast<size_t>(hash) & (size_ - 1); }
  static uint32_t Tag(uint64_t hash) { return static_cast<uint32_t>(hash >> 32) & ~kUses; }

  const size_t size_;
  std::vector<uint32_t> slots_;
};

}  // namespace holdfast
