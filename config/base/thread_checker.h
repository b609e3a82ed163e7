// Proves, unless NDEBUG is defined (no preset does), that what one thread owns is touched by that
// thread alone. The first caller of CheckThread becomes the owner; Detach gives it away.
#pragma once

#include <atomic>
#include <thread>

#include "config/base/check.h"

namespace holdfast {

class ThreadChecker final {
 public:
  void CheckThread() const {
#ifndef NDEBUG
    std::thread::id none;
    const std::thread::id self = std::this_thread::get_id();
    if (!owner_.compare_exchange_strong(none, self)) CHECK(none == self);
#endif
  }
  void Detach() { owner_.store(std::thread::id()); }

 private:
  mutable std::atomic<std::thread::id> owner_{};
};

}  // namespace holdfast
