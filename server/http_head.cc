#include "server/http_head.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/loopback_host.h"

namespace holdfast {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

constexpr size_t kRequestIdBytesMax = 128;

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }
absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

// The HOST of "http://HOST/path", which then stands for the Host header (RFC 9112, 3.2.2); else
// empty.
std::string_view HostOfTarget(std::string_view target) {
  const size_t mark = target.find("://");
  if (target.starts_with('/') || mark == target.npos) return {};
  target.remove_prefix(mark + 3);
  return target.substr(0, target.find_first_of("/?#"));
}

}  // namespace

bool IsGoodRequestId(std::string_view id) {
  return !id.empty() && id.size() <= kRequestIdBytesMax &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) ||
                  std::string_view("-_.:/+=@").find(c) != std::string_view::npos;
         });
}

std::string_view KeyOf(const http::fields& fields) {
  if (const auto found = fields.find(http::field::authorization); found != fields.end()) {
    std::string_view value = View(found->value());
    constexpr std::string_view kScheme = "bearer ";
    if (value.size() < kScheme.size() ||
        !absl::EqualsIgnoreCase(AbslView(value.substr(0, kScheme.size())), AbslView(kScheme))) {
      return value;  // another scheme: no key of ours, and not the anonymous caller
    }
    value.remove_prefix(kScheme.size());
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    return value;
  }
  for (const char* name : {"api-key", "x-api-key"}) {
    if (const auto found = fields.find(name); found != fields.end()) return View(found->value());
  }
  return {};
}

std::string_view PathOf(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(AbslView(target), AbslView(scheme))) continue;
    const size_t slash = target.find('/', scheme.size());
    target = slash == target.npos ? std::string_view("/") : target.substr(slash);
  }
  if (target.empty() || target.front() != '/') return {};
  return target.substr(0, target.find_first_of("?#"));
}

std::string_view QueryOf(std::string_view target) {
  const size_t begin = target.find('?');
  if (begin == target.npos) return {};
  target.remove_prefix(begin + 1);
  return target.substr(0, target.find('#'));
}

OpenAiError MalformedRequest(std::string_view what) {
  return HttpError(400, "malformed_request", AbslView(what));
}

std::optional<OpenAiError> CheckLoopbackNames(const HttpHead& message) {
  const auto refused = [](const char* header, std::string_view value) {
    return HttpError(403, "host_not_allowed",
                     absl::StrCat(header, " is `", AbslView(value.substr(0, 128)),
                                  "`; without keys only this machine is served, by the names "
                                  "localhost, 127.0.0.1 and [::1], so that no web page gets in. "
                                  "Use one of them, or the operator sets up tenants with keys, or "
                                  "listen.allow_anonymous"));
  };
  if (const auto host = HostOfTarget(View(message.target()));
      !host.empty() && !IsLoopbackHost(host)) {
    return refused("the target's host", host);
  }
  if (const auto host = message.find(http::field::host); host != message.end()) {
    const std::string_view value = View(host->value());
    if (!value.empty() && !IsLoopbackHost(value)) return refused("Host", value);
  }
  const auto origins = message.equal_range(http::field::origin);
  for (auto origin = origins.first; origin != origins.second; ++origin) {
    const std::string_view value = View(origin->value());
    if (!IsLoopbackOrigin(value)) return refused("Origin", value);
  }
  return std::nullopt;
}

std::optional<OpenAiError> CheckFraming(const HttpHead& message) {
  const auto transfer = message.equal_range(http::field::transfer_encoding);
  if (transfer.first != transfer.second) {
    if (message.version() < 11) return MalformedRequest("transfer encodings need HTTP/1.1");
    if (message.count(http::field::content_length) > 0) {
      return MalformedRequest("Content-Length and Transfer-Encoding exclude each other");
    }
    if (std::next(transfer.first) != transfer.second ||
        !absl::EqualsIgnoreCase(AbslView(View(transfer.first->value())), "chunked")) {
      return HttpError(501, "transfer_encoding_not_supported",
                       "the only supported Transfer-Encoding is chunked");
    }
  }
  const size_t num_hosts = message.count(http::field::host);
  if (num_hosts > 1 || (num_hosts == 0 && message.version() >= 11)) {
    return MalformedRequest("exactly one Host header is needed");
  }
  const auto content = message.find(http::field::content_encoding);
  if (content != message.end() &&
      !absl::EqualsIgnoreCase(AbslView(View(content->value())), "identity")) {
    return HttpError(415, "content_encoding_not_supported",
                     "send the body without Content-Encoding");
  }
  return std::nullopt;
}

}  // namespace holdfast
