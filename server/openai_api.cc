#include "server/openai_api.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/this_coro.hpp>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "config/base/clock.h"
#include "config/base/status_macros.h"
#include "server/kv_retention.h"
#include "server/openapi_document.h"

namespace holdfast {
namespace {

constexpr size_t kWriteBytes = 64 << 10;  // events are gathered up to here before they are written

// Replies are made in functions of their own: g++ 12 destroys a braced temporary twice, or fails
// inside, where a coroutine awaits with it.
HttpReply TextReply(std::string body, const char* content_type = "application/json") {
  return HttpReply{.body = std::move(body), .content_type = content_type};
}

HttpReply JsonReply(const Json& json) { return TextReply(DumpJson(json)); }

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

const char* NameOf(Readiness readiness) {
  switch (readiness) {
    case Readiness::kLoading:
      return "loading";
    case Readiness::kReady:
      return "ready";
    case Readiness::kFailing:
      return "failing";
    case Readiness::kDraining:
      return "draining";
  }
  return "draining";
}

}  // namespace

// The streams of one call. Whatever is not through when this goes is cancelled.
struct OpenAiApi::Running {
  struct Prompt {
    std::shared_ptr<GenerationStream> stream;
    bool waiting = false;  // NotifyReady has been called and has not answered
    bool done = false;
  };

  AnswerShape shape;
  AnswerHead head;
  std::chrono::steady_clock::time_point deadline;
  std::shared_ptr<ReadySignal> signal;
  std::shared_ptr<std::vector<Prompt>> prompts = std::make_shared<std::vector<Prompt>>();

