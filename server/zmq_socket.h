// What we use of ZeroMQ's C interface: a context, sockets and messages that close themselves. No
// call waits.
//
// Thread: a socket is one thread's at a time.
#pragma once

#include <zmq.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace holdfast {

class ZmqMessage final {
 public:
  ZmqMessage() { zmq_msg_init(&message_); }
  explicit ZmqMessage(std::span<const uint8_t> bytes);
  explicit ZmqMessage(std::string_view text);
  ZmqMessage(ZmqMessage&& other) noexcept : ZmqMessage() {
    zmq_msg_move(&message_, &other.message_);
  }
  ZmqMessage& operator=(ZmqMessage&& other) noexcept {
    zmq_msg_move(&message_, &other.message_);
    return *this;
  }
  ~ZmqMessage() { zmq_msg_close(&message_); }

  ZmqMessage Share() const;  // the same bytes; short ones are copied
  std::span<const uint8_t> bytes() const {
    return {static_cast<const uint8_t*>(zmq_msg_data(&message_)), zmq_msg_size(&message_)};
  }
  zmq_msg_t* get() { return &message_; }

 private:
  mutable zmq_msg_t message_;  // the interface knows no const
};

struct ZmqContextEnd {
  void operator()(void* context) const { zmq_ctx_term(context); }
};
using ZmqContext = std::unique_ptr<void, ZmqContextEnd>;  // goes after its sockets

class ZmqSocket final {
 public:
  // kUnavailable: the system has no more of what it takes.
  absl::Status Open(const ZmqContext& context, int type);
  ~ZmqSocket();

  void Set(int option, int value);
  void Set(int option, int64_t value);
  absl::Status Bind(const std::string& endpoint);
  const std::string& endpoint() const { return endpoint_; }  // that is bound

  // False: not now (or, of a router, the peer has gone: errno is EHOSTUNREACH).
  [[nodiscard]] bool Send(ZmqMessage part, bool more);
  [[nodiscard]] bool Receive(ZmqMessage& part, bool& more);  // false: there is nothing
  void* get() const { return socket_; }

 private:
  void* socket_ = nullptr;
  std::string endpoint_;
};

}  // namespace holdfast
