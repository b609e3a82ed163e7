#include "server/http_exchange.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "config/base/check.h"
#include "server/anthropic_error.h"

namespace holdfast {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

constexpr size_t kPieceBytes = 1 << 20;

// RFC 9110's Date, made once a second. One I/O thread, hence thread_local is one string.
const std::string& HttpDate() {
  thread_local int64_t made_at = -1;
  thread_local std::string date;
  const int64_t now = absl::ToUnixSeconds(absl::Now());
  if (now != made_at) {
    made_at = now;
    date = absl::FormatTime("%a, %d %b %E4Y %H:%M:%S GMT", absl::FromUnixSeconds(now),
                            absl::UTCTimeZone());
  }
  return date;
}

}  // namespace

HttpExchange::HttpExchange(Conn& conn, absl::Duration write_timeout,
                           std::function<bool()> keep_alive)
    : conn_(conn), write_timeout_(write_timeout), keep_alive_(std::move(keep_alive)) {}

void HttpExchange::BeginHead(int status, std::string_view content_type, bool may_keep_alive,
                             std::string& head) {
  CHECK(!head_sent_);
  head_sent_ = true;
  status_ = status;
  keeps_alive_ = may_keep_alive && keep_alive_();
  absl::StrAppend(
      &head, "HTTP/1.1 ", status, " ", ReasonPhrase(status), "\r\nDate: ", HttpDate(),
      "\r\nContent-Type: ", View(content_type), "\r\nX-Request-Id: ", request.request_id,
      is_anthropic() ? absl::StrCat("\r\nRequest-Id: ", request.request_id) : "",
      request.trace ? absl::StrCat("\r\ntraceparent: ", FormatTraceParent(*request.trace)) : "",
      "\r\nX-Content-Type-Options: nosniff\r\n",
      keeps_alive_ ? (request.http_1_0 ? "Connection: keep-alive\r\n" : "")
                   : "Connection: close\r\n");
}

asio::awaitable<bool> HttpExchange::Send(std::string_view first, std::string_view second,
                                         std::string_view third) {
  if (gone_) co_return false;
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(write_timeout_);
  const IoResult sent = co_await conn_.Write({first, second, third}, deadline);
  if (!sent.ok()) {
    gone_ = true;
    keeps_alive_ = false;
  }
  co_return sent.ok();
}

asio::awaitable<bool> HttpExchange::Reply(const HttpReply& reply) {
  std::string head;
  BeginHead(reply.status, reply.content_type, true, head);
  for (const auto& [name, value] : reply.headers) absl::StrAppend(&head, name, ": ", value, "\r\n");
  if (reply.status != 204 && reply.status != 304) {
    absl::StrAppend(&head, "Content-Length: ", reply.body.size(), "\r\n");
  }
  absl::StrAppend(&head, "\r\n");
  // In pieces, each with its own time: a large file on a slow line takes longer than one write may.
  std::string_view rest = request.head ? std::string_view() : std::string_view(reply.body);
  const auto next = [&rest] {
    const std::string_view piece = rest.substr(0, kPieceBytes);
    rest.remove_prefix(piece.size());
    return piece;
  };
  complete_ = co_await Send(head, next(), {});
  while (complete_ && !rest.empty()) complete_ = co_await Send(next(), {}, {});
  co_return complete_;
}

asio::awaitable<bool> HttpExchange::Fail(const OpenAiError& error) {
  HttpReply reply{.status = error.http_status};
  reply.body = is_anthropic() ? AnthropicErrorBody(error, request.request_id) : ErrorBody(error);
  if (error.http_status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.retry_after_seconds.has_value()) {
    reply.headers.emplace_back("Retry-After", absl::StrCat(*error.retry_after_seconds));
  }
  if (error.http_status == 405 && request.route != nullptr) {
    reply.headers.emplace_back("Allow", AllowedMethods(*request.route));
  }
  co_return co_await Reply(reply);
}

void HttpExchange::BeginEventsHead(std::string& head) {
  BeginHead(200, "text/event-stream; charset=utf-8", !request.http_1_0, head);
  absl::StrAppend(&head, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n", stream_header,
                  request.http_1_0 ? "" : "Transfer-Encoding: chunked\r\n", "\r\n");
}

asio::awaitable<bool> HttpExchange::BeginEvents() {
  std::string head;
  BeginEventsHead(head);
  co_return co_await Send(head, {}, {});
}

asio::awaitable<bool> HttpExchange::SendEvents(std::string_view events) {
  if (events.empty()) co_return !gone_;
  std::string head;
  if (!head_sent_) BeginEventsHead(head);
  if (request.http_1_0) co_return co_await Send(head, events, {});
  absl::StrAppendFormat(&head, "%x\r\n", events.size());
  co_return co_await Send(head, events, "\r\n");
}

asio::awaitable<bool> HttpExchange::EndEvents() {
  complete_ = !gone_;
  if (!request.http_1_0) complete_ = co_await Send("0\r\n\r\n", {}, {});
  co_return complete_;
}

void HttpExchange::OnGone(std::function<void()> on_gone) {
  conn_.WatchGone([this, on_gone = std::move(on_gone)] {
    gone_ = true;
    keeps_alive_ = false;
    on_gone();
  });
}

}  // namespace holdfast
