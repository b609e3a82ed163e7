// One question of ours to somebody's HTTP port, and the answer.
//
// Thread: the caller's, which waits. Bound: `timeout` from begin to end (but a name's look-up takes
// what the system allows), kHttpAnswerBytesMax of a body.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace holdfast {

inline constexpr size_t kHttpAnswerBytesMax = 64 << 10;

struct HttpQuestion {
  enum class Tls : uint8_t { kNone, kUnchecked };  // kUnchecked: whatever certificate it shows

  std::string host;  // a name, or an address without brackets
  uint16_t port = 0;
  Tls tls = Tls::kNone;
  std::string method = "GET";
  std::string target = "/";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  absl::Duration timeout = absl::Seconds(5);
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// kUnavailable: nobody is there, or what comes is no answer or comes too late.
absl::StatusOr<HttpAnswer> AskHttp(const HttpQuestion& question);

}  // namespace holdfast
