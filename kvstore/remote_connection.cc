#include "kvstore/remote_connection.h"

#include <hiredis/hiredis.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "config/base/concat.h"

namespace holdfast {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

absl::Status TooSlow() {
  return absl::DeadlineExceededError("the remote tier's server is too slow");
}

}  // namespace

void RemoteReply::Free::operator()(redisReply* reply) const { freeReplyObject(reply); }

std::optional<int64_t> RemoteReply::integer() const {
  if (reply_->type != REDIS_REPLY_INTEGER) return std::nullopt;
  return reply_->integer;
}

std::optional<std::string_view> RemoteReply::text() const {
  if (reply_->type != REDIS_REPLY_STRING && reply_->type != REDIS_REPLY_STATUS) return std::nullopt;
  return std::string_view(reply_->str, reply_->len);
}

std::optional<std::string_view> RemoteReply::error() const {
  if (reply_->type != REDIS_REPLY_ERROR) return std::nullopt;
  return std::string_view(reply_->str, reply_->len);
}

void RemoteConnection::Free::operator()(redisContext* context) const { redisFree(context); }

absl::StatusOr<std::unique_ptr<RemoteConnection>> RemoteConnection::Connect(
    const RemoteEndpoint& endpoint, absl::Duration connect_timeout, absl::Duration call_timeout) {
  const timeval connect_time = absl::ToTimeval(connect_timeout);
  std::unique_ptr<redisContext, Free> context(
      endpoint.socket_path.empty()
          ? redisConnectWithTimeout(endpoint.host.c_str(), endpoint.port, connect_time)
          : redisConnectUnixWithTimeout(endpoint.socket_path.c_str(), connect_time));
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for a connection");
  if (context->err != 0) {
    return absl::UnavailableError(
        Concat("the remote tier's server cannot be reached: ", context->errstr));
  }
  redisSetTimeout(context.get(), absl::ToTimeval(call_timeout));
  return std::unique_ptr<RemoteConnection>(new RemoteConnection(std::move(context), call_timeout));
}

absl::Status RemoteConnection::Broken() const {
  if (context_->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK)) return TooSlow();
  return absl::UnavailableError(
      Concat("the connection to the remote tier's server is broken: ", context_->errstr));
}

absl::StatusOr<std::vector<RemoteReply>> RemoteConnection::Call(
    std::span<const RemoteCommand> commands) {
  const SteadyTime deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(call_timeout_);
  std::vector<const char*> parts;
  std::vector<size_t> sizes;
  for (const RemoteCommand& command : commands) {
    parts.clear();
    sizes.clear();
    for (const std::string& part : command) {
      parts.push_back(part.data());
      sizes.push_back(part.size());
    }
    if (redisAppendCommandArgv(context_.get(), static_cast<int>(parts.size()), parts.data(),
                               sizes.data()) != REDIS_OK) {
      return Broken();
    }
  }
  for (int is_written = 0; is_written == 0;) {
    if (std::chrono::steady_clock::now() > deadline) return TooSlow();
    if (redisBufferWrite(context_.get(), &is_written) != REDIS_OK) return Broken();
  }
  std::vector<RemoteReply> replies;
  replies.reserve(commands.size());
  while (replies.size() < commands.size()) {
    void* reply = nullptr;
    if (redisGetReplyFromReader(context_.get(), &reply) != REDIS_OK) return Broken();
    if (reply != nullptr) {
      replies.emplace_back(static_cast<redisReply*>(reply));
      continue;
    }
    if (std::chrono::steady_clock::now() > deadline) return TooSlow();
    if (redisBufferRead(context_.get()) != REDIS_OK) return Broken();
  }
  return replies;
}

}  // namespace holdfast
