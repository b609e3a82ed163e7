// What the store tells of the whereabouts of its blocks, and how that gets from the scheduler's
// thread to one that has time for it.
//
//   scheduler's thread:   Push, Push, Push ... Wake      nothing is allocated, locked or waited for
//   the reader's:         Take ... PrepareToSleep, poll wake_fd(), EndSleep
//
// Full is an answer: what finds no room is lost and counted, and then the store tells everything
// anew once the reader has caught up (KvStore::TellAnew), so that a reader can be late, but not
// wrong.
//
// Thread: Push, Wake, IsEmpty and num_free by one; Take and the sleep by one other; counts by any.
// Bound: the capacity, all of it taken and touched at once: 96 bytes an event.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "config/ids.h"
#include "config/limits.h"
#include "kvstore/tier.h"

namespace holdfast {

struct KvEvent {
  enum class Kind : uint8_t {
    kCleared,  // nothing lies anywhere; what does is told from here on
    kStored,   // the block lies on the tier and is found there
    kRemoved,  // it does no more
  };
  Kind kind = Kind::kCleared;
  TierKind tier = TierKind::kDevice;
  bool has_parent = false;
  uint64_t block = 0;                             // the low half of its key
  uint64_t parent = 0;                            // of kStored, if it has one
  std::array<TokenId, kBlockTokens> tokens = {};  // of kStored
  bool operator==(const KvEvent&) const = default;
};

class KvEventRing final {
 public:
  explicit KvEventRing(size_t capacity = 1 << 16);  // in events, > 0
  ~KvEventRing();
  KvEventRing(const KvEventRing&) = delete;

  // False: full; the event is lost.
  [[nodiscard]] bool Push(const KvEvent& event) {
    const uint64_t end = end_.load(std::memory_order_relaxed);
    if (end - begin_.load(std::memory_order_acquire) == events_.size()) {
      num_lost_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    events_[static_cast<size_t>(end % events_.size())] = event;
    end_.store(end + 1);  // before Wake looks whether the reader sleeps
    news_ = true;
    return true;
  }
  size_t num_free() const {
    return events_.size() - static_cast<size_t>(end_.load(std::memory_order_relaxed) -
                                                begin_.load(std::memory_order_acquire));
  }
  bool IsEmpty() const { return num_free() == events_.size(); }
  size_t capacity() const { return events_.size(); }

  // After some Push: a reader that sleeps wakes. One system call, and only if it does.
  void Wake() {
    if (!std::exchange(news_, false)) return;
    if (asleep_.exchange(false)) Signal();
  }

  // The oldest, as many as there are and fit; returns how many.
  size_t Take(std::span<KvEvent> out);

  // Readable once Wake or Interrupt was called after PrepareToSleep said true. False: there are
  // events.
  [[nodiscard]] bool PrepareToSleep();
  void EndSleep();  // after PrepareToSleep, whatever woke
  int wake_fd() const { return wake_fd_; }
  void Interrupt() { Signal(); }  // any thread

  void CountRestart() { num_restarts_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t num_lost() const { return num_lost_.load(std::memory_order_relaxed); }
  uint64_t num_restarts() const { return num_restarts_.load(std::memory_order_relaxed); }

 private:
  void Signal();

  std::vector<KvEvent> events_;
  int wake_fd_ = -1;
  bool news_ = false;  // the writer's: pushed since Wake
  std::atomic<uint64_t> num_lost_{0}, num_restarts_{0};
  alignas(64) std::atomic<uint64_t> end_{0};    // written by the writer
  alignas(64) std::atomic<uint64_t> begin_{0};  // by the reader
  std::atomic<bool> asleep_{false};
};

}  // namespace holdfast
