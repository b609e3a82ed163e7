// What there is one of for each tenant, where a reload may add to it while other threads read: what
// is in the table stays where it is, and nothing is ever taken out.
//
// Thread: Add by one at a time, the rest by any.    Bound: `most`; a pointer for each.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "config/base/check.h"

namespace holdfast {

template <typename T>
class GrowingTable final {
 public:
  explicit GrowingTable(size_t most) : items_(most) {}

  T& Add(T item) { return AddNew(std::make_unique<T>(std::move(item))); }
  T& AddNew(std::unique_ptr<T> item) {
    const size_t index = size();
    CHECK(index < items_.size());
    items_[index] = std::move(item);
    size_.store(index + 1, std::memory_order_release);
    return *items_[index];
  }

  size_t size() const { return size_.load(std::memory_order_acquire); }
  T& operator[](size_t index) {
    CHECK(index < size());
    return *items_[index];
  }
  const T& operator[](size_t index) const {
    CHECK(index < size());
    return *items_[index];
  }

 private:
  std::vector<std::unique_ptr<T>> items_;  // never resized
  std::atomic<size_t> size_{0};
};

}  // namespace holdfast
