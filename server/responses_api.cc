#include "server/responses_api.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "config/base/clock.h"
#include "config/base/status_macros.h"
#include "server/answer_head.h"
#include "server/http_router.h"
#include "server/http_state.h"
#include "server/state_id.h"

namespace holdfast {
namespace {

constexpr int64_t kItemsPageMax = 100;

absl::Status NeedsState(absl::string_view param) {
  return ParameterError(param, "state_off",
                        absl::StrCat(param,
                                     " needs responses to be kept, which this server does not; its "
                                     "operator turns that on with state.path (--state FILE)"));
}

// Of the response that another goes on from.
absl::Status AsPrevious(absl::Status status) {
  if (absl::IsNotFound(status)) {
    status.SetPayload(kErrorParamUrl, absl::Cord("previous_response_id"));
  }
  return status;
}

Json DeletedJson(const std::string& id) {
  return {{"id", id}, {"object", "response"}, {"deleted", true}};
}

// A page of `items`, the newest first unless `order` says asc.
absl::StatusOr<Json> ItemsPage(const Json& items, const HttpRequest& request) {
  ASSIGN_OR_RETURN(const ListWish wish, ReadListWish(request, 20, kItemsPageMax));
  std::vector<const Json*> sorted;
  for (const Json& item : items) sorted.push_back(&item);
  if (!wish.oldest_first) std::reverse(sorted.begin(), sorted.end());
  auto next = sorted.begin();
  if (!wish.after.empty()) {
    next = std::find_if(sorted.begin(), sorted.end(),
                        [&](const Json* item) { return (*item)["id"] == wish.after; });
    if (next != sorted.end()) ++next;
  }
  Json data = Json::array();
  for (; next != sorted.end() && static_cast<int64_t>(data.size()) < wish.limit; ++next) {
    data.push_back(**next);
  }
  const Json first = data.empty() ? Json("") : data.front()["id"];
  const Json last = data.empty() ? Json("") : data.back()["id"];
  return Json{{"object", "list"},
              {"data", std::move(data)},
              {"first_id", first},
              {"last_id", last},
              {"has_more", next != sorted.end()}};
}

std::string StatusOf(const Json& response) {
  const auto status = response.find("status");
  return status == response.end() || !status->is_string() ? "" : status->get<std::string>();
}

bool IsOpen(const Json& response) {
  const std::string status = StatusOf(response);
  return status == "queued" || status == "in_progress";
}

// All but the response itself. Takes the input out of the call.
StoredResponse ToStore(ResponsesCall& call, const ResponseHead& head) {
  return {.id = head.id, .previous = call.previous, .input = std::move(call.input)};
}

// Whether the stream of a response is asked for, not the response.
absl::StatusOr<bool> AsksForStream(const HttpRequest& request) {
  const std::string stream = QueryValue(request.query, "stream");
  if (!stream.empty() && stream != "true" && stream != "false") {
    return ParameterError("stream", "invalid_value", "stream must be true or false");
  }
  if (stream != "true" && !QueryValue(request.query, "starting_after").empty()) {
    return ParameterError("starting_after", "invalid_value",
                          "starting_after is of a stream; add stream=true");
  }
  return stream == "true";
}

absl::StatusOr<Json> Cancel(State& state, BackgroundService& background, const std::string& tenant,
                            const std::string& id) {
  ASSIGN_OR_RETURN(StoredResponse stored, state.responses().Find(tenant, id));
  if (!IsOpen(stored.response)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the response is ", StatusOf(stored.response),
                     "; only one in the background that is not at its end can be cancelled"));
  }
  stored.response["status"] = ResponseStatusName(ResponseStatus::kCancelled);
  background.Told(state.responses().End(id, stored.response));
  return stored.response;
}

}  // namespace

ResponsesApi::ResponsesApi(GenerationService& service, HttpStreams& streams,
                           BackgroundService* background, std::shared_ptr<IoGate> gate,
                           HttpCallTimes times)
    : service_(service),
      streams_(streams),
      background_(background),
      gate_(std::move(gate)),
      times_(times) {}

asio::awaitable<void> ResponsesApi::Handle(HttpExchange& exchange) {
  if (exchange.request.route->endpoint == HttpEndpoint::kCreateResponse) {
    co_await Create(exchange);
  } else {
    co_await AboutKept(exchange);
  }
}

// Where nothing is kept: what was not asked for is left out, what was is refused.
absl::Status ResponsesApi::CheckKeeping(ResponsesCall& call) const {
  if (call.background && call.store == false) {
    return ParameterError("store", "invalid_value",
                          "a response in the background must be stored; leave store out");
  }
  if (background_ == nullptr) {
    if (!call.previous.empty()) return NeedsState("previous_response_id");
    if (call.background) return NeedsState("background");
    if (call.store == true) return NeedsState("store");
  }
  call.store = background_ != nullptr && call.store.value_or(true);
  call.echo["store"] = *call.store;
  return absl::OkStatus();
}

