// Memory side by side in few large buffers, for many things that are smaller than one large page
// (2 MiB): each mapped for itself gets small pages alone, and reading those misses the translation
// cache, and the processor's own prefetching stops at their ends. Where the system has no large
// pages for us it is memory like other memory.
//
// Prepared weights lie in it: SmolLM2-135M, decode on an AVX-512 server: its layers were read at
// 18 GB/s by one core and 37 by two, its head, large enough to have large pages, at 25 and 54. And
// what a step touches of sequences (scheduler/sequence_memory.h).
//
// Thread: one. Memory is given back when the object goes, not before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "config/base/page_buffer.h"

namespace holdfast {

class LargePages final {
 public:
  static constexpr size_t kLargePageBytes = size_t{2} << 20;

  // At a cache line, behind what was taken before where there is room for it; zeroed. nullptr: the
  // system has no memory.
  std::byte* Take(size_t bytes) {
    constexpr size_t kLineBytes = 64;
    bytes = (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
    if (bytes > left_bytes_ && !AddBuffer(bytes)) return nullptr;
    left_bytes_ -= bytes;
    return std::exchange(next_, next_ + bytes);
  }

 private:
  // Addresses cost nothing: pages that nobody touches are not there.
  static constexpr size_t kBufferBytes = size_t{64} << 20;

  bool AddBuffer(size_t bytes) {
    const size_t room = std::max(bytes, kBufferBytes);
    std::optional<PageBuffer> buffer = PageBuffer::Map(room + kLargePageBytes);
    if (!buffer.has_value()) return false;
    const auto address = reinterpret_cast<uintptr_t>(buffer->data());
    next_ = buffer->data() + (kLargePageBytes - address % kLargePageBytes) % kLargePageBytes;
    left_bytes_ = room;
    buffers_.push_back(*std::move(buffer));
    return true;
  }

  std::vector<PageBuffer> buffers_;
  std::byte* next_ = nullptr;  // in the last buffer
  size_t left_bytes_ = 0;      // there
};

}  // namespace holdfast
