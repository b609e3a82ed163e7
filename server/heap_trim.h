// Gives memory back to the system that the heap holds on to after large requests. The allocator
// keeps freed pages inside its arenas for as long as anything lies above them: after requests
// with texts of 2 MB, four at a time, 717 MB stayed resident, 349 MB after malloc_trim and 265 MB
// before the first of them (smaller thresholds or fewer arenas left 590 MB and more).
//
// Looks at the resident size now and then, and trims when that has grown much since the last trim.
// A trim takes 0.1 to 0.7 s on that heap (busy machine) and holds one arena after the other
// meanwhile, hence the two bounds. Weights, KV and whatever else grows for good cost one trim each
// kHeapTrimGrowthBytes.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "absl/time/time.h"

namespace holdfast {

inline constexpr absl::Duration kHeapTrimPeriod = absl::Seconds(10);  // between two looks
inline constexpr int64_t kHeapTrimGrowthBytes = int64_t{64} << 20;

class HeapTrim final {
 public:
  struct Heap {
    std::function<std::optional<int64_t>()> resident_bytes;  // nullopt: not known
    std::function<void()> trim;
  };
  static Heap OfThisProcess();

  explicit HeapTrim(Heap heap) : heap_(std::move(heap)) {}

  struct Sizes {
    int64_t before_bytes = 0, after_bytes = 0;
  };
  // Trims if it is worth it: nullopt if not. The first look always does.
  std::optional<Sizes> Look();

 private:
  const Heap heap_;
  int64_t least_bytes_ = 0;  // resident since the last trim
  bool looked_ = false;
};

}  // namespace holdfast
