// Streamed answers, on whatever wire, and those of them that outlive their connection.
//
// A client that leaves takes its request along, unless it asked for more patience by the header
// `X-Holdfast-Resume: 30s`. Then every event has a number (an SSE `id:`); when the connection
// breaks, the request goes on, its events are kept, and whoever comes back in time with the last
// number that it saw (`Last-Event-ID`) gets the rest, each event once, byte by byte what it would
// have got.
//
//   read --connection breaks--> unread --comes back--> read --all sent--> unread --time--> gone
//                                  |
//                                  +-- time over, a bound passed, deleted, draining: cancelled
//
// Responses in the background (`runs_unread`) go on whoever reads; of their events the oldest are
// forgotten beyond the bounds.
//
// Thread: the I/O thread's alone.
// Bound: KeptStreamOptions; what is beyond them is streamed as if it had not been asked to be kept.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "server/answer_writer.h"
#include "server/generation.h"
#include "server/http_call.h"
#include "server/http_exchange.h"
#include "server/io_gate.h"
#include "server/kept_stream.h"
#include "server/kept_stream_options.h"

namespace holdfast {

class HttpStreams final {
 public:
  // `on_running`: +1 and -1 for each call that runs whoever reads. What is passed by reference must
  // outlive the object.
  HttpStreams(KeptStreamOptions options, GenerationService& service, MetricsRegistry& metrics,
              std::shared_ptr<IoGate> gate, HttpCallTimes times,
              std::function<void(int)> on_running);

  struct Call {
    std::string id;  // as the client sees it
    std::vector<GenerationRequest> requests;
    std::unique_ptr<AnswerStreamWriter> answer;
    bool runs_unread = false;
    std::optional<TraceContext> trace;  // Answer's to set
  };
  // Runs the call and streams its answer.
  asio::awaitable<void> Answer(HttpExchange& exchange, Call call);
  // GET and DELETE of a stream that is kept.
  asio::awaitable<void> Handle(HttpExchange& exchange);
  // Of the stream that was made at `kind`: the events behind the one that the request names.
  asio::awaitable<void> Resume(HttpExchange& exchange, HttpEndpoint kind);
  // Cancels it, if it runs, and forgets its events. False: there is none.
  bool Delete(TenantIndex tenant, HttpEndpoint kind, const std::string& id);
  // Whether Answer will take a call that runs unread: kInvalidArgument, kUnavailable,
  // kResourceExhausted.
  absl::Status CheckRoom(const HttpRequest& request);

  // What nobody reads is cancelled, and nothing more is kept.
  void BeginDrain();
  void Close();  // cancels all of them

 private:
  enum class End : uint8_t { kComplete, kTime, kBytes, kDeleted, kStopping };
  using Stream = std::shared_ptr<KeptStream>;  // shared by the table, its call and its reader

  struct Tenant {
    size_t bytes = 0;
    int32_t streams = 0;
  };

  static absl::StatusOr<absl::Duration> Patience(const HttpRequest& request);
  Stream Make(KeptStreamName name, absl::Duration kept_for, bool runs_unread,
              const asio::any_io_executor& executor);
  Stream Find(const KeptStreamName& name) const;
  bool HasRoom(TenantIndex tenant);
  asio::awaitable<void> Run(Stream stream, Call call);
  asio::awaitable<void> Read(HttpExchange& exchange, Stream stream, int64_t next);
  asio::awaitable<void> EndReading(HttpExchange& exchange, Stream stream);
  void AwaitReader(KeptStream& stream);
  void HoldBounds(KeptStream& stream);
  bool DropOldestEnded(TenantIndex tenant);
  void Remove(const std::string& id, End end);
  void RemoveAll(bool read_too);
  void ShowBytes(KeptStream& stream);

  const KeptStreamOptions options_;
  GenerationService& service_;
  const std::shared_ptr<IoGate> gate_;
  const HttpCallTimes times_;
  const std::function<void(int)> on_running_;
  bool draining_ = false;
  struct Kept {
    Stream stream;
    size_t bytes = 0;    // of its log, as it is counted
    int64_t number = 0;  // the older the lower
  };
  std::map<std::string, Kept> kept_;  // by id
  std::map<TenantIndex, Tenant> tenants_;
  int64_t num_made_ = 0;
  Gauge streams_, bytes_;
  Counter resumed_, refused_;
  std::vector<Counter> ended_;  // by End
};

}  // namespace holdfast
