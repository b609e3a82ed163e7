// Where a request stands in a trace that may span several programs.
//
// Thread: any; pure.    Source: W3C Trace Context, https://www.w3.org/TR/trace-context/ (the header
// `traceparent`, version 00; `tracestate` is not ours to read and ends here).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/random/bit_gen_ref.h"

namespace holdfast {

using TraceId = std::array<uint8_t, 16>;  // neither is ever all zeros
using SpanId = std::array<uint8_t, 8>;

struct TraceContext {
  TraceId trace{};
  std::optional<SpanId> span;  // what causes that which is in this context; absent: nothing
  bool is_callers = false;     // that span is another program's
  bool sampled = false;        // somebody records it
};

SpanId DrawSpanId(absl::BitGenRef random);
TraceContext DrawTrace(bool sampled, absl::BitGenRef random);  // without a span

// nullopt: it is not one, and as if it were not there.
std::optional<TraceContext> ParseTraceParent(std::string_view header);
std::string FormatTraceParent(const TraceContext& context);  // which has a span

std::string Hex(const TraceId& trace);
std::string Hex(const SpanId& span);

}  // namespace holdfast
