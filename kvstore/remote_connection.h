// One connection to a Valkey or Redis server: commands go out together, their replies come back in
// order. The one file that knows hiredis.
//
// Thread: one at a time.
// Bounds: connecting and calling have time-outs. A call checks its own between system calls, each
// of which ends by it too: it takes at most twice the time-out. A host's name is looked up by the
// system, in the system's time: give an address where that matters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/remote_endpoint.h"

struct redisContext;
struct redisReply;

namespace holdfast {

class RemoteReply final {
 public:
  explicit RemoteReply(redisReply* reply) : reply_(reply) {}
  std::optional<int64_t> integer() const;
  std::optional<std::string_view> text() const;   // a value or a status such as "OK"
  std::optional<std::string_view> error() const;  // the server refused this command

 private:
  struct Free {
    void operator()(redisReply* reply) const;
  };
  std::unique_ptr<redisReply, Free> reply_;
};

using RemoteCommand = std::vector<std::string>;

class RemoteConnection final {
 public:
  // kUnavailable: nobody answers there in time.
  static absl::StatusOr<std::unique_ptr<RemoteConnection>> Connect(const RemoteEndpoint& endpoint,
                                                                   absl::Duration connect_timeout,
                                                                   absl::Duration call_timeout);

  // One reply for each command. kUnavailable: the connection is broken; kDeadlineExceeded: the
  // server is too slow. After either it must not be used again.
  absl::StatusOr<std::vector<RemoteReply>> Call(std::span<const RemoteCommand> commands);

 private:
  struct Free {
    void operator()(redisContext* context) const;
  };
  RemoteConnection(std::unique_ptr<redisContext, Free> context, absl::Duration call_timeout)
      : context_(std::move(context)), call_timeout_(call_timeout) {}
  absl::Status Broken() const;

  std::unique_ptr<redisContext, Free> context_;
  const absl::Duration call_timeout_;
};

}  // namespace holdfast
