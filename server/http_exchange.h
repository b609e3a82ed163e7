// One request and the way its answer goes out: at once (Reply), or as a stream of server-sent
// events (SendEvents any number of times, then EndEvents). The listener makes it, an endpoint uses
// it.
//
// After a failed write, or once the client is gone, writing does nothing and says false.
//
// Thread: the I/O thread's alone. Bound: one write waits at most write_timeout.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "config/ids.h"
#include "server/event_sink.h"
#include "server/http_conn.h"
#include "server/http_router.h"
#include "server/http_status.h"
#include "server/trace_context.h"

namespace holdfast {

struct HttpRequest {
  bool head = false;      // HEAD: the answer has no body
  bool http_1_0 = false;  // no chunks: a stream ends with its connection
  const Route* route = nullptr;
  std::string param;       // of the route's "{id}"
  std::string query;       // behind the "?", as it was sent
  std::string request_id;  // the client's, or made
  std::string content_type;
  std::string session;                         // of its headers (session_headers.h); empty: none
  std::string resume, last_event_id;           // of its headers (http_streams.h); empty: none
  std::string accept_encoding, if_none_match;  // likewise (ui_files.h)
  HttpDoor door = HttpDoor::kOnly;             // through which it came
  bool needs_key = false;                      // of kUiPort: the others of its port may
  bool sees_metrics = false;                   // of kUiPort: who asks may read /metrics
  std::optional<TraceContext> trace;           // whose span is this request; absent: nobody traces
  std::optional<SpanId> trace_parent;
  TenantIndex tenant{};  // where the route needs a key
  uint32_t key = 0;      // likewise (authenticator.h)
  std::string body;
  int64_t body_bytes = 0;  // as it came
};

struct HttpReply {
  int status = 200;
  std::string body;
  const char* content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

class HttpExchange final : public EventSink {
 public:
  // `keep_alive` is asked when the header is written, so that a drain is seen as late as possible.
  HttpExchange(Conn& conn, absl::Duration write_timeout, std::function<bool()> keep_alive);

  ~HttpExchange() override { conn_.StopWatching(); }
  HttpExchange(const HttpExchange&) = delete;

  HttpRequest request;
  std::string stream_header;  // a line more for the header of a stream; empty: none

  asio::awaitable<bool> Reply(const HttpReply& reply);
  asio::awaitable<bool> Fail(const OpenAiError& error) override;  // in the form of the route

  asio::awaitable<bool> BeginEvents();  // the header alone, which else goes out with the first
  asio::awaitable<bool> SendEvents(std::string_view events) override;
  asio::awaitable<bool> EndEvents() override;

  // The client left. Called at most once, on the I/O thread, and not after StopWatching.
  void OnGone(std::function<void()> on_gone) override;
  void StopWatching() override { conn_.StopWatching(); }
  bool gone() const override { return gone_; }

  bool head_sent() const override { return head_sent_; }
  int status() const { return gone_ && !complete_ ? 499 : status_; }
  bool complete() const { return complete_; }        // the whole answer went to the kernel
  bool keeps_alive() const { return keeps_alive_; }  // as the sent header said

 private:
  bool is_anthropic() const {
    return request.route != nullptr && request.route->errors == ErrorForm::kAnthropic;
  }
  asio::awaitable<bool> Send(std::string_view first, std::string_view second,
                             std::string_view third);
  void BeginEventsHead(std::string& head);
  void BeginHead(int status, std::string_view content_type, bool may_keep_alive, std::string& head);

  Conn& conn_;
  const absl::Duration write_timeout_;
  const std::function<bool()> keep_alive_;
  int status_ = 0;
  bool head_sent_ = false, complete_ = false, keeps_alive_ = false, gone_ = false;
};

}  // namespace holdfast
