// Asks the daemon to stop when the system does: SIGTERM and SIGINT, taken by a thread of their own
// so that what they set off is ordinary code. SIGHUP comes the same way; SIGPIPE is ignored, since
// a client that is gone is told by the write's error.
//
// Thread: BlockSignals by main before any other thread exists (they inherit the mask); the callback
// runs on the signals' thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <thread>

#include "absl/time/time.h"
#include "config/base/clock.h"

namespace holdfast {

// Stop signals this soon after the first are the same wish: GNU `timeout` and some supervisors
// signal a process and then its group, so that one wish comes twice within microseconds. No hand is
// as quick as this.
inline constexpr absl::Duration kSameStopWish = absl::Milliseconds(100);

enum class StopWish : uint8_t { kStop, kSame, kAtOnce };

// What each stop signal of one process means. Thread: one at a time.
class StopWishes final {
 public:
  explicit StopWishes(const Clock& clock) : clock_(clock) {}  // must outlive this
  // kStop for the first call, kSame within kSameStopWish of it, then kAtOnce.
  StopWish Next();

 private:
  const Clock& clock_;
  std::optional<absl::Time> first_;
};

// From here on the signals above reach only a StopSignals.
void BlockSignals();

class StopSignals final {
 public:
  // `on_signal` gets the signal's number; must not throw.
  explicit StopSignals(std::function<void(int)> on_signal);
  ~StopSignals();  // no call of `on_signal` after this
  StopSignals(const StopSignals&) = delete;

 private:
  void Run();

  const std::function<void(int)> on_signal_;
  std::thread thread_;
};

}  // namespace holdfast
