// /admin/v1 over HTTP: the KV cache by tenant and tier, its pins, and the queue (server/admin.h).
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "server/admin.h"
#include "server/http_exchange.h"
#include "server/ready_signal.h"

namespace holdfast {

class HttpAdmin final {
 public:
  // `admin` null: everything is not found.
  HttpAdmin(const KvAdmin* admin, std::shared_ptr<IoGate> gate, absl::Duration timeout)
      : admin_(admin), gate_(std::move(gate)), timeout_(timeout) {}

  asio::awaitable<void> Handle(HttpExchange& exchange);

 private:
  const KvAdmin* const admin_;
  const std::shared_ptr<IoGate> gate_;
  const absl::Duration timeout_;
};

}  // namespace holdfast
