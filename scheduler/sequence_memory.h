// Where sequences and their tokens lie: side by side in large pages. A step touches a little of
// each, and of thousands in small pages of their own most of that was address translation: at 4,096
// running a sequence cost 64 ns, and 54 here; at 256 it is the same.
//
//   [17 lines | 17 lines | ... kAtOnce][33 lines | 33 lines | ...]     free: by number of lines
//
// An odd number of cache lines each, or the same place of all of them would lie in the same few
// sets of the caches. What is longer than kPooledBytesMax has pages enough and is of the heap. The
// rest is kept for the next of about its size, not given back before the object goes.
//
// Thread: one.    Bound: of each size, what there was of it at once in whole kAtOnce; so that of
// waiting and running, times the sizes that a growing vector passes.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <memory_resource>
#include <new>
#include <utility>

#include "absl/base/config.h"
#include "config/base/check.h"
#include "config/base/large_pages.h"

namespace holdfast {

class SequenceMemory final : public std::pmr::memory_resource {
 public:
  static constexpr size_t kLineBytes = 64;
  static constexpr size_t kPooledBytesMax = size_t{16} << 10;
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  static constexpr bool kPools = false;  // it watches over the heap alone
#else
  static constexpr bool kPools = true;
#endif

 private:
  static constexpr size_t kAtOnce = 32;  // of one size
  struct Free {
    Free* next = nullptr;
  };

  static bool IsPooled(size_t bytes) { return kPools && bytes <= kPooledBytesMax; }

  // About a quarter more at most (of few lines one more), so that sizes are few and the next finds
  // what was given back.
  static size_t LinesFor(size_t bytes) {
    const size_t lines = std::max<size_t>((bytes + kLineBytes - 1) / kLineBytes, 1);
    const size_t step = std::max<size_t>(std::bit_floor(lines) / 4, 1);
    return ((lines + step - 1) / step * step) | 1;
  }

  void AddSome(size_t lines) {
    std::byte* const memory = pages_.Take(kAtOnce * lines * kLineBytes);
    CHECK(memory != nullptr);
    for (size_t i = kAtOnce; i-- > 0;) {
      free_[lines] = new (memory + i * lines * kLineBytes) Free{.next = free_[lines]};
    }
  }

  void* do_allocate(size_t bytes, size_t alignment) override {
    if (!IsPooled(bytes)) return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    CHECK(alignment <= kLineBytes);
    const size_t lines = LinesFor(bytes);
    if (free_[lines] == nullptr) AddSome(lines);
    return std::exchange(free_[lines], free_[lines]->next);
  }

  void do_deallocate(void* memory, size_t bytes, size_t alignment) override {
    if (!IsPooled(bytes)) {
      std::pmr::new_delete_resource()->deallocate(memory, bytes, alignment);
      return;
    }
    Free*& free = free_[LinesFor(bytes)];
    free = new (memory) Free{.next = free};
  }

  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  LargePages pages_;
  std::array<Free*, kPooledBytesMax / kLineBytes + 2> free_{};  // by lines
};

}  // namespace holdfast
