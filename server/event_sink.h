// Where the events of a streamed answer go: to a client (http_exchange.h), or into a stream that
// outlives its connection (kept_stream.h).
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <string_view>

#include "server/http_status.h"

namespace holdfast {

namespace asio = boost::asio;

class EventSink {
 public:
  virtual ~EventSink() = default;

  // False, of all three: nobody wants more.
  virtual asio::awaitable<bool> SendEvents(std::string_view events) = 0;
  virtual asio::awaitable<bool> EndEvents() = 0;
  virtual asio::awaitable<bool> Fail(const OpenAiError& error) = 0;  // before anything was sent

  virtual bool head_sent() const = 0;  // too late for Fail
  virtual bool gone() const = 0;
  // Nobody wants more. Called at most once, and not after StopWatching.
  virtual void OnGone(std::function<void()> on_gone) = 0;
  virtual void StopWatching() = 0;
};

}  // namespace holdfast
