// Lets a coroutine of the I/O thread wait for something that another thread will tell: the next
// event of one of several streams, a finished tokenisation.
//
//   auto signal = ReadySignal::Make(gate, io);
//   stream->NotifyReady(signal->Notifier());
//   co_await signal->Wait(deadline);  // returns at once if the notifier ran before
//
// A notifier may outlive the signal, the coroutine, and the I/O thread itself: it then does
// nothing.
//
// Thread: the I/O thread's alone, but for the notifiers (any).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "server/io_gate.h"

namespace holdfast {

class ReadySignal final : public std::enable_shared_from_this<ReadySignal> {
 public:
  static std::shared_ptr<ReadySignal> Make(std::shared_ptr<IoGate> gate,
                                           asio::any_io_executor executor);

  // Until notified since the last Wait returned. False: `deadline` came first.
  asio::awaitable<bool> Wait(std::chrono::steady_clock::time_point deadline);
  void Notify();  // on the I/O thread
  // For any thread, once. `before` runs on the I/O thread just before the waiter is woken, unless
  // the signal is gone by then.
  absl::AnyInvocable<void()> Notifier(absl::AnyInvocable<void()> before = nullptr);

 private:
  ReadySignal(std::shared_ptr<IoGate> gate, asio::any_io_executor executor);

  const std::shared_ptr<IoGate> gate_;
  asio::steady_timer wake_;
  bool notified_ = false;
};

}  // namespace holdfast
