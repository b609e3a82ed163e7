// The endpoints: what each accepted HTTP request does with the GenerationService, and what it
// answers. A generation's stream is cancelled as soon as its client is gone, its write fails or one
// of its prompts does.
//
// Thread: the I/O thread's alone.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/random/random.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "server/generation.h"
#include "server/http_admin.h"
#include "server/http_exchange.h"
#include "server/openai_codec.h"
#include "server/openai_response.h"
#include "server/ready_signal.h"

namespace holdfast {

struct OpenAiApiOptions {
  std::string version;
  std::string system_fingerprint;
  absl::Duration request_timeout;
  const KvAdmin* kv_admin = nullptr;  // null: /admin/v1 is not found
};

class OpenAiApi final {
 public:
  // What is passed by reference must outlive the object.
  OpenAiApi(OpenAiApiOptions options, GenerationService& service, const MetricsRegistry& metrics,
            std::function<Readiness()> readiness, std::shared_ptr<IoGate> gate);

  asio::awaitable<void> Handle(HttpExchange& exchange);

 private:
  struct Running;

  asio::awaitable<void> Generate(HttpExchange& exchange, bool chat);
  asio::awaitable<void> AnswerAtOnce(HttpExchange& exchange, Running& running);
  asio::awaitable<void> AnswerAsStream(HttpExchange& exchange, Running& running);
  asio::awaitable<void> EndWithError(HttpExchange& exchange, Running& running, absl::Status status,
                                     std::string sse);
  // What a text worker answers to `start(caller, done)`. nullopt: the client is gone, or has been
  // told what went wrong.
  template <typename Result, typename Start>
  asio::awaitable<std::optional<Result>> AskTextWorker(HttpExchange& exchange, const Start& start);
  asio::awaitable<void> Tokenize(HttpExchange& exchange);
  asio::awaitable<void> Detokenize(HttpExchange& exchange);
  asio::awaitable<void> Model(HttpExchange& exchange);
  asio::awaitable<void> CancelChat(HttpExchange& exchange);
  asio::awaitable<void> Ready(HttpExchange& exchange);

  std::chrono::steady_clock::time_point Deadline() const;
  absl::Status TooLong() const;
  AnswerHead MakeHead(const GenerationCall& call);
  Json ModelObject(const std::string& name) const;
  HttpReply ModelList() const;

  const OpenAiApiOptions options_;
  GenerationService& service_;
  const MetricsRegistry& metrics_;
  const std::function<Readiness()> readiness_;
  const std::shared_ptr<IoGate> gate_;
  HttpAdmin admin_;
  absl::BitGen random_;
};

}  // namespace holdfast