  ~Running() { Cancel(); }
  void Cancel() {
    for (Prompt& prompt : *prompts) {
      if (!prompt.done) prompt.stream->Cancel();
    }
  }
  bool AllDone() const {
    return std::all_of(prompts->begin(), prompts->end(), [](const Prompt& p) { return p.done; });
  }
  // Has the signal notified when any unfinished stream has something. The notifiers share the list
  // with this, since they may come late.
  void NotifyAny() {
    for (size_t i = 0; i < prompts->size(); ++i) {
      Prompt& prompt = (*prompts)[i];
      if (prompt.done || prompt.waiting) continue;
      prompt.waiting = true;
      prompt.stream->NotifyReady(signal->Notifier([weak = std::weak_ptr(prompts), i] {
        if (const auto list = weak.lock()) (*list)[i].waiting = false;
      }));
    }
  }
  // The next event of `prompt`, if there is one; notes its end.
  std::optional<GenerationEvent> Next(size_t prompt) {
    Prompt& one = (*prompts)[prompt];
    if (one.done) return std::nullopt;
    std::optional<GenerationEvent> event = one.stream->TryNext();
    if (event.has_value() && std::holds_alternative<GenerationDone>(*event)) one.done = true;
    return event;
  }
};

OpenAiApi::OpenAiApi(OpenAiApiOptions options, GenerationService& service,
                     const MetricsRegistry& metrics, std::function<Readiness()> readiness,
                     std::shared_ptr<IoGate> gate)
    : options_(std::move(options)),
      service_(service),
      metrics_(metrics),
      readiness_(std::move(readiness)),
      gate_(std::move(gate)),
      admin_(options_.kv_admin, gate_, options_.request_timeout) {}

asio::awaitable<void> OpenAiApi::Handle(HttpExchange& exchange) {
  switch (exchange.request.route->endpoint) {
    case HttpEndpoint::kChatCompletions:
      co_await Generate(exchange, true);
      break;
    case HttpEndpoint::kCompletions:
      co_await Generate(exchange, false);
      break;
    case HttpEndpoint::kCancelChat:
      co_await CancelChat(exchange);
      break;
    case HttpEndpoint::kTokenize:
      co_await Tokenize(exchange);
      break;
    case HttpEndpoint::kDetokenize:
      co_await Detokenize(exchange);
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
      co_await exchange.Reply(TextReply(metrics_.Serialize(), "text/plain; version=0.0.4"));
      break;
    case HttpEndpoint::kVersion:
      co_await exchange.Reply(FieldReply("version", options_.version));
      break;
    case HttpEndpoint::kOpenApi:
      co_await exchange.Reply(TextReply(kOpenApiDocument));
      break;
    case HttpEndpoint::kAdminKv:
    case HttpEndpoint::kAdminPins:
    case HttpEndpoint::kAdminDropPins:
    case HttpEndpoint::kAdminDropPin:
    case HttpEndpoint::kAdminQueue:
      co_await admin_.Handle(exchange);
      break;
  }
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

AnswerHead OpenAiApi::MakeHead(const GenerationCall& call) {
  return AnswerHead{
      .id = absl::StrFormat("%s-%016x%016x", call.shape.chat ? "chatcmpl" : "cmpl",
                            absl::Uniform<uint64_t>(random_), absl::Uniform<uint64_t>(random_)),
      .created_unix = absl::ToUnixSeconds(absl::Now()),
      .model = call.model,
      .system_fingerprint = options_.system_fingerprint,
      .token_text = [this](TokenId token) { return service_.TokenText(token); }};
}

std::chrono::steady_clock::time_point OpenAiApi::Deadline() const {
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(options_.request_timeout);
}

absl::Status OpenAiApi::TooLong() const {
  return absl::DeadlineExceededError(absl::StrCat("the request took longer than ",
                                                  absl::FormatDuration(options_.request_timeout),
                                                  "; ask for fewer tokens or try again"));
}

asio::awaitable<void> OpenAiApi::Generate(HttpExchange& exchange, bool chat) {
  const std::string body = std::move(exchange.request.body);
  absl::StatusOr<GenerationCall> call =
      DecodeCall(chat, body, exchange.request.session, service_.model_info());
  if (!call.ok()) {
    co_await exchange.Fail(ToOpenAiError(call.status()));
    co_return;
  }
  Running running;
  running.shape = call->shape;
  running.head = MakeHead(*call);
  running.deadline = Deadline();
  running.signal = ReadySignal::Make(gate_, co_await asio::this_coro::executor);
  for (size_t index = 0; index < call->requests.size(); ++index) {
    GenerationRequest& request = call->requests[index];
    request.tenant = exchange.request.tenant;
    request.wire_id = index == 0 ? running.head.id : absl::StrCat(running.head.id, "-", index);
    request.arrival = SteadyNow();
    if (!call->seed_given) request.sampling.seed = absl::Uniform<uint64_t>(random_);
  }
  for (auto& stream : service_.StartAll(std::move(call->requests))) {
    running.prompts->push_back({.stream = std::move(stream)});
  }
  // Cancelled here and now, not when this task gets its turn again: it may be in a long write.
  exchange.OnGone([&running] {
    running.Cancel();
    running.signal->Notify();
  });
  if (running.shape.stream) {
    co_await AnswerAsStream(exchange, running);
  } else {
    co_await AnswerAtOnce(exchange, running);
  }
  exchange.StopWatching();
}

asio::awaitable<void> OpenAiApi::AnswerAtOnce(HttpExchange& exchange, Running& running) {
  AnswerBody answer(running.head, running.shape);
  while (!running.AllDone()) {
    bool any = false;
    for (size_t i = 0; i < running.prompts->size(); ++i) {
      while (std::optional<GenerationEvent> event = running.Next(i)) {
        any = true;
        if (const auto* done = std::get_if<GenerationDone>(&*event);
            done != nullptr && !done->status.ok()) {
          running.Cancel();
          co_await exchange.Fail(ToOpenAiError(done->status));
          co_return;
        }
        answer.Add(static_cast<int32_t>(i), std::move(*event));
      }
    }
    if (exchange.gone()) co_return;
    if (any) continue;
    running.NotifyAny();
    if (!co_await running.signal->Wait(running.deadline)) {
      running.Cancel();
      co_await exchange.Fail(ToOpenAiError(TooLong()));
      co_return;
    }
  }
  co_await exchange.Reply(TextReply(answer.Finish()));
}

// `sse`: events not yet sent. Before the first of them the error can still be the HTTP status.
asio::awaitable<void> OpenAiApi::EndWithError(HttpExchange& exchange, Running& running,
                                              absl::Status status, std::string sse) {
  running.Cancel();
  const OpenAiError error = ToOpenAiError(status);
  if (!exchange.head_sent() && sse.empty()) {
    co_await exchange.Fail(error);
    co_return;
  }
  AnswerStream::AppendError(error, sse);
  if (co_await exchange.SendEvents(sse)) co_await exchange.EndEvents();
}

// The status line waits for the first event, so that a refusal can still be an HTTP status.
asio::awaitable<void> OpenAiApi::AnswerAsStream(HttpExchange& exchange, Running& running) {
  AnswerStream answer(running.head, running.shape);
  std::string sse;
  while (!running.AllDone()) {
    bool any = false;
    for (size_t i = 0; i < running.prompts->size(); ++i) {
      while (std::optional<GenerationEvent> event = running.Next(i)) {
        any = true;
        if (const auto* done = std::get_if<GenerationDone>(&*event);
            done != nullptr && !done->status.ok()) {
          co_await EndWithError(exchange, running, done->status, std::move(sse));
          co_return;
        }
        answer.Append(static_cast<int32_t>(i), std::move(*event), sse);
        if (sse.size() < kWriteBytes) continue;
        if (!co_await exchange.SendEvents(std::exchange(sse, {}))) co_return;
      }
    }
    if (exchange.gone()) co_return;
    if (any && !running.AllDone()) {
      if (!co_await exchange.SendEvents(std::exchange(sse, {}))) co_return;
    } else if (!any) {
      running.NotifyAny();
      if (!co_await running.signal->Wait(running.deadline)) {
        co_await EndWithError(exchange, running, TooLong(), std::move(sse));
        co_return;
      }
    }
  }
  answer.AppendEnd(sse);
  if (co_await exchange.SendEvents(sse)) co_await exchange.EndEvents();
}

template <typename Result, typename Start>
asio::awaitable<std::optional<Result>> OpenAiApi::AskTextWorker(HttpExchange& exchange,
                                                                const Start& start) {
  const auto signal = ReadySignal::Make(gate_, co_await asio::this_coro::executor);
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
  const bool in_time = co_await signal->Wait(Deadline());
  gone->store(true);  // or too late: nobody waits any more
  exchange.StopWatching();
  if (exchange.gone()) co_return std::nullopt;
  const absl::Status status = in_time ? answer->value().status() : TooLong();
  if (!status.ok()) {
    co_await exchange.Fail(ToOpenAiError(status));
    co_return std::nullopt;
  }
  co_return **std::move(*answer);
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
      co_await AskTextWorker<std::vector<TokenId>>(exchange, start);
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
  std::optional<std::string> text = co_await AskTextWorker<std::string>(exchange, start);
  if (text.has_value()) co_await exchange.Reply(FieldReply("prompt", *std::move(text)));
}

}  // namespace holdfast
