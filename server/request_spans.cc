#include "server/request_spans.h"

#include <algorithm>
#include <string>
#include <utility>

#include "config/base/concat.h"

namespace holdfast {
namespace {

// Children of one generation.
class Stages {
 public:
  Stages(const TraceContext& trace, SpanId parent, Tracer& tracer)
      : trace_(trace), parent_(parent), tracer_(tracer) {}

  void Add(const char* name, absl::Time begin, absl::Time end,
           std::vector<std::pair<const char*, Span::Value>> attributes = {}) {
    if (begin == absl::InfinitePast() || end == absl::InfinitePast()) return;
    tracer_.Add({.trace = trace_.trace,
                 .id = tracer_.NewSpan(),
                 .parent = parent_,
                 .name = name,
                 .begin = begin,
                 .end = end,
                 .attributes = std::move(attributes)});
  }

 private:
  const TraceContext& trace_;
  const SpanId parent_;
  Tracer& tracer_;
};

}  // namespace

void AddHttpSpan(const HttpAccess& access, std::string_view tenant, Tracer& tracer) {
  if (!access.trace || !access.trace->sampled) return;
  constexpr int kServerFault = 500;
  tracer.Add({.trace = access.trace->trace,
              .id = *access.trace->span,
              .parent = access.trace_parent,
              .name = Concat(access.method, " ", access.route),
              .is_server = true,
              .begin = access.begin,
              .end = access.begin + access.elapsed,
              .attributes = {{"http.request.method", std::string(access.method)},
                             {"http.route", std::string(access.route)},
                             {"http.response.status_code", int64_t{access.code}},
                             {"http.request.body.size", access.body_bytes},
                             {"holdfast.request_id", access.request_id},
                             {"holdfast.tenant", std::string(tenant)}},
              .error = access.code >= kServerFault ? Concat("status ", access.code) : ""});
}

void AddGenerationSpans(const GenerationRecord& record, std::string_view tenant,
                        std::string_view model, Tracer& tracer) {
  if (!record.trace || !record.trace->sampled) return;
  const SpanId id = tracer.NewSpan();
  Stages stages(*record.trace, id, tracer);
  const StageTimes& times = record.times;
  stages.Add("tool_gap", times.tool_called, record.arrival, {{"gen_ai.tool.name", times.tool}});
  stages.Add("queue", record.arrival,
             times.admitted == absl::InfinitePast() ? record.end : times.admitted);
  stages.Add("kv_restore", times.restored == absl::InfinitePast() ? times.restored : times.admitted,
             times.restored, {{"holdfast.restored_tokens", times.restored_tokens}});
  stages.Add("prefill", std::max(times.admitted, times.restored),
             record.first_token == absl::InfinitePast() ? record.end : record.first_token);
  stages.Add("decode", record.first_token, record.end);
  // What the client did (it left, asked what cannot be, or too much) is no error of a server's
  // span.
  const bool is_fault = record.outcome == Outcome::kUnavailable ||
                        record.outcome == Outcome::kTimeout || record.outcome == Outcome::kError;
  tracer.Add({.trace = record.trace->trace,
              .id = id,
              .parent = record.trace->span,
              .name = "generation",
              .is_server = !record.trace->span.has_value() || record.trace->is_callers,
              .begin = record.arrival,
              .end = record.end,
              .attributes = {{"gen_ai.request.model", std::string(model)},
                             {"gen_ai.response.id", record.id},
                             {"gen_ai.usage.input_tokens", int64_t{record.prompt_tokens}},
                             {"gen_ai.usage.output_tokens", int64_t{record.completion_tokens}},
                             {"holdfast.cached_tokens", int64_t{record.cached_tokens}},
                             {"holdfast.tenant", std::string(tenant)},
                             {"holdfast.outcome", std::string(OutcomeName(record.outcome))}},
              .error = is_fault ? OutcomeName(record.outcome) : ""});
}

}  // namespace holdfast
