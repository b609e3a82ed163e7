#include "server/tracer.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/random/distributions.h"
#include "absl/random/random.h"
#include "absl/synchronization/mutex.h"
#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/concat.h"
#include "config/remote_endpoint.h"
#include "server/http_client.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;

constexpr int kInternal = 1, kServer = 2;  // SpanKind
constexpr int kStatusError = 2;

// 64-bit numbers are text in this form.
std::string Nanoseconds(absl::Time time) { return Concat(absl::ToUnixNanos(time)); }

Json Attribute(const char* key, const Span::Value& value) {
  Json told = Json::object();
  if (const auto* text = std::get_if<std::string>(&value)) {
    told["stringValue"] = *text;
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    told["intValue"] = Concat(*number);  // likewise
  } else {
    told["boolValue"] = std::get<bool>(value);
  }
  return {{"key", key}, {"value", std::move(told)}};
}

Json ToJson(const Span& span, absl::Duration date_ahead) {
  Json json{{"traceId", Hex(span.trace)},
            {"spanId", Hex(span.id)},
            {"name", span.name},
            {"kind", span.is_server ? kServer : kInternal},
            {"startTimeUnixNano", Nanoseconds(span.begin + date_ahead)},
            {"endTimeUnixNano", Nanoseconds(std::max(span.begin, span.end) + date_ahead)},
            {"attributes", Json::array()}};
  if (span.parent) json["parentSpanId"] = Hex(*span.parent);
  for (const auto& [key, value] : span.attributes) {
    json["attributes"].push_back(Attribute(key, value));
  }
  if (!span.error.empty()) json["status"] = {{"code", kStatusError}, {"message", span.error}};
  return json;
}

Counter CounterOf(MetricsRegistry& metrics, const char* result) {
  return metrics.AddCounter("holdfast_tracing_spans_total",
                            "Spans that a collector took, did not take, or that were too many.",
                            {{"result", result}});
}

HttpQuestion QuestionTo(const std::string& otlp_http) {
  const absl::StatusOr<RemoteEndpoint> collector = ParseRemoteEndpoint(otlp_http);
  CHECK(collector.ok());
  return {.host = collector->host,
          .port = static_cast<uint16_t>(collector->port),
          .method = "POST",
          .target = "/v1/traces",
          .headers = {{"Content-Type", "application/json"}}};
}

}  // namespace

std::string OtlpJson(const std::vector<Span>& spans, const std::string& version,
                     absl::Duration date_ahead) {
  Json told = Json::array();
  for (const Span& span : spans) told.push_back(ToJson(span, date_ahead));
  const Json resource{{"attributes",
                       {Attribute("service.name", std::string("holdfast")),
                        Attribute("service.version", version)}}};
  const Json scope{{"scope", {{"name", "holdfast"}}}, {"spans", std::move(told)}};
  const Json body{
      {"resourceSpans", {{{"resource", resource}, {"scopeSpans", Json::array({scope})}}}}};
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct Tracer::Impl {
  Impl(TracerOptions wanted, MetricsRegistry& metrics)
      : options(std::move(wanted)),
        question(QuestionTo(options.otlp_http)),
        sent(CounterOf(metrics, "sent")),
        failed(CounterOf(metrics, "failed")),
        dropped(CounterOf(metrics, "dropped")) {
    thread = std::thread([this] { Run(); });
  }
  ~Impl() {
    {
      absl::MutexLock lock(&mutex);
      stopping = true;
      stop_by = SteadyNow() + options.patience;
    }
    thread.join();
  }

  void Run() noexcept {
    while (true) {
      std::vector<Span> batch = Take();
      if (batch.empty()) return;
      Send(batch);
    }
  }

  // Empty: it is over.
  std::vector<Span> Take() {
    absl::MutexLock lock(&mutex);
    const auto has_some = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
      return stopping || !waiting.empty();
    };
    mutex.Await(absl::Condition(&has_some));
    const auto has_many = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
      return stopping || waiting.size() >= kSpansOfBatchMax;
    };
    mutex.AwaitWithTimeout(absl::Condition(&has_many), options.linger);
    question.timeout = stopping ? stop_by - SteadyNow() : options.patience;
    // The end does not wait for who is not there.
    if (stopping && (was_refused || question.timeout <= absl::ZeroDuration())) waiting.clear();
    const size_t count = std::min(waiting.size(), kSpansOfBatchMax);
    const auto end = waiting.begin() + static_cast<std::ptrdiff_t>(count);
    std::vector<Span> batch(std::make_move_iterator(waiting.begin()), std::make_move_iterator(end));
    waiting.erase(waiting.begin(), end);
    return batch;
  }

  void Send(const std::vector<Span>& batch) {
    question.body = OtlpJson(batch, options.version, absl::Now() - SteadyNow());
    const absl::StatusOr<HttpAnswer> answer = AskHttp(question);
    absl::Status status = answer.status();
    if (answer.ok() && answer->status / 100 != 2) {
      status = absl::UnavailableError(Concat(options.otlp_http, " answers with status ",
                                             answer->status, "; wanted 200 to POST /v1/traces"));
    }
    (status.ok() ? sent : failed).Add(static_cast<double>(batch.size()));
    if (was_refused == status.ok() && options.on_change) options.on_change(status);
    was_refused = !status.ok();
  }

  const TracerOptions options;
  HttpQuestion question;  // the thread's
  Counter sent, failed, dropped;
  bool was_refused = false;  // the thread's
  absl::Mutex mutex;
  absl::BitGen random ABSL_GUARDED_BY(mutex);
  std::deque<Span> waiting ABSL_GUARDED_BY(mutex);
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  absl::Time stop_by ABSL_GUARDED_BY(mutex);
  std::thread thread;
};

Tracer::Tracer(TracerOptions options, MetricsRegistry& metrics)
    : impl_(std::make_unique<Impl>(std::move(options), metrics)) {}

Tracer::~Tracer() = default;

TraceContext Tracer::Begin(std::string_view traceparent) {
  if (const std::optional<TraceContext> callers = ParseTraceParent(traceparent)) return *callers;
  absl::MutexLock lock(&impl_->mutex);
  const bool sampled = absl::Bernoulli(impl_->random, impl_->options.sample_ratio);
  return DrawTrace(sampled, impl_->random);
}

SpanId Tracer::NewSpan() {
  absl::MutexLock lock(&impl_->mutex);
  return DrawSpanId(impl_->random);
}

void Tracer::Add(Span&& span) {
  absl::MutexLock lock(&impl_->mutex);
  if (impl_->waiting.size() >= kSpansWaitingMax) {
    impl_->dropped.Add(1);
    return;
  }
  impl_->waiting.push_back(std::move(span));
}

}  // namespace holdfast
