// The endpoints of Anthropic's wire: POST /v1/messages, at once or streamed, and
// POST /v1/messages/count_tokens.
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>

#include "absl/random/random.h"
#include "absl/time/time.h"
#include "server/generation.h"
#include "server/http_call.h"
#include "server/http_exchange.h"
#include "server/http_streams.h"
#include "server/io_gate.h"

namespace holdfast {

class AnthropicApi final {
 public:
  // What is passed by reference must outlive the object.
  AnthropicApi(GenerationService& service, HttpStreams& streams, std::shared_ptr<IoGate> gate,
               HttpCallTimes times);

  asio::awaitable<void> Handle(HttpExchange& exchange);

 private:
  asio::awaitable<void> Messages(HttpExchange& exchange);
  asio::awaitable<void> CountTokens(HttpExchange& exchange);

  GenerationService& service_;
  HttpStreams& streams_;
  const std::shared_ptr<IoGate> gate_;
  const HttpCallTimes times_;
  absl::BitGen random_;
};

}  // namespace holdfast
