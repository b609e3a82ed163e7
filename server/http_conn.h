// One accepted connection, TCP or TLS, without a template in sight: Beast's and Asio's stream
// templates throughout cost 63 s of compiler time for one file when tried, this a quarter.
//
//   Read, Write, Handshake: awaited one at a time, each with its own time bound
//   WatchGone:              beside them, tells once that the peer has hung up
//   Close:                  says goodbye, waits shortly for the peer's, and closes
//   Abort:                  cuts; whatever is awaited returns an error
//
// Time bounds cost one timer a connection, not one an operation: an operation only moves the
// deadline that the timer looks at when it fires.
//
// Thread: the I/O thread's alone.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "absl/time/time.h"

namespace holdfast {

namespace asio = boost::asio;

enum class IoEnd : uint8_t { kOk, kEndOfStream, kTimeout, kError };

struct IoResult {
  IoEnd end = IoEnd::kOk;
  size_t bytes = 0;
  bool ok() const { return end == IoEnd::kOk; }
};

class Conn : public std::enable_shared_from_this<Conn> {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Pieces = std::array<std::string_view, 3>;  // written in order; empty ones are skipped

  static std::shared_ptr<Conn> MakeTcp(asio::ip::tcp::socket socket);
  // `context` must outlive the connection.
  static std::shared_ptr<Conn> MakeTls(asio::ip::tcp::socket socket, asio::ssl::context& context);
  virtual ~Conn() = default;
  Conn(const Conn&) = delete;

  asio::awaitable<IoResult> Handshake(TimePoint deadline);  // TCP: nothing to do
  asio::awaitable<IoResult> Read(std::span<char> into, TimePoint deadline);
  asio::awaitable<IoResult> Write(Pieces pieces, TimePoint deadline);  // all or an error

  // Calls `on_gone` at most once, from the I/O thread and not before this returns, when the peer
  // has closed its side (also only for writing, as in Go's server) or the connection is aborted.
  // Consumes nothing: a pipelined request stays to be read. Not while a Read is awaited.
  void WatchGone(std::function<void()> on_gone);
  void StopWatching();

  asio::awaitable<void> Close();
  void Abort();
  bool peer_is_loopback() const { return peer_is_loopback_; }

 protected:
  explicit Conn(asio::ip::tcp::socket socket);

  virtual asio::awaitable<boost::system::error_code> DoHandshake() = 0;
  virtual asio::awaitable<std::pair<boost::system::error_code, size_t>> DoRead(
      std::span<char> into) = 0;
  virtual asio::awaitable<boost::system::error_code> DoWrite(const Pieces& pieces) = 0;
  virtual asio::awaitable<void> DoShutdown() = 0;  // TLS: close_notify

  asio::ip::tcp::socket socket_;

 private:
  void Arm(TimePoint deadline);
  IoEnd Disarm(boost::system::error_code error);  // how the operation ended
  void StartTimer();
  void OnTimer();
  void WaitReadable();
  void OnReadable(boost::system::error_code error);
  void TellGone();

  asio::steady_timer timer_;
  TimePoint deadline_ = TimePoint::max();      // of the operation awaited; max: none
  TimePoint timer_expiry_ = TimePoint::max();  // max: not running
  uint64_t timer_run_ = 0;                     // tells a restarted timer's handlers apart
  bool timed_out_ = false;

  asio::steady_timer watch_pause_;
  std::function<void()> on_gone_;
  uint64_t watch_run_ = 0;
  bool aborted_ = false;
  bool peer_is_loopback_ = false;
};

}  // namespace holdfast
