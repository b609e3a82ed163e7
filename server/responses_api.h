// The endpoints of OpenAI's Responses wire: /v1/responses, at once, streamed or in the background,
// and what was kept of them.
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>

#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "server/background_service.h"
#include "server/generation.h"
#include "server/http_call.h"
#include "server/http_exchange.h"
#include "server/http_streams.h"
#include "server/io_gate.h"
#include "server/responses_answer.h"
#include "server/responses_codec.h"

namespace holdfast {

class ResponsesApi final {
 public:
  // `background` null: nothing is kept, and what needs that is refused. What is passed by
  // reference or pointer must outlive the object.
  ResponsesApi(GenerationService& service, HttpStreams& streams, BackgroundService* background,
               std::shared_ptr<IoGate> gate, HttpCallTimes times);

  asio::awaitable<void> Handle(HttpExchange& exchange);

 private:
  asio::awaitable<void> Create(HttpExchange& exchange);
  asio::awaitable<void> AboutKept(HttpExchange& exchange);
  asio::awaitable<void> RunInBackground(HttpExchange& exchange, ResponsesCall call,
                                        ResponseHead head, GenerationCall chat);
  asio::awaitable<void> Stream(HttpExchange& exchange, ResponsesCall call, ResponseHead head,
                               GenerationCall chat);
  void KeepAtEnd(TenantIndex tenant, ResponsesCall& call, ResponseHead& head);
  bool KeepFromBegin(TenantIndex tenant, ResponsesCall& call, ResponseHead& head);
  absl::Status CheckKeeping(ResponsesCall& call) const;

  GenerationService& service_;
  HttpStreams& streams_;
  BackgroundService* const background_;
  const std::shared_ptr<IoGate> gate_;
  const HttpCallTimes times_;
  absl::BitGen random_;
};

}  // namespace holdfast
