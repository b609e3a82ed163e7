// The small pool of threads that work on text on its way out: detokenizing and stop strings. One
// request's work always goes to the same worker, in order, so that its state has one owner and no
// lock.
//
//   scheduler, prompt workers --Post--> [mailbox] --> worker 0 --> Handler
//                                       [mailbox] --> worker 1 --> Handler
//
// What is posted may not be lost and is bounded elsewhere: a request is begun, stopped and done
// once, and has at most num_choices * max_tokens token events.
//
// Thread: Post by any; the handler runs on the workers' threads only.
#pragma once

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
  TextWorkers(int32_t num_workers, Handler& handler);
  ~TextWorkers();  // as Stop
  // Closes the mailboxes, lets the workers finish what waits, joins them. Idempotent; one thread.
  void Stop();

  // Not refused but at the end, when nobody waits for it any more.
  void Post(int32_t worker, TextMessage message);

 private:
  struct Worker {
    Mailbox<TextMessage> mailbox{0};  // all messages are urgent: see the bound above
    std::thread thread;
  };
  void Run(int32_t index);

  Handler& handler_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace holdfast
