// Asks the daemon to stop when the system does: SIGTERM and SIGINT, taken by a thread of their own
// so that what they set off is ordinary code. SIGHUP is noted only; SIGPIPE is ignored, since a
// client that is gone is told by the write's error.
//
// Thread: BlockSignals by main before any other thread exists (they inherit the mask); the callback
// runs on the signals' thread.
#pragma once

#include <functional>
#include <thread>

namespace holdfast {

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
