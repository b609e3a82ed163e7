// Zeroed memory straight from the system, for what is large and lives long: KV arena, packed
// weights, activations, the host tier, buffers of direct I/O. Pages are touched only when used, and
// large ones are asked for, so that streaming through them misses the translation cache less.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <optional>
#include <utility>

namespace holdfast {

class PageBuffer final {
 public:
  PageBuffer() = default;
  PageBuffer(PageBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PageBuffer& operator=(PageBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PageBuffer() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }

  // nullopt: the system has no room. Aligned to a page; zero bytes is a valid, empty buffer.
  static std::optional<PageBuffer> Map(size_t bytes) {
    PageBuffer buffer;
    if (bytes == 0) return buffer;
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return std::nullopt;
    madvise(data, bytes, MADV_HUGEPAGE);  // a wish; its refusal costs speed alone
    buffer.data_ = static_cast<std::byte*>(data);
    buffer.bytes_ = bytes;
    return buffer;
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace holdfast
