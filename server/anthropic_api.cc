#include "server/anthropic_api.h"

#include <boost/asio/this_coro.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/answer_head.h"
#include "server/anthropic_codec.h"
#include "server/anthropic_response.h"
#include "server/http_call.h"

namespace holdfast {
namespace {

// A function of its own, as in http_call.cc.
HttpReply CountReply(size_t num_tokens) {
  return HttpReply{.body = absl::StrCat("{\"input_tokens\":", num_tokens, "}")};
}

}  // namespace

AnthropicApi::AnthropicApi(GenerationService& service, HttpStreams& streams,
                           std::shared_ptr<IoGate> gate, HttpCallTimes times)
    : service_(service), streams_(streams), gate_(std::move(gate)), times_(times) {}

asio::awaitable<void> AnthropicApi::Handle(HttpExchange& exchange) {
  if (exchange.request.route->endpoint == HttpEndpoint::kCountTokens) {
    co_await CountTokens(exchange);
  } else {
    co_await Messages(exchange);
  }
}

asio::awaitable<void> AnthropicApi::Messages(HttpExchange& exchange) {
  const std::string body = std::move(exchange.request.body);
  absl::StatusOr<MessagesCall> call =
      DecodeMessages(body, service_.model_info(), exchange.request.session);
  if (!call.ok()) {
    co_await exchange.Fail(ToOpenAiError(call.status()));
    co_return;
  }
  MessageHead head;
  head.id = DrawId("msg_", random_);
  head.model = call->model;
  head.request_id = exchange.request.request_id;
  head.max_tokens = call->max_tokens;
  head.cache_life = call->cache_life;
  head.shows_thinking = call->shows_thinking;
  call->request.sampling.seed = absl::Uniform<uint64_t>(random_);
  std::vector<GenerationRequest> requests;
  requests.push_back(std::move(call->request));
  const std::string id = head.id;
  if (call->stream) {
    HttpStreams::Call streamed{.id = id,
                               .requests = std::move(requests),
                               .answer = std::make_unique<MessageStream>(std::move(head))};
    co_await streams_.Answer(exchange, std::move(streamed));
    co_return;
  }
  const auto executor = co_await asio::this_coro::executor;
  HttpCall running(exchange, ReadySignal::Make(gate_, executor), times_);
  running.Start(service_, HttpCall::CallerOf(exchange.request), id, std::move(requests));
  MessageBody answer(std::move(head));
  co_await running.AnswerAtOnce(exchange, answer);
}

asio::awaitable<void> AnthropicApi::CountTokens(HttpExchange& exchange) {
  absl::StatusOr<ChatInput> input = DecodeCountTokens(exchange.request.body, service_.model_info());
  if (!input.ok()) {
    co_await exchange.Fail(ToOpenAiError(input.status()));
    co_return;
  }
  const auto start = [this, &input](TextCaller caller, auto done) {
    service_.Tokenize(std::move(caller), *std::move(input), /*add_special_tokens=*/false,
                      std::move(done));
  };
  const std::optional<std::vector<TokenId>> tokens =
      co_await AskWorker<std::vector<TokenId>>(exchange, gate_, times_.timeout, start);
  if (tokens.has_value()) co_await exchange.Reply(CountReply(tokens->size()));
}

}  // namespace holdfast
