#include "kvstore/kv_event_ring.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

KvEventRing::KvEventRing(size_t capacity)
    : events_(capacity), wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CHECK(capacity > 0 && wake_fd_ >= 0);
}

KvEventRing::~KvEventRing() { close(wake_fd_); }

size_t KvEventRing::Take(std::span<KvEvent> out) {
  const uint64_t begin = begin_.load(std::memory_order_relaxed);
  const auto waiting = static_cast<size_t>(end_.load(std::memory_order_acquire) - begin);
  const size_t count = std::min(waiting, out.size());
  for (size_t i = 0; i < count; ++i) {
    out[i] = events_[static_cast<size_t>((begin + i) % events_.size())];
  }
  begin_.store(begin + count, std::memory_order_release);
  return count;
}

// The writer stores the end, then looks whether we sleep; we say that we do, then look at the end.
// All four are sequentially consistent, so that one of the two sees the other.
bool KvEventRing::PrepareToSleep() {
  asleep_.store(true);
  if (end_.load() == begin_.load(std::memory_order_relaxed)) return true;
  asleep_.store(false);
  return false;
}

void KvEventRing::EndSleep() {
  asleep_.store(false);
  uint64_t count = 0;
  (void)!read(wake_fd_, &count, sizeof count);  // fails where nobody has signalled
}

void KvEventRing::Signal() {
  const uint64_t one = 1;
  (void)!write(wake_fd_, &one, sizeof one);  // fails only where the count is at its end: it is told
}

}  // namespace holdfast
