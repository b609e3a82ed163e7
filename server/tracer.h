// Spans to a collector, by OTLP over HTTP: what a request waited for, and for how long. Ids, sizes
// and times, never what was asked or answered.
//
//   any thread --Add--> queue (bounded) --thread--> POST /v1/traces, JSON, in batches
//
// Add never blocks: spans beyond kSpansWaitingMax are dropped and counted, as are those of a batch
// that the collector does not take: nothing is sent twice. The thread sleeps while there is none.
// A collector that does not answer holds the end up for `patience`, and a name that cannot be
// looked up for as long as the system takes.
//
// Thread: any.    Source: OTLP 1.x, https://opentelemetry.io/docs/specs/otlp/ (JSON encoding).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "server/trace_context.h"

namespace holdfast {

inline constexpr size_t kSpansWaitingMax = 8192;
inline constexpr size_t kSpansOfBatchMax = 512;

struct Span {
  using Value = std::variant<std::string, int64_t, bool>;

  TraceId trace{};
  SpanId id{};
  std::optional<SpanId> parent;
  std::string name;
  bool is_server = false;  // of the request as a whole: kind SERVER, else INTERNAL
  absl::Time begin, end;   // by SteadyNow
  std::vector<std::pair<const char*, Value>> attributes;
  std::string error;  // empty: it went well
};

struct TracerOptions {
  std::string otlp_http;                       // "host:port", checked by the settings
  double sample_ratio = 1.0;                   // of requests that come without a trace
  std::string version;                         // the daemon's
  absl::Duration linger = absl::Seconds(1);    // for company
  absl::Duration patience = absl::Seconds(3);  // with the collector: an answer, and all at the end
  // Hears when the collector begins to refuse (why), and when it takes again (ok). On its thread.
  std::function<void(const absl::Status&)> on_change;
};

class Tracer final {
 public:
  Tracer(TracerOptions options, MetricsRegistry& metrics);
  ~Tracer();  // after an attempt to send what waits, unless the last one failed
  Tracer(const Tracer&) = delete;

  // For a new request: what it is a part of, if its caller said so, else a new trace, which is
  // sampled or not.
  TraceContext Begin(std::string_view traceparent);
  SpanId NewSpan();
  void Add(Span&& span);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The body of a batch. `date_ahead`: of SteadyNow; spans are told by the date as it is now, however
// the machine's clock was set since the process began.
std::string OtlpJson(const std::vector<Span>& spans, const std::string& version,
                     absl::Duration date_ahead);

}  // namespace holdfast
