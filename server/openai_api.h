// The endpoints: what each accepted HTTP request does with the GenerationService, and what it
// answers. Those of Anthropic's wire are anthropic_api.h's.
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/random/random.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "server/anthropic_api.h"
#include "server/generation.h"
#include "server/http_admin.h"
#include "server/http_batches.h"
#include "server/http_exchange.h"
#include "server/http_streams.h"
#include "server/openai_codec.h"
#include "server/openai_response.h"
#include "server/ready_signal.h"
#include "server/responses_api.h"
#include "server/ui_files.h"

namespace holdfast {

struct OpenAiApiOptions {
  std::string version;
  std::string system_fingerprint;
  absl::Duration request_timeout;
  absl::Duration stream_keep_alive;
  const KvAdmin* kv_admin = nullptr;        // null: /admin/v1 is not found
  BackgroundService* background = nullptr;  // null: nothing is kept
  std::span<const UiFile> ui;               // the page at /ui
};

class OpenAiApi final {
 public:
  // What is passed by reference must outlive the object.
  OpenAiApi(OpenAiApiOptions options, GenerationService& service, HttpStreams& streams,
            MetricsRegistry& metrics, std::function<Readiness()> readiness,
            std::shared_ptr<IoGate> gate);

  asio::awaitable<void> Handle(HttpExchange& exchange);

 private:
  asio::awaitable<void> Generate(HttpExchange& exchange, bool chat);
  asio::awaitable<void> Embed(HttpExchange& exchange);
  asio::awaitable<void> Tokenize(HttpExchange& exchange);
  asio::awaitable<void> Detokenize(HttpExchange& exchange);
  asio::awaitable<void> Model(HttpExchange& exchange);
  asio::awaitable<void> CancelChat(HttpExchange& exchange);
  asio::awaitable<void> Ready(HttpExchange& exchange);
  std::string Metrics();

  HttpCallTimes CallTimes() const {
    return {.timeout = options_.request_timeout, .keep_alive = options_.stream_keep_alive};
  }
  Json ModelObject(const std::string& name) const;
  HttpReply ModelList() const;
  HttpReply UiPort(const HttpRequest& request) const;

  const OpenAiApiOptions options_;
  GenerationService& service_;
  HttpStreams& streams_;
  const MetricsRegistry& metrics_;
  const std::function<Readiness()> readiness_;
  std::vector<Gauge> readiness_gauges_;  // holdfast_server_readiness{state}, by Readiness
  const std::shared_ptr<IoGate> gate_;
  HttpAdmin admin_;
  HttpBatches batches_;
  ResponsesApi responses_;
  AnthropicApi anthropic_;
  absl::BitGen random_;
};

}  // namespace holdfast
