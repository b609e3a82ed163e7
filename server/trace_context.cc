#include "server/trace_context.h"

#include <algorithm>
#include <span>

#include "absl/random/distributions.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";  // capitals are not allowed
constexpr uint8_t kSampledFlag = 1;

// 00-<32 digits>-<16 digits>-<2 digits>; versions to come may go on behind a dash.
constexpr size_t kTraceAt = 3, kSpanAt = 36, kFlagsAt = 53, kLength = 55;

bool ParseHex(std::string_view text, std::span<uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const size_t high = kDigits.find(text[2 * i]), low = kDigits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return false;
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

std::string ToHex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

bool IsZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

void Draw(std::span<uint8_t> bytes, absl::BitGenRef random) {
  for (uint8_t& byte : bytes) byte = absl::Uniform<uint8_t>(random);
  if (IsZero(bytes)) bytes.back() = 1;
}

}  // namespace

SpanId DrawSpanId(absl::BitGenRef random) {
  SpanId span{};
  Draw(span, random);
  return span;
}

TraceContext DrawTrace(bool sampled, absl::BitGenRef random) {
  TraceContext context{.sampled = sampled};
  Draw(context.trace, random);
  return context;
}

std::optional<TraceContext> ParseTraceParent(std::string_view header) {
  if (header.size() < kLength || header[kTraceAt - 1] != '-' || header[kSpanAt - 1] != '-' ||
      header[kFlagsAt - 1] != '-') {
    return std::nullopt;
  }
  std::array<uint8_t, 1> version{}, flags{};
  TraceContext context;
  SpanId span{};
  if (!ParseHex(header, version) || version[0] == 0xff ||
      !ParseHex(header.substr(kTraceAt), context.trace) ||
      !ParseHex(header.substr(kSpanAt), span) || !ParseHex(header.substr(kFlagsAt), flags)) {
    return std::nullopt;
  }
  const bool has_more = header.size() > kLength;
  if (has_more && (version[0] == 0 || header[kLength] != '-')) return std::nullopt;
  if (IsZero(context.trace) || IsZero(span)) return std::nullopt;
  context.span = span;
  context.is_callers = true;
  context.sampled = (flags[0] & kSampledFlag) != 0;
  return context;
}

std::string FormatTraceParent(const TraceContext& context) {
  return Concat("00-", Hex(context.trace), "-", Hex(*context.span),
                context.sampled ? "-01" : "-00");
}

std::string Hex(const TraceId& trace) { return ToHex(trace); }
std::string Hex(const SpanId& span) { return ToHex(span); }

}  // namespace holdfast
