// Has the system give memory its pages before it is written to. A page that is first touched in a
// step is zeroed in it: of two megabytes, that takes 0.1 to 5 ms (the most on a virtual machine,
// whose host finds the memory only then), on one thread while the others wait.
//
//   |<-- in use -->|<--------- ahead --------->|               not touched
//                  ^ InUse                     ^ as far as the thread goes
//
// Memory beyond that stays the system's until somebody comes near it. A system that cannot do it
// leaves all as it was: pages come when touched.
//
// Thread: InUse by one; a thread of its own touches, where the processors have nothing else to do.
#pragma once

#include <cstddef>
#include <span>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "config/base/mutex.h"

namespace holdfast {

class PagesAhead final {
 public:
  // `memory` begins at a page, and outlives this.
  PagesAhead(std::span<std::byte> memory, size_t ahead);
  ~PagesAhead();
  PagesAhead(const PagesAhead&) = delete;

  // That the first `bytes` of the memory are, or will be at once. Less than before changes nothing.
  void InUse(size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // Until the thread has gone as far as it is to. For tests.
  void WaitTouched() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::span<std::byte> memory_;
  const size_t ahead_;
  size_t in_use_ = 0;  // InUse's thread's
  Mutex mutex_;
  CondVar news_;
  size_t wanted_ ABSL_GUARDED_BY(mutex_);  // touch so much of the memory
  size_t touched_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace holdfast