asio::awaitable<void> ResponsesApi::Create(HttpExchange& exchange) {
  const std::string body = std::move(exchange.request.body);
  absl::StatusOr<ResponsesCall> call = DecodeResponses(body, service_.model_info());
  absl::Status status = call.ok() ? CheckKeeping(*call) : call.status();
  if (!status.ok()) {
    co_await exchange.Fail(ToOpenAiError(status));
    co_return;
  }
  Json earlier = Json::array();
  if (!call->previous.empty()) {
    const auto ask = [tenant = background_->TenantName(exchange.request.tenant),
                      id = call->previous](State& state,
                                           const TextCaller&) -> absl::StatusOr<Json> {
      absl::StatusOr<Json> items = state.responses().Conversation(tenant, id);
      if (!items.ok()) return AsPrevious(items.status());
      return items;
    };
    const std::optional<Json> found =
        co_await AskState<Json>(exchange, gate_, times_.timeout, *background_, ask);
    if (!found.has_value()) co_return;
    earlier = *found;
  }
  absl::StatusOr<GenerationCall> chat =
      ChatCallOf(*call, earlier, service_.model_info(), exchange.request.session);
  if (!chat.ok()) {
    co_await exchange.Fail(ToOpenAiError(chat.status()));
    co_return;
  }
  AnswerHead answer_head = BeginAnswer(*chat, service_, "", random_);
  ResponseHead head{.id = MakeStateId("resp_"),
                    .created_unix = absl::ToUnixSeconds(absl::Now()),
                    .model = call->model,
                    .echo = call->echo};
  if (call->stream) {
    co_await Stream(exchange, *std::move(call), std::move(head), *std::move(chat));
    co_return;
  }
  if (call->background) {
    co_await RunInBackground(exchange, *std::move(call), std::move(head), *std::move(chat));
    co_return;
  }
  if (*call->store) KeepAtEnd(exchange.request.tenant, *call, head);
  const auto executor = co_await asio::this_coro::executor;
  HttpCall running(exchange, ReadySignal::Make(gate_, executor), times_);
  running.Start(service_, HttpCall::CallerOf(exchange.request), head.id, std::move(chat->requests));
  ResponseBody answer(std::move(head));
  co_await running.AnswerAtOnce(exchange, answer);
}

// Before the client has it: whoever asks for it next comes behind this.
void ResponsesApi::KeepAtEnd(TenantIndex tenant, ResponsesCall& call, ResponseHead& head) {
  const auto stored = std::make_shared<StoredResponse>(ToStore(call, head));
  head.on_end = [background = background_, stored,
                 tenant = background_->TenantName(tenant)](const Json& response) {
    stored->response = response;
    const bool asked = background->Ask([background, tenant, stored](State& state) {
      background->Told(state.responses().Add(tenant, *stored, false));
    });
    if (!asked) background->Told(TooBusyForState());
  };
}

// As one that is in progress, and then as what it ends as. False: too many wait for that.
bool ResponsesApi::KeepFromBegin(TenantIndex tenant, ResponsesCall& call, ResponseHead& head) {
  const auto stored = std::make_shared<StoredResponse>(ToStore(call, head));
  stored->response = ResponseJson(head, ResponseStatus::kInProgress, Json::array());
  const bool asked = background_->Ask(
      [background = background_, stored, tenant = background_->TenantName(tenant)](State& state) {
        background->Told(state.responses().Add(tenant, *stored, true));
      });
  if (!asked) return false;
  head.on_end = [background = background_, id = head.id](const Json& response) {
    const bool told = background->AskAtEnd([background, id, response](State& state) {
      background->Told(state.responses().End(id, response));
    });
    if (!told) background->Told(TooBusyForState());  // stopped: the next process ends it
  };
  // Of one that was cancelled the store knows already: it is not open any more.
  head.on_error = [on_end = head.on_end,
                   response = stored->response](const OpenAiError& error) mutable {
    SetFailed(error, response);
    on_end(response);
  };
  return true;
}

asio::awaitable<void> ResponsesApi::Stream(HttpExchange& exchange, ResponsesCall call,
                                           ResponseHead head, GenerationCall chat) {
  const TenantIndex tenant = exchange.request.tenant;
  if (call.background) {
    absl::Status status = streams_.CheckRoom(exchange.request);
    if (status.ok() && !KeepFromBegin(tenant, call, head)) status = TooBusyForState();
    if (!status.ok()) {
      co_await exchange.Fail(ToOpenAiError(status));
      co_return;
    }
  } else if (*call.store) {
    KeepAtEnd(tenant, call, head);
  }
  HttpStreams::Call streamed;
  streamed.id = head.id;
  streamed.requests = std::move(chat.requests);
  streamed.answer = std::make_unique<ResponseStream>(std::move(head));
  streamed.runs_unread = call.background;
  co_await streams_.Answer(exchange, std::move(streamed));
}

