#include "server/http_conn.h"

#include <poll.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "config/limits.h"

namespace holdfast {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kGoodbye = std::chrono::seconds(2);  // for the peer to close, too
constexpr auto kWatchPause = std::chrono::milliseconds(50);
// Of a request that we did not want to read: what a client sends that writes all before it reads,
// with a body twice as large as we take.
constexpr size_t kGoodbyeBytesMax = 2 * kRequestBodyBytesMax;

std::array<asio::const_buffer, 3> Buffers(const Conn::Pieces& pieces) {
  return {asio::buffer(pieces[0]), asio::buffer(pieces[1]), asio::buffer(pieces[2])};
}

class TcpConn final : public Conn {
 public:
  explicit TcpConn(tcp::socket socket) : Conn(std::move(socket)) {}

 private:
  asio::awaitable<error_code> DoHandshake() override { co_return error_code(); }
  asio::awaitable<std::pair<error_code, size_t>> DoRead(std::span<char> into) override {
    auto [error, bytes] =
        co_await socket_.async_read_some(asio::buffer(into.data(), into.size()), kAwait);
    co_return std::pair(error, bytes);
  }
  asio::awaitable<error_code> DoWrite(const Pieces& pieces) override {
    auto [error, bytes] = co_await asio::async_write(socket_, Buffers(pieces), kAwait);
    co_return error;
  }
  asio::awaitable<void> DoShutdown() override { co_return; }
};

class TlsConn final : public Conn {
 public:
  TlsConn(tcp::socket socket, asio::ssl::context& context)
      : Conn(std::move(socket)), stream_(socket_, context) {}

 private:
  asio::awaitable<error_code> DoHandshake() override {
    auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kAwait);
    shaken_ = !error;
    co_return error;
  }
  asio::awaitable<std::pair<error_code, size_t>> DoRead(std::span<char> into) override {
    auto [error, bytes] =
        co_await stream_.async_read_some(asio::buffer(into.data(), into.size()), kAwait);
    co_return std::pair(error, bytes);
  }
  asio::awaitable<error_code> DoWrite(const Pieces& pieces) override {
    auto [error, bytes] = co_await asio::async_write(stream_, Buffers(pieces), kAwait);
    co_return error;
  }
  asio::awaitable<void> DoShutdown() override {
    if (shaken_) co_await stream_.async_shutdown(kAwait);
  }

  asio::ssl::stream<tcp::socket&> stream_;
  bool shaken_ = false;
};

}  // namespace

std::shared_ptr<Conn> Conn::MakeTcp(tcp::socket socket) {
  return std::make_shared<TcpConn>(std::move(socket));
}

std::shared_ptr<Conn> Conn::MakeTls(tcp::socket socket, asio::ssl::context& context) {
  return std::make_shared<TlsConn>(std::move(socket), context);
}

Conn::Conn(tcp::socket socket)
    : socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      watch_pause_(socket_.get_executor()) {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  const tcp::endpoint peer = socket_.remote_endpoint(ignored);
  const asio::ip::address address = peer.address();
  peer_is_loopback_ =
      !ignored && (address.is_loopback() ||
                   (address.is_v6() && address.to_v6().is_v4_mapped() &&
                    asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).is_loopback()));
}

asio::awaitable<IoResult> Conn::Handshake(TimePoint deadline) {
  Arm(deadline);
  const error_code error = co_await DoHandshake();
  co_return IoResult{Disarm(error)};
}

asio::awaitable<IoResult> Conn::Read(std::span<char> into, TimePoint deadline) {
  Arm(deadline);
  const auto [error, bytes] = co_await DoRead(into);
  co_return IoResult{Disarm(error), bytes};
}

asio::awaitable<IoResult> Conn::Write(Pieces pieces, TimePoint deadline) {
  Arm(deadline);
  const error_code error = co_await DoWrite(pieces);
  co_return IoResult{Disarm(error)};
}

void Conn::Arm(TimePoint deadline) {
  timed_out_ = false;
  deadline_ = deadline;
  if (deadline_ < timer_expiry_) StartTimer();
}

IoEnd Conn::Disarm(error_code error) {
  deadline_ = TimePoint::max();
  if (!error) return IoEnd::kOk;
  if (timed_out_) return IoEnd::kTimeout;
  return error == asio::error::eof ? IoEnd::kEndOfStream : IoEnd::kError;
}

void Conn::StartTimer() {
  timer_expiry_ = deadline_;
  timer_.expires_at(deadline_);
  // Weak: a timer is no reason to live. The handler of a timer that was started anew may already
  // be on its way with success, hence the number.
  timer_.async_wait([weak = weak_from_this(), run = ++timer_run_](error_code error) {
    if (error) return;
    if (auto self = weak.lock(); self != nullptr && run == self->timer_run_) self->OnTimer();
  });
}

void Conn::OnTimer() {
  timer_expiry_ = TimePoint::max();
  if (deadline_ == TimePoint::max()) return;
  if (deadline_ > std::chrono::steady_clock::now()) return StartTimer();
  timed_out_ = true;
  deadline_ = TimePoint::max();
  error_code ignored;
  socket_.cancel(ignored);
}

void Conn::WatchGone(std::function<void()> on_gone) {
  on_gone_ = std::move(on_gone);
  ++watch_run_;
  WaitReadable();
}

void Conn::WaitReadable() {
  socket_.async_wait(tcp::socket::wait_read,
                     [self = shared_from_this(), run = watch_run_](error_code error) {
                       if (run == self->watch_run_) self->OnReadable(error);
                     });
}

void Conn::OnReadable(error_code error) {
  pollfd peer{.fd = socket_.native_handle(), .events = POLLRDHUP, .revents = 0};
  if (error || ::poll(&peer, 1, 0) != 0) return TellGone();
  // Bytes wait and nobody reads them now: a pipelined request. The socket stays readable, so look
  // again later rather than at once.
  watch_pause_.expires_after(kWatchPause);
  watch_pause_.async_wait([self = shared_from_this(), run = watch_run_](error_code) {
    if (run == self->watch_run_) self->WaitReadable();
  });
}

void Conn::TellGone() {
  ++watch_run_;
  if (auto on_gone = std::exchange(on_gone_, nullptr)) on_gone();
}

void Conn::StopWatching() {
  if (on_gone_ == nullptr) return;
  on_gone_ = nullptr;
  ++watch_run_;
  error_code ignored;
  socket_.cancel(ignored);  // only the wait: nothing else is awaited when an answer is through
  watch_pause_.cancel();
}

asio::awaitable<void> Conn::Close() {
  const TimePoint deadline = std::chrono::steady_clock::now() + kGoodbye;
  if (aborted_) co_return;
  Arm(deadline);
  co_await DoShutdown();
  const bool said = Disarm(error_code()) == IoEnd::kOk && !timed_out_;
  error_code error;
  socket_.shutdown(tcp::socket::shutdown_send, error);
  // A socket closed over unread bytes answers with a reset, which may overtake and destroy the
  // refusal that we just sent. So read what still comes, for a while, and throw it away.
  std::array<char, 16 << 10> discarded;
  size_t num_discarded = 0;
  while (said && !error && !aborted_ && num_discarded < kGoodbyeBytesMax) {
    Arm(deadline);
    auto [read_error, bytes] = co_await socket_.async_read_some(asio::buffer(discarded), kAwait);
    if (Disarm(read_error) != IoEnd::kOk) break;
    num_discarded += bytes;
  }
  Abort();
}

void Conn::Abort() {
  if (aborted_) return;
  aborted_ = true;
  ++timer_run_;
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  watch_pause_.cancel();
  TellGone();
}

}  // namespace holdfast
