#include "server/zmq_socket.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"

namespace holdfast {

ZmqMessage::ZmqMessage(std::span<const uint8_t> bytes) {
  CHECK(zmq_msg_init_size(&message_, bytes.size()) == 0);
  if (!bytes.empty()) std::memcpy(zmq_msg_data(&message_), bytes.data(), bytes.size());
}

ZmqMessage::ZmqMessage(std::string_view text)
    : ZmqMessage(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size())) {}

ZmqMessage ZmqMessage::Share() const {
  ZmqMessage shared;
  CHECK(zmq_msg_copy(&shared.message_, &message_) == 0);
  return shared;
}

ZmqSocket::~ZmqSocket() {
  if (socket_ != nullptr) zmq_close(socket_);
}

absl::Status ZmqSocket::Open(const ZmqContext& context, int type) {
  socket_ = zmq_socket(context.get(), type);
  if (socket_ != nullptr) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("no ZeroMQ socket: ", zmq_strerror(zmq_errno())));
}

void ZmqSocket::Set(int option, int value) {
  CHECK(zmq_setsockopt(socket_, option, &value, sizeof value) == 0);
}

void ZmqSocket::Set(int option, int64_t value) {
  CHECK(zmq_setsockopt(socket_, option, &value, sizeof value) == 0);
}

absl::Status ZmqSocket::Bind(const std::string& endpoint) {
  if (zmq_bind(socket_, endpoint.c_str()) != 0) {
    return absl::UnavailableError(
        absl::StrCat("`", endpoint, "` cannot be listened on: ", zmq_strerror(zmq_errno()),
                     "; choose another, or end who uses it"));
  }
  std::array<char, 512> bound{};
  size_t size = bound.size();
  CHECK(zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, bound.data(), &size) == 0);
  endpoint_ = bound.data();
  return absl::OkStatus();
}

bool ZmqSocket::Send(ZmqMessage part, bool more) {
  int sent = -1;
  do {
    sent = zmq_msg_send(part.get(), socket_, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
  } while (sent < 0 && zmq_errno() == EINTR);
  return sent >= 0;
}

bool ZmqSocket::Receive(ZmqMessage& part, bool& more) {
  int received = -1;
  do {
    received = zmq_msg_recv(part.get(), socket_, ZMQ_DONTWAIT);
  } while (received < 0 && zmq_errno() == EINTR);
  if (received < 0) return false;
  more = zmq_msg_more(part.get()) != 0;
  return true;
}

}  // namespace holdfast
