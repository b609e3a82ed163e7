// Hands out parts of one buffer, each on its own cache lines; without a buffer it only counts.
#pragma once

#include <cstddef>

namespace holdfast {

class Carver final {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  template <typename T>
  T* Take(size_t count) {
    std::byte* const part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(part);
  }
  size_t used() const { return used_; }

 private:
  std::byte* const base_;
  size_t used_ = 0;
};

}  // namespace holdfast