asio::awaitable<void> ResponsesApi::RunInBackground(HttpExchange& exchange, ResponsesCall call,
                                                    ResponseHead head, GenerationCall chat) {
  const std::string tenant = background_->TenantName(exchange.request.tenant);
  for (GenerationRequest& request : chat.requests) {
    request.tenant = exchange.request.tenant;
    request.trace = exchange.request.trace;
    request.wire_id = head.id;
    request.arrival = SteadyNow();
  }
  // Shared with the task: a std::function is copied, what is to be run cannot be.
  struct Wish {
    StoredResponse stored;
    std::vector<GenerationRequest> requests;
    std::unique_ptr<AnswerBodyWriter> answer;
  };
  const auto wish = std::make_shared<Wish>();
  wish->stored = ToStore(call, head);
  wish->stored.response = ResponseJson(head, ResponseStatus::kQueued, Json::array());
  wish->requests = std::move(chat.requests);
  // What it ends as; as it was queued if it does not come to an answer.
  const auto response = std::make_shared<Json>(wish->stored.response);
  head.on_end = [response](const Json& whole) { *response = whole; };
  wish->answer = std::make_unique<ResponseBody>(std::move(head));
  const auto start = [background = background_, tenant, wish, response](
                         State& state, const TextCaller&) -> absl::StatusOr<Json> {
    RETURN_IF_ERROR(state.responses().Add(tenant, wish->stored, true));
    background->Run(std::move(wish->requests), std::move(wish->answer),
                    [background, response, id = wish->stored.id](
                        State& kept, const absl::StatusOr<std::string>& body) {
                      if (absl::IsCancelled(body.status())) {
                        (*response)["status"] = ResponseStatusName(ResponseStatus::kCancelled);
                      } else if (!body.ok()) {
                        SetFailed(ToOpenAiError(body.status()), *response);
                      }
                      background->Told(kept.responses().End(id, *response));
                    });
    return std::move(wish->stored.response);
  };
  const std::optional<Json> reply =
      co_await AskState<Json>(exchange, gate_, times_.timeout, *background_, start);
  if (reply.has_value()) co_await exchange.Reply(JsonReply(*reply));
}

// What is kept: shown, listed, cancelled, deleted.
asio::awaitable<void> ResponsesApi::AboutKept(HttpExchange& exchange) {
  const HttpRequest& request = exchange.request;
  const absl::StatusOr<bool> stream = AsksForStream(request);
  if (!stream.ok()) {
    co_await exchange.Fail(ToOpenAiError(stream.status()));
    co_return;
  }
  if (*stream && request.route->endpoint == HttpEndpoint::kResponse) {
    co_await streams_.Resume(exchange, HttpEndpoint::kCreateResponse);
    co_return;
  }
  if (background_ == nullptr) {
    co_await exchange.Fail(ToOpenAiError(NeedsState("response_id")));
    co_return;
  }
  const std::string tenant = background_->TenantName(request.tenant);
  const std::string id = request.param;
  using Work = std::function<absl::StatusOr<Json>(State&)>;
  Work work;
  switch (request.route->endpoint) {
    case HttpEndpoint::kDeleteResponse:
      streams_.Delete(request.tenant, HttpEndpoint::kCreateResponse, id);
      work = [&service = service_, index = request.tenant, tenant,
              id](State& state) -> absl::StatusOr<Json> {
        RETURN_IF_ERROR(state.responses().Delete(tenant, id));
        service.CancelByWireId(index, id);
        return DeletedJson(id);
      };
      break;
    case HttpEndpoint::kCancelResponse:
      work = [&service = service_, background = background_, index = request.tenant, tenant,
              id](State& state) {
        absl::StatusOr<Json> cancelled = Cancel(state, *background, tenant, id);
        if (cancelled.ok()) service.CancelByWireId(index, id);
        return cancelled;
      };
      break;
    case HttpEndpoint::kResponseItems:
      work = [tenant, id, query = request](State& state) -> absl::StatusOr<Json> {
        ASSIGN_OR_RETURN(const StoredResponse stored, state.responses().Find(tenant, id));
        return ItemsPage(stored.input, query);
      };
      break;
    default:  // kResponse
      work = [tenant, id](State& state) -> absl::StatusOr<Json> {
        ASSIGN_OR_RETURN(StoredResponse stored, state.responses().Find(tenant, id));
        return std::move(stored.response);
      };
  }
  const auto ask = [work](State& state, const TextCaller&) { return work(state); };
  const std::optional<Json> reply =
      co_await AskState<Json>(exchange, gate_, times_.timeout, *background_, ask);
  if (reply.has_value()) co_await exchange.Reply(JsonReply(*reply));
}

}  // namespace holdfast
