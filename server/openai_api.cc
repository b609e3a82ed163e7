#include "server/openai_api.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/base/status_macros.h"
#include "server/answer_head.h"
#include "server/embedding_codec.h"
#include "server/http_call.h"
#include "server/kv_retention.h"
#include "server/openapi_document.h"

namespace holdfast {
namespace {

// Replies are made in functions of their own: g++ 12 destroys a braced temporary twice, or fails
// inside, where a coroutine awaits with it.
HttpReply TextReply(std::string body, const char* content_type = "application/json") {
  return HttpReply{.body = std::move(body), .content_type = content_type};
}

HttpReply FieldReply(const char* name, std::string value) {
  Json json = Json::object();
  json[name] = std::move(value);
  return JsonReply(json);
}

HttpReply CancelledReply(const std::string& id) {
  Json json = Json::object();
  json["id"] = id;
  json["object"] = "chat.completion";
  json["cancelled"] = true;
  return JsonReply(json);
}

OpenAiError NoSuchModel(const std::string& name) {
  OpenAiError error = HttpError(
      404, "model_not_found", absl::StrCat("The model `", name.substr(0, 128), "` does not exist"));
  error.param = "model";
  return error;
}

OpenAiError NoSuchCompletion(const std::string& id) {
  return HttpError(
      404, "not_found",
      absl::StrCat("no completion `", id.substr(0, 128), "` of yours runs; it may be over"));
}

absl::Status TooManyTokenStrings(size_t count) {
  return ParameterError(
      "return_token_strs", "invalid_value",
      absl::StrCat("return_token_strs takes at most ", kTokenStringsMax, " tokens; the text has ",
                   count, "; leave it out or send the text in parts"));
}

absl::StatusOr<GenerationCall> DecodeCall(bool chat, std::string_view body,
                                          std::string_view session,
                                          const GenerationService::ModelInfo& info) {
  RETURN_IF_ERROR(CheckSessionHeader(session));
  return chat ? DecodeChatCompletion(body, info, session) : DecodeCompletion(body, info, session);
}

absl::StatusOr<EmbeddingCall> DecodeEmbeddingCall(HttpEndpoint endpoint, std::string_view body,
                                                  const GenerationService::ModelInfo& info) {
  if (endpoint == HttpEndpoint::kScore) return DecodeScore(body, info);
  return endpoint == HttpEndpoint::kRerank ? DecodeRerank(body, info)
                                           : DecodeEmbeddings(body, info);
}

const char* NameOf(Readiness readiness) {
  switch (readiness) {
    case Readiness::kLoading:
      return "loading";
    case Readiness::kReady:
      return "ready";
    case Readiness::kFailing:
      return "failing";
    case Readiness::kLeaving:
      return "leaving";
    case Readiness::kDraining:
      return "draining";
  }
  return "draining";
}

}  // namespace

OpenAiApi::OpenAiApi(OpenAiApiOptions options, GenerationService& service, HttpStreams& streams,
                     MetricsRegistry& metrics, std::function<Readiness()> readiness,
                     std::shared_ptr<IoGate> gate)
    : options_(std::move(options)),
      service_(service),
      streams_(streams),
      metrics_(metrics),
      readiness_(std::move(readiness)),
      gate_(std::move(gate)),
      admin_(options_.kv_admin, gate_, options_.request_timeout),
      batches_(options_.background, gate_, options_.request_timeout),
      responses_(service, streams, options_.background, gate_, CallTimes()),
      anthropic_(service, streams, gate_, CallTimes()) {
  for (size_t i = 0; i < kNumReadiness; ++i) {
    readiness_gauges_.push_back(metrics.AddGauge("holdfast_server_readiness",
                                                 "1 for the state that /health/ready tells.",
                                                 {{"state", NameOf(static_cast<Readiness>(i))}}));
  }
}

std::string OpenAiApi::Metrics() {
  const auto now = static_cast<size_t>(readiness_());
  for (size_t i = 0; i < kNumReadiness; ++i) readiness_gauges_[i].Set(i == now ? 1 : 0);
  return metrics_.Serialize();
}

asio::awaitable<void> OpenAiApi::Handle(HttpExchange& exchange) {
  switch (exchange.request.route->endpoint) {
    case HttpEndpoint::kChatCompletions:
      co_await Generate(exchange, true);
      break;
    case HttpEndpoint::kCompletions:
      co_await Generate(exchange, false);
      break;
    case HttpEndpoint::kEmbeddings:
    case HttpEndpoint::kScore:
    case HttpEndpoint::kRerank:
      co_await Embed(exchange);
      break;
    case HttpEndpoint::kCancelChat:
      co_await CancelChat(exchange);
      break;
    case HttpEndpoint::kChatStream:
    case HttpEndpoint::kDeleteChatStream:
    case HttpEndpoint::kCompletionStream:
    case HttpEndpoint::kDeleteCompletionStream:
    case HttpEndpoint::kMessageStream:
    case HttpEndpoint::kDeleteMessageStream:
      co_await streams_.Handle(exchange);
      break;
    case HttpEndpoint::kMessages:
    case HttpEndpoint::kCountTokens:
      co_await anthropic_.Handle(exchange);
      break;
    case HttpEndpoint::kTokenize:
      co_await Tokenize(exchange);
      break;
    case HttpEndpoint::kDetokenize:
      co_await Detokenize(exchange);
      break;
    case HttpEndpoint::kCreateResponse:
    case HttpEndpoint::kResponse:
    case HttpEndpoint::kResponseItems:
    case HttpEndpoint::kDeleteResponse:
    case HttpEndpoint::kCancelResponse:
      co_await responses_.Handle(exchange);
      break;
    case HttpEndpoint::kUploadFile:
    case HttpEndpoint::kFiles:
    case HttpEndpoint::kFile:
    case HttpEndpoint::kFileContent:
    case HttpEndpoint::kDeleteFile:
    case HttpEndpoint::kCreateBatch:
    case HttpEndpoint::kBatches:
    case HttpEndpoint::kBatch:
    case HttpEndpoint::kCancelBatch:
      co_await batches_.Handle(exchange);
      break;
    case HttpEndpoint::kModel:
      co_await Model(exchange);
      break;
    case HttpEndpoint::kReady:
      co_await Ready(exchange);
      break;
    case HttpEndpoint::kModels:
      co_await exchange.Reply(ModelList());
      break;
    case HttpEndpoint::kLive:
      co_await exchange.Reply(FieldReply("status", "live"));
      break;
    case HttpEndpoint::kMetrics:
      co_await exchange.Reply(TextReply(Metrics(), "text/plain; version=0.0.4"));
      break;
    case HttpEndpoint::kVersion:
      co_await exchange.Reply(FieldReply("version", options_.version));
      break;
    case HttpEndpoint::kOpenApi:
      co_await exchange.Reply(TextReply(kOpenApiDocument));
      break;
    case HttpEndpoint::kUi:
      co_await exchange.Reply(UiReply(options_.ui, exchange.request));
      break;
    case HttpEndpoint::kUiPort:
      co_await exchange.Reply(UiPort(exchange.request));
      break;
    case HttpEndpoint::kAdminKv:
    case HttpEndpoint::kAdminPins:
    case HttpEndpoint::kAdminDropPins:
    case HttpEndpoint::kAdminDropPin:
    case HttpEndpoint::kAdminQueue:
    case HttpEndpoint::kAdminUsage:
    case HttpEndpoint::kAdminReload:
      co_await admin_.Handle(exchange);
      break;
  }
}

// What there is behind the port that the page came from, so that it need not find out by failing.
HttpReply OpenAiApi::UiPort(const HttpRequest& request) const {
  Json json = Json::object();
  json["object"] = "ui_port";
  json["chat"] = request.door != HttpDoor::kAdministrators;
  json["admin"] = request.door != HttpDoor::kTenants && options_.kv_admin != nullptr;
  json["metrics"] = request.sees_metrics;
  json["needs_key"] = request.needs_key;
  return JsonReply(json);
}

Json OpenAiApi::ModelObject(const std::string& name) const {
  const GenerationService::ModelInfo& info = service_.model_info();
  Json json = Json::object();
  json["id"] = name;
  json["object"] = "model";
  json["created"] = info.created_unix;
  json["owned_by"] = "holdfast";
  json["root"] = info.name;
  json["max_model_len"] = info.context_tokens;
  return json;
}

HttpReply OpenAiApi::ModelList() const {
  Json list = Json::object();
  list["object"] = "list";
  list["data"] = Json::array();
  list["data"].push_back(ModelObject(service_.model_info().name));
  for (const std::string& alias : service_.model_info().aliases) {
    list["data"].push_back(ModelObject(alias));
  }
  return JsonReply(list);
}

asio::awaitable<void> OpenAiApi::Model(HttpExchange& exchange) {
  const GenerationService::ModelInfo& info = service_.model_info();
  const std::string& id = exchange.request.param;
  const bool known = id == info.name ||
                     std::find(info.aliases.begin(), info.aliases.end(), id) != info.aliases.end();
  if (known) {
    co_await exchange.Reply(JsonReply(ModelObject(id)));
  } else {
    co_await exchange.Fail(NoSuchModel(id));
  }
}

// Its own client is told that it was cancelled: by an error, or in a stream by an error event.
asio::awaitable<void> OpenAiApi::CancelChat(HttpExchange& exchange) {
  const std::string& id = exchange.request.param;
  if (service_.CancelByWireId(exchange.request.tenant, id)) {
    co_await exchange.Reply(CancelledReply(id));
  } else {
    co_await exchange.Fail(NoSuchCompletion(id));
  }
}

asio::awaitable<void> OpenAiApi::Ready(HttpExchange& exchange) {
  const Readiness readiness = readiness_();
  HttpReply reply = FieldReply("status", NameOf(readiness));
  if (readiness != Readiness::kReady) {
    reply.status = 503;
    reply.headers.emplace_back("Retry-After", "1");
  }
  co_await exchange.Reply(reply);
}

asio::awaitable<void> OpenAiApi::Generate(HttpExchange& exchange, bool chat) {
  const std::string body = std::move(exchange.request.body);
  absl::StatusOr<GenerationCall> call =
      DecodeCall(chat, body, exchange.request.session, service_.model_info());
  if (!call.ok()) {
    co_await exchange.Fail(ToOpenAiError(call.status()));
    co_return;
  }
  const AnswerHead head = BeginAnswer(*call, service_, options_.system_fingerprint, random_);
  if (call->shape.stream) {
    HttpStreams::Call streamed{.id = head.id,
                               .requests = std::move(call->requests),
                               .answer = std::make_unique<AnswerStream>(head, call->shape)};
    co_await streams_.Answer(exchange, std::move(streamed));
    co_return;
  }
  const auto executor = co_await asio::this_coro::executor;
  HttpCall running(exchange, ReadySignal::Make(gate_, executor), CallTimes());
  running.Start(service_, HttpCall::CallerOf(exchange.request), head.id, std::move(call->requests));
  AnswerBody answer(head, call->shape);
  co_await running.AnswerAtOnce(exchange, answer);
}

asio::awaitable<void> OpenAiApi::Embed(HttpExchange& exchange) {
  const std::string body = std::move(exchange.request.body);
  absl::StatusOr<EmbeddingCall> call =
      DecodeEmbeddingCall(exchange.request.route->endpoint, body, service_.model_info());
  if (!call.ok()) {
    co_await exchange.Fail(ToOpenAiError(call.status()));
    co_return;
  }
  EmbeddingHead head = BeginEmbeddings(*call, random_);
  const std::string wire_id = head.id;
  EmbeddingBody answer(std::move(head), std::move(call->shape), call->requests.size());
  const auto executor = co_await asio::this_coro::executor;
  HttpCall running(exchange, ReadySignal::Make(gate_, executor), CallTimes());
  running.Start(service_, HttpCall::CallerOf(exchange.request), wire_id, std::move(call->requests));
  co_await running.AnswerAtOnce(exchange, answer);
}

asio::awaitable<void> OpenAiApi::Tokenize(HttpExchange& exchange) {
  absl::StatusOr<TokenizeCall> call = DecodeTokenize(exchange.request.body, service_.model_info());
  if (!call.ok()) {
    co_await exchange.Fail(ToOpenAiError(call.status()));
    co_return;
  }
  const auto start = [this, &call](TextCaller caller, auto done) {
    service_.Tokenize(std::move(caller), std::move(call->text), call->add_special_tokens,
                      std::move(done));
  };
  const std::optional<std::vector<TokenId>> tokens =
      co_await AskWorker<std::vector<TokenId>>(exchange, gate_, options_.request_timeout, start);
  if (!tokens.has_value()) co_return;
  if (call->return_token_strs && tokens->size() > kTokenStringsMax) {
    co_await exchange.Fail(ToOpenAiError(TooManyTokenStrings(tokens->size())));
    co_return;
  }
  Json json = Json::object();
  json["count"] = tokens->size();
  json["max_model_len"] = service_.model_info().context_tokens;
  json["tokens"] = *tokens;
  json["token_strs"] = nullptr;
  if (call->return_token_strs) {
    Json texts = Json::array();
    for (const TokenId token : *tokens) texts.push_back(service_.TokenText(token));
    json["token_strs"] = std::move(texts);
  }
  co_await exchange.Reply(JsonReply(json));
}

asio::awaitable<void> OpenAiApi::Detokenize(HttpExchange& exchange) {
  absl::StatusOr<std::vector<TokenId>> tokens =
      DecodeDetokenize(exchange.request.body, service_.model_info());
  if (!tokens.ok()) {
    co_await exchange.Fail(ToOpenAiError(tokens.status()));
    co_return;
  }
  const auto start = [this, &tokens](TextCaller caller, auto done) {
    service_.Detokenize(std::move(caller), *std::move(tokens), std::move(done));
  };
  std::optional<std::string> text =
      co_await AskWorker<std::string>(exchange, gate_, options_.request_timeout, start);
  if (text.has_value()) co_await exchange.Reply(FieldReply("prompt", *std::move(text)));
}

}  // namespace holdfast
