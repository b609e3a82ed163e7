// /v1/files and /v1/batches: what they ask of the batch thread (background_service.h), and its
// answers as OpenAI's objects.
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "server/background_service.h"
#include "server/http_exchange.h"
#include "server/ready_signal.h"

namespace holdfast {

class HttpBatches final {
 public:
  // `batches` null: refused, with the setting that they need.
  HttpBatches(BackgroundService* batches, std::shared_ptr<IoGate> gate, absl::Duration timeout)
      : batches_(batches), gate_(std::move(gate)), timeout_(timeout) {}

  asio::awaitable<void> Handle(HttpExchange& exchange);

 private:
  BackgroundService* const batches_;
  const std::shared_ptr<IoGate> gate_;
  const absl::Duration timeout_;
};

}  // namespace holdfast
