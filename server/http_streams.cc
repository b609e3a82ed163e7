#include "server/http_streams.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/ready_signal.h"

namespace holdfast {
namespace {

constexpr size_t kWriteBytes = 64 << 10;

HttpReply DeletedReply(const std::string& id) {
  return JsonReply({{"id", id}, {"object", "stream"}, {"deleted", true}});
}

HttpReply HeadReply() { return HttpReply{.content_type = "text/event-stream; charset=utf-8"}; }

OpenAiError NoSuchStream(const std::string& id) {
  return HttpError(404, "not_found",
                   absl::StrCat("no stream of `", id.substr(0, 128),
                                "` is kept; it was not asked for (X-Holdfast-Resume), there was no "
                                "room, or its time is over"));
}

OpenAiError EventsGone(int64_t next, int64_t begin) {
  return HttpError(
      410, "events_gone",
      absl::StrCat("event ", next, " is no longer kept; the oldest that is has number ", begin));
}

std::string ResumeHeader(absl::Duration kept_for) {
  return absl::StrCat("X-Holdfast-Resume: ", absl::FormatDuration(kept_for), "\r\n");
}

absl::Status NotAnEvent(std::string_view text) {
  return ParameterError("Last-Event-ID", "invalid_value",
                        Concat("the last event's id must be one that was sent; found '",
                               text.substr(0, 32), "'; leave it out to begin with the first"));
}

// The number of the first event that the request has not seen.
absl::StatusOr<int64_t> FirstUnseen(const HttpRequest& request) {
  std::string text = QueryValue(request.query, "starting_after");
  if (text.empty()) text = request.last_event_id;
  int64_t seen = -1;
  if (!text.empty() && (!absl::SimpleAtoi(text, &seen) || seen < 0)) return NotAnEvent(text);
  return seen + 1;
}

HttpEndpoint KindOf(HttpEndpoint endpoint) {
  switch (endpoint) {
    case HttpEndpoint::kCompletionStream:
    case HttpEndpoint::kDeleteCompletionStream:
      return HttpEndpoint::kCompletions;
    case HttpEndpoint::kMessageStream:
    case HttpEndpoint::kDeleteMessageStream:
      return HttpEndpoint::kMessages;
    default:
      return HttpEndpoint::kChatCompletions;
  }
}

}  // namespace

HttpStreams::HttpStreams(KeptStreamOptions options, GenerationService& service,
                         MetricsRegistry& metrics, std::shared_ptr<IoGate> gate,
                         HttpCallTimes times, std::function<void(int)> on_running)
    : options_(options),
      service_(service),
      gate_(std::move(gate)),
      times_(times),
      on_running_(std::move(on_running)),
      streams_(metrics.AddGauge("holdfast_http_kept_streams",
                                "streams that outlive their connection, read or not")),
      bytes_(metrics.AddGauge("holdfast_http_kept_stream_bytes",
                              "memory of the events of streams that are kept")),
      resumed_(metrics.AddCounter("holdfast_http_stream_resumes_total",
                                  "kept streams that a client came back to")),
      refused_(metrics.AddCounter("holdfast_http_streams_not_kept_total",
                                  "streams asked to be kept for which there was no room")) {
  for (const char* end : {"complete", "time", "bytes", "deleted", "stopping"}) {
    ended_.push_back(metrics.AddCounter("holdfast_http_kept_streams_ended_total",
                                        "kept streams by why they are kept no more; all but "
                                        "complete ones may have been cancelled",
                                        {{"reason", end}}));
  }
}

// For how long the request wants its stream to wait for a reader; zero: not at all.
absl::StatusOr<absl::Duration> HttpStreams::Patience(const HttpRequest& request) {
  absl::Duration patience = absl::ZeroDuration();
  if (request.resume.empty()) return patience;
  if (!absl::ParseDuration(request.resume, &patience) || patience < absl::ZeroDuration()) {
    return ParameterError("X-Holdfast-Resume", "invalid_value",
                          Concat("X-Holdfast-Resume must be a time as 30s; found '",
                                 std::string_view(request.resume).substr(0, 32), "'"));
  }
  return patience;
}

bool HttpStreams::HasRoom(TenantIndex tenant) {
  while (tenants_[tenant].streams >= options_.tenant_streams_max) {
    if (!DropOldestEnded(tenant)) return false;
  }
  return true;
}

absl::Status HttpStreams::CheckRoom(const HttpRequest& request) {
  RETURN_IF_ERROR(Patience(request).status());
  if (options_.time_max == absl::ZeroDuration()) {
    return ParameterError("stream", "streams_not_kept",
                          "a response in the background can be streamed only where streams are "
                          "kept, which this server does not (server.stream_resume_time_max); ask "
                          "for it by its id");
  }
  if (draining_) return absl::UnavailableError("the server is shutting down; ask another one");
  if (HasRoom(request.tenant)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("you have ", options_.tenant_streams_max,
                   " streams that are kept; wait until one ends, or leave stream out"));
}

HttpStreams::Stream HttpStreams::Make(KeptStreamName name, absl::Duration kept_for,
                                      bool runs_unread, const asio::any_io_executor& executor) {
  if (draining_ || !HasRoom(name.tenant)) {
    refused_.Add();
    return nullptr;
  }
  const auto stream = std::make_shared<KeptStream>(
      std::move(name), kept_for, runs_unread, executor,
      KeptStream::Hooks{.on_events = [this](KeptStream& changed) { HoldBounds(changed); },
                        .on_unread = [this](KeptStream& unread) { AwaitReader(unread); }});
  kept_[stream->name().id] = {.stream = stream, .number = num_made_++};
  ++tenants_[stream->name().tenant].streams;
  streams_.Set(static_cast<double>(kept_.size()));
  return stream;
}

HttpStreams::Stream HttpStreams::Find(const KeptStreamName& name) const {
  const auto found = kept_.find(name.id);
  if (found == kept_.end()) return nullptr;
  const KeptStreamName& other = found->second.stream->name();
  return other.tenant == name.tenant && other.kind == name.kind ? found->second.stream : nullptr;
}

asio::awaitable<void> HttpStreams::Answer(HttpExchange& exchange, Call call) {
  const HttpRequest& request = exchange.request;
  absl::StatusOr<absl::Duration> patience = Patience(request);
  if (!patience.ok()) {
    co_await exchange.Fail(ToOpenAiError(patience.status()));
    co_return;
  }
  if (call.runs_unread) patience = options_.time_max;
  const absl::Duration kept_for = std::min(*patience, options_.time_max);
  const auto executor = co_await asio::this_coro::executor;
  Stream stream;
  if (kept_for > absl::ZeroDuration()) {
    stream = Make({.tenant = request.tenant, .kind = request.route->endpoint, .id = call.id},
                  kept_for, call.runs_unread, executor);
  }
  if (stream == nullptr) {
    HttpCall running(exchange, ReadySignal::Make(gate_, executor), times_);
    running.Start(service_, HttpCall::CallerOf(request), call.id, std::move(call.requests));
    co_await running.AnswerAsStream(*call.answer);
    co_return;
  }
  call.trace = request.trace;
  if (call.runs_unread) on_running_(+1);
  asio::co_spawn(executor, Run(stream, std::move(call)), [this, stream](std::exception_ptr thrown) {
    if (stream->runs_unread()) on_running_(-1);
    if (thrown != nullptr) Remove(stream->name().id, End::kStopping);
  });
  exchange.stream_header = ResumeHeader(kept_for);
  co_await Read(exchange, stream, 0);
}

// Keeps what the call says. Readers get comments from Read where there is nothing to tell.
asio::awaitable<void> HttpStreams::Run(Stream stream, Call call) {
  const auto executor = co_await asio::this_coro::executor;
  const HttpCallTimes times{.timeout = times_.timeout, .keep_alive = times_.timeout};
  HttpCall running(*stream, ReadySignal::Make(gate_, executor), times);
  running.Start(service_, {stream->name().tenant, call.trace}, call.id, std::move(call.requests));
  co_await running.AnswerAsStream(*call.answer);
}

asio::awaitable<void> HttpStreams::Read(HttpExchange& exchange, Stream stream, int64_t next) {
  const auto signal = ReadySignal::Make(gate_, co_await asio::this_coro::executor);
  exchange.OnGone([signal] { signal->Notify(); });
  struct Reading {
    KeptStream& stream;
    const std::shared_ptr<ReadySignal>& signal;
    ~Reading() { stream.Detach(signal); }
  } reading{*stream, signal};
  stream->Attach(signal);
  stream->NoteSent(next);
  std::string sse;
  // Who is cut short sees no last chunk, and its connection closed.
  while (!exchange.gone() && !stream->gone() && stream->is_read_by(signal)) {
    if (next < stream->log().begin()) co_return;
    sse.clear();
    const int64_t behind = stream->log().Read(next, kWriteBytes, sse);
    if (behind > next) {
      if (!co_await exchange.SendEvents(sse)) co_return;
      next = behind;
      if (stream->is_read_by(signal)) stream->NoteSent(next);
    } else if (stream->ended()) {
      co_await EndReading(exchange, stream);
      co_return;
    } else if (!co_await signal->Wait(DeadlineAfter(times_.keep_alive))) {
      stream->NoteHeadSent();
      if (!co_await exchange.SendEvents(kKeepAliveComment)) co_return;
    }
  }
}

asio::awaitable<void> HttpStreams::EndReading(HttpExchange& exchange, Stream stream) {
  if (stream->refusal().has_value() && !exchange.head_sent()) {
    Remove(stream->name().id, End::kComplete);
    co_await exchange.Fail(*stream->refusal());
  } else {
    co_await exchange.EndEvents();
  }
}

asio::awaitable<void> HttpStreams::Handle(HttpExchange& exchange) {
  const HttpEndpoint endpoint = exchange.request.route->endpoint;
  const HttpEndpoint kind = KindOf(endpoint);
  const bool deletes = std::string_view(exchange.request.route->method) == "DELETE";
  if (!deletes) {
    co_await Resume(exchange, kind);
  } else if (Delete(exchange.request.tenant, kind, exchange.request.param)) {
    co_await exchange.Reply(DeletedReply(exchange.request.param));
  } else {
    co_await exchange.Fail(NoSuchStream(exchange.request.param));
  }
}

asio::awaitable<void> HttpStreams::Resume(HttpExchange& exchange, HttpEndpoint kind) {
  const HttpRequest& request = exchange.request;
  const KeptStreamName name{.tenant = request.tenant, .kind = kind, .id = request.param};
  const Stream stream = Find(name);
  if (stream == nullptr) {
    co_await exchange.Fail(NoSuchStream(request.param));
    co_return;
  }
  absl::StatusOr<int64_t> next = FirstUnseen(request);
  if (next.ok() && *next > stream->log().end()) next = NotAnEvent(absl::StrCat(*next - 1));
  if (!next.ok()) {
    co_await exchange.Fail(ToOpenAiError(next.status()));
  } else if (*next < stream->log().begin()) {
    co_await exchange.Fail(EventsGone(*next, stream->log().begin()));
  } else if (request.head) {
    co_await exchange.Reply(HeadReply());
  } else {
    resumed_.Add();
    exchange.stream_header = ResumeHeader(stream->kept_for());
    if (!stream->refusal().has_value()) {
      stream->NoteHeadSent();
      if (!co_await exchange.BeginEvents()) co_return;
    }
    co_await Read(exchange, stream, *next);
  }
}

bool HttpStreams::Delete(TenantIndex tenant, HttpEndpoint kind, const std::string& id) {
  if (Find({.tenant = tenant, .kind = kind, .id = id}) == nullptr) return false;
  Remove(id, End::kDeleted);
  return true;
}

// Nobody reads it: it has its time to be found again. Only one that runs on in the background waits
// for its end before that time begins.
void HttpStreams::AwaitReader(KeptStream& stream) {
  const std::string& id = stream.name().id;
  if (!stream.ended() && stream.runs_unread()) return;
  if (draining_) return Remove(id, End::kStopping);
  stream.timer().expires_after(absl::ToChronoNanoseconds(stream.kept_for()));
  stream.timer().async_wait([this, id](const boost::system::error_code& error) {
    if (error) return;  // somebody came, or it is gone
    const auto found = kept_.find(id);
    if (found == kept_.end() || found->second.stream->is_read()) return;
    Remove(id, found->second.stream->ended() ? End::kComplete : End::kTime);
  });
}

void HttpStreams::ShowBytes(KeptStream& stream) {
  Kept& kept = kept_.at(stream.name().id);
  const size_t before = std::exchange(kept.bytes, stream.log().bytes());
  tenants_[stream.name().tenant].bytes += kept.bytes - before;
  bytes_.Add(static_cast<double>(kept.bytes) - static_cast<double>(before));
}

// First goes what is at its end and unread, then what has been sent of the stream that grows.
void HttpStreams::HoldBounds(KeptStream& stream) {
  ShowBytes(stream);
  const TenantIndex tenant = stream.name().tenant;
  const auto too_much = [&] {
    return stream.log().bytes() > options_.stream_bytes_max ||
           tenants_[tenant].bytes > options_.tenant_bytes_max;
  };
  while (tenants_[tenant].bytes > options_.tenant_bytes_max && DropOldestEnded(tenant)) {
  }
  while (too_much() && stream.DropSent()) ShowBytes(stream);
  while (too_much() && stream.runs_unread() && stream.log().begin() < stream.log().end()) {
    stream.DropOldest();
    ShowBytes(stream);
  }
  if (too_much() && !stream.runs_unread()) Remove(stream.name().id, End::kBytes);
}

bool HttpStreams::DropOldestEnded(TenantIndex tenant) {
  auto oldest = kept_.end();
  for (auto it = kept_.begin(); it != kept_.end(); ++it) {
    const KeptStream& stream = *it->second.stream;
    if (stream.name().tenant != tenant || !stream.ended() || stream.is_read()) continue;
    if (oldest == kept_.end() || it->second.number < oldest->second.number) oldest = it;
  }
  if (oldest == kept_.end()) return false;
  Remove(oldest->first, End::kComplete);
  return true;
}

void HttpStreams::Remove(const std::string& id, End end) {
  const auto found = kept_.find(id);
  if (found == kept_.end()) return;
  const Kept kept = std::move(found->second);
  kept_.erase(found);
  Tenant& tenant = tenants_[kept.stream->name().tenant];
  tenant.bytes -= kept.bytes;
  --tenant.streams;
  bytes_.Add(-static_cast<double>(kept.bytes));
  streams_.Set(static_cast<double>(kept_.size()));
  ended_[static_cast<size_t>(end)].Add();
  kept.stream->Cancel();
}

void HttpStreams::RemoveAll(bool read_too) {
  std::vector<std::string> ids;
  for (const auto& [id, kept] : kept_) {
    const KeptStream& stream = *kept.stream;
    const bool may_stay = stream.is_read() || (stream.runs_unread() && !stream.ended());
    if (read_too || !may_stay) ids.push_back(id);
  }
  for (const std::string& id : ids) Remove(id, End::kStopping);
}

void HttpStreams::BeginDrain() {
  draining_ = true;
  RemoveAll(false);
}

void HttpStreams::Close() {
  draining_ = true;
  RemoveAll(true);
}

}  // namespace holdfast
