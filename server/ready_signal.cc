#include "server/ready_signal.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace holdfast {

ReadySignal::ReadySignal(std::shared_ptr<IoGate> gate, asio::any_io_executor executor)
    : gate_(std::move(gate)), wake_(std::move(executor)) {}

std::shared_ptr<ReadySignal> ReadySignal::Make(std::shared_ptr<IoGate> gate,
                                               asio::any_io_executor executor) {
  return std::shared_ptr<ReadySignal>(new ReadySignal(std::move(gate), std::move(executor)));
}

// Cancelling a timer that nobody awaits yet is lost, hence the flag.
asio::awaitable<bool> ReadySignal::Wait(std::chrono::steady_clock::time_point deadline) {
  if (!notified_ && wake_.expiry() != deadline) wake_.expires_at(deadline);
  while (!notified_ && std::chrono::steady_clock::now() < deadline) {
    co_await wake_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  co_return std::exchange(notified_, false);
}

void ReadySignal::Notify() {
  notified_ = true;
  wake_.cancel();
}

// The weak pointer is looked at on the I/O thread alone, so that the timer is destroyed there.
absl::AnyInvocable<void()> ReadySignal::Notifier(absl::AnyInvocable<void()> before) {
  return [gate = gate_, weak = weak_from_this(), before = std::move(before)]() mutable {
    gate->Post([weak = std::move(weak), before = std::move(before)]() mutable {
      const std::shared_ptr<ReadySignal> signal = weak.lock();
      if (signal == nullptr) return;
      if (before) before();
      signal->Notify();
    });
  };
}

}  // namespace holdfast
