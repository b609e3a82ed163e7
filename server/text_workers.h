// The small pool of threads that work on text: templates and tokens on the way in, detokenizing and
// stop strings on the way out. One request's work always goes to the same worker, in order, so that
// its state has one owner and no lock.
//
//   front ends --TryPost--> [mailbox, bounded]  --> worker 0 --> Handler
//   scheduler  --Post-----> [the same]          --> worker 1 --> Handler
//
// What a front end posts may be refused (full is an answer); what the scheduler posts may not be
// lost and is bounded elsewhere: a request has at most num_choices * max_tokens token events.
//
// Thread: TryPost, Post, PickWorker by any; the handler runs on the workers' threads only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "config/base/mailbox.h"
#include "scheduler/events.h"

namespace holdfast {

// A token with the time at which the scheduler gave it out: a late worker must not distort ITL.
struct TimedToken {
  TokenEvent event;
  absl::Time at;
};
using TextTask = absl::AnyInvocable<void()>;
using TextMessage = std::variant<TextTask, PromptEvent, TimedToken, RequestDone>;

class TextWorkers final {
 public:
  // What a worker does with its messages; runs on that worker's thread alone.
  class Handler {
   public:
    virtual ~Handler() = default;
    // All messages that waited, in order (maybe none). Returns after how long to call again even if
    // no message comes; InfiniteDuration: not at all.
    virtual absl::Duration Handle(int32_t worker, std::vector<TextMessage>& messages) = 0;
  };

  // `handler` must outlive the pool. num_workers > 0.
  TextWorkers(int32_t num_workers, size_t mailbox_capacity, Handler& handler);
  ~TextWorkers();  // as Stop
  // Closes the mailboxes, lets the workers finish what waits, joins them. Idempotent; one thread.
  void Stop();

  // The worker with the least text waiting to be tokenised; ties go round. `weight_bytes` counts
  // until TaskDone, so that one long prompt is not followed by others on the same worker.
  int32_t PickWorker(size_t weight_bytes);
  void TaskDone(int32_t worker, size_t weight_bytes);

  // False: full or stopping; `task` has not run and will not.
  [[nodiscard]] bool TryPost(int32_t worker, TextTask task);
  // Not refused but at the end, when nobody waits for it any more.
  void Post(int32_t worker, TextMessage message);

 private:
  struct Worker {
    explicit Worker(size_t capacity) : mailbox(capacity) {}
    Mailbox<TextMessage> mailbox;
    std::atomic<size_t> waiting_bytes{0};
    std::thread thread;
  };
  void Run(int32_t index);

  Handler& handler_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<uint32_t> next_{0};
};

}  // namespace holdfast
