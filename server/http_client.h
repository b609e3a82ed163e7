// One question of ours to somebody's HTTP port, and the answer.
//
// Thread: the caller's, which waits. Bound: `timeout` from begin to end (but a name's look-up takes
// what the system allows), `answer_bytes_max` of a body.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace holdfast {

struct HttpQuestion {
  // kUnchecked: whatever certificate it shows. kChecked: one of `host`, that `tls_ca` vouches for.
  enum class Tls : uint8_t { kNone, kUnchecked, kChecked };

  std::string host;  // a name, or an address without brackets
  uint16_t port = 0;
  Tls tls = Tls::kNone;
  std::string tls_ca;  // PEM file; empty: what the system trusts
  std::string method = "GET";
  std::string target = "/";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  absl::Duration timeout = absl::Seconds(5);
  size_t answer_bytes_max = 64 << 10;
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};

// kUnavailable: nobody is there, or what comes is no answer or comes too late.
absl::StatusOr<HttpAnswer> AskHttp(const HttpQuestion& question);
// The same on the awaiting coroutine's executor, which has other things to do meanwhile.
boost::asio::awaitable<absl::StatusOr<HttpAnswer>> AskHttpAsync(HttpQuestion question);

}  // namespace holdfast
