// A bounded queue of move-only messages between threads: the only way in which threads meet. Full
// is an answer, not a wait.
//
// The owner is woken when the lock is free again: woken before, on busy processors it would go back
// to sleep for the lock, and another thread might compute for milliseconds before it has its turn.
//
// Thread: Push by any thread, Take by the one owner. No Push may still be at work when it goes.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "config/base/mutex.h"

namespace holdfast {

template <typename Message>
class Mailbox final {
 public:
  explicit Mailbox(size_t capacity) : capacity_(capacity) {}

  // False: full or closed; the message is untouched and still the caller's.
  [[nodiscard]] bool Push(Message&& message) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      if (closed_ || messages_.size() >= capacity_) return false;
      messages_.push_back(std::move(message));
    }
    news_.NotifyOne();
    return true;
  }

  // Past the bound too: for messages that must not be lost and are bounded by others (a cancel
  // for each accepted request). False only when closed.
  bool PushUrgent(Message&& message) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      if (closed_) return false;
      messages_.push_back(std::move(message));
    }
    news_.NotifyOne();
    return true;
  }

  // The same of several, of which the owner hears once. Those taken are gone from `messages`.
  bool PushAllUrgent(std::vector<Message>& messages) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      if (closed_) return false;
      for (Message& message : messages) messages_.push_back(std::move(message));
    }
    news_.NotifyOne();
    messages.clear();
    return true;
  }

  // Appends all waiting messages to `out` without waiting.
  void TakeAll(std::vector<Message>& out) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    MoveAll(out);
  }

  // As TakeAll, but waits until there is a message, the box is closed or `timeout` has passed.
  // False: closed and empty, nothing will come any more.
  bool WaitTakeAll(std::vector<Message>& out, absl::Duration timeout = absl::InfiniteDuration())
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::Time deadline =
        timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + timeout;
    MutexLock lock(&mutex_);
    while (!closed_ && messages_.empty()) {
      if (!news_.WaitUntil(&mutex_, deadline)) break;
    }
    const bool open = !closed_ || !messages_.empty();
    MoveAll(out);
    return open;
  }

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    closed_ = true;
    news_.NotifyAll();
  }

 private:
  void MoveAll(std::vector<Message>& out) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (Message& message : messages_) out.push_back(std::move(message));
    messages_.clear();
  }

  const size_t capacity_;
  Mutex mutex_;
  CondVar news_;
  std::deque<Message> messages_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace holdfast
