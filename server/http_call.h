// What runs behind an HTTP request, on whatever wire: a generation call, or one question to a text
// worker. Both end as soon as the client is gone, or when the request has taken too long.
//
// Thread: the I/O thread's alone.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/answer_writer.h"
#include "server/event_sink.h"
#include "server/generation.h"
#include "server/http_exchange.h"
#include "server/json_body.h"
#include "server/ready_signal.h"

namespace holdfast {

std::chrono::steady_clock::time_point DeadlineAfter(absl::Duration timeout);
absl::Status TookLongerThan(absl::Duration timeout);

HttpReply BodyReply(std::string body);  // JSON, as text
HttpReply JsonReply(const Json& json);

// A comment, which readers of events pass over.
inline constexpr std::string_view kKeepAliveComment = ": keep-alive\n\n";

struct HttpCallTimes {
  absl::Duration timeout;     // of a call
  absl::Duration keep_alive;  // a stream without an event for so long gets a comment
};

// The streams of one generation call, and the way their events take to the client. Whatever is not
// through when this goes is cancelled; so is all of it when nobody wants it any more (the client
// left, a write failed) or one of the prompts fails.
class HttpCall final {
 public:
  // `sink` must outlive this.
  HttpCall(EventSink& sink, std::shared_ptr<ReadySignal> signal, HttpCallTimes times);
  ~HttpCall();
  HttpCall(const HttpCall&) = delete;

  // Whose request it is, and what trace it is a part of.
  struct Caller {
    TenantIndex tenant{};
    std::optional<TraceContext> trace;
  };
  static Caller CallerOf(const HttpRequest& request) { return {request.tenant, request.trace}; }
  // `wire_id`: what the client sees. Fills in what no body knows: caller, wire_id, arrival.
  void Start(GenerationService& service, const Caller& caller, const std::string& wire_id,
             std::vector<GenerationRequest> requests);

  // One of them, once, after Start. `exchange` is the sink.
  asio::awaitable<void> AnswerAtOnce(HttpExchange& exchange, AnswerBodyWriter& answer);
  // The status line waits for the first event, so that a refusal can still be an HTTP status; but
  // not for longer than keep_alive.
  asio::awaitable<void> AnswerAsStream(AnswerStreamWriter& answer);

 private:
  struct Prompt {
    std::shared_ptr<GenerationStream> stream;
    bool waiting = false;  // NotifyReady has been called and has not answered
    bool done = false;
  };

  void Cancel();
  bool AllDone() const;
  void NotifyAny();
  std::optional<GenerationEvent> Next(size_t prompt);
  asio::awaitable<void> EndWithError(absl::Status status, const AnswerStreamWriter& answer,
                                     std::string sse);

  EventSink& sink_;
  const std::shared_ptr<ReadySignal> signal_;
  const HttpCallTimes times_;
  const std::chrono::steady_clock::time_point deadline_;
  // Shared with the notifiers, since they may come late.
  const std::shared_ptr<std::vector<Prompt>> prompts_ = std::make_shared<std::vector<Prompt>>();
};

// What another thread answers to `start(caller, done)`: a text worker, the background thread.
// nullopt: the client is gone, or has been told what went wrong.
template <typename Result, typename Start>
asio::awaitable<std::optional<Result>> AskWorker(HttpExchange& exchange,
                                                 const std::shared_ptr<IoGate>& gate,
                                                 absl::Duration timeout, const Start& start) {
  const auto signal = ReadySignal::Make(gate, co_await asio::this_coro::executor);
  // Shared with the worker, whose answer may come when the client has long left.
  const auto answer = std::make_shared<std::optional<absl::StatusOr<Result>>>();
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  TextCaller caller{.tenant = exchange.request.tenant, .gone = gone};
  start(std::move(caller),
        [answer, notify = signal->Notifier()](absl::StatusOr<Result> result) mutable {
          *answer = std::move(result);
          notify();
        });
  exchange.OnGone([signal, gone] {
    gone->store(true);
    signal->Notify();
  });
  const bool in_time = co_await signal->Wait(DeadlineAfter(timeout));
  gone->store(true);  // or too late: nobody waits any more
  exchange.StopWatching();
  if (exchange.gone()) co_return std::nullopt;
  const absl::Status status = in_time ? answer->value().status() : TookLongerThan(timeout);
  if (!status.ok()) {
    co_await exchange.Fail(ToOpenAiError(status));
    co_return std::nullopt;
  }
  co_return **std::move(*answer);
}

}  // namespace holdfast
