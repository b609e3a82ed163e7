// The way into the I/O thread from others while there is one.
//
//   any thread --Post--> [tasks] --event--> I/O thread runs them, in order
//
// Not asio::post: that wakes the I/O thread while it holds the lock which the I/O thread needs
// first. On busy processors the two then wait for each other's turns, and a token that is ready is
// sent with the next one (./dev bench serving: of the times between tokens one in ten was twice as
// long as the others).
//
// Thread: Post by any; Begin before the io_context runs; Shut on the I/O thread, or where none
// runs.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace holdfast {

namespace asio = boost::asio;

class IoGate final : public std::enable_shared_from_this<IoGate> {
 public:
  using Task = absl::AnyInvocable<void()>;

  IoGate() = default;
  ~IoGate();
  IoGate(const IoGate&) = delete;
  IoGate& operator=(const IoGate&) = delete;

  // Lets tasks in; keeps io.run() from returning until Shut. kResourceExhausted: no file descriptor
  // is left.
  absl::Status Begin(asio::io_context& io);
  void Post(Task task);  // dropped before Begin and once shut
  void Shut();           // before the io_context goes; idempotent

 private:
  void Await();
  void RunTasks();

  // Both ends of one event counter: `event_` is told by any thread and stays open until nobody can
  // post any more, `awaited_` is the I/O thread's.
  int event_ = -1;
  std::optional<asio::posix::stream_descriptor> awaited_;
  uint64_t count_ = 0;         // what awaited_ reads
  std::vector<Task> running_;  // I/O thread; keeps its memory

  absl::Mutex mutex_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_ ABSL_GUARDED_BY(mutex_) = false;  // the I/O thread knows that there are tasks
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
