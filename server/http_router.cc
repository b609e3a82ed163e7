#include "server/http_router.h"

#include <algorithm>
#include <array>

namespace holdfast {
namespace {

constexpr std::array kRoutes = {
    Route{HttpEndpoint::kChatCompletions, "POST", "/v1/chat/completions", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kCancelChat, "POST", "/v1/chat/completions/{id}/cancel", KeyNeed::kAlways,
          false},
    Route{HttpEndpoint::kChatStream, "GET", "/v1/chat/completions/{id}/stream", KeyNeed::kAlways,
          false},
    Route{HttpEndpoint::kDeleteChatStream, "DELETE", "/v1/chat/completions/{id}/stream",
          KeyNeed::kAlways, false},
    Route{HttpEndpoint::kCompletionStream, "GET", "/v1/completions/{id}/stream", KeyNeed::kAlways,
          false},
    Route{HttpEndpoint::kDeleteCompletionStream, "DELETE", "/v1/completions/{id}/stream",
          KeyNeed::kAlways, false},
    Route{HttpEndpoint::kMessageStream, "GET", "/v1/messages/{id}/stream", KeyNeed::kAlways, false,
          ErrorForm::kAnthropic},
    Route{HttpEndpoint::kDeleteMessageStream, "DELETE", "/v1/messages/{id}/stream",
          KeyNeed::kAlways, false, ErrorForm::kAnthropic},
    Route{HttpEndpoint::kCompletions, "POST", "/v1/completions", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kEmbeddings, "POST", "/v1/embeddings", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kScore, "POST", "/v1/score", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kRerank, "POST", "/v1/rerank", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kMessages, "POST", "/v1/messages", KeyNeed::kAlways, true,
          ErrorForm::kAnthropic},
    Route{HttpEndpoint::kCountTokens, "POST", "/v1/messages/count_tokens", KeyNeed::kAlways, true,
          ErrorForm::kAnthropic},
    Route{HttpEndpoint::kModels, "GET", "/v1/models", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kModel, "GET", "/v1/models/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kTokenize, "POST", "/tokenize", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kDetokenize, "POST", "/detokenize", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kCreateResponse, "POST", "/v1/responses", KeyNeed::kAlways, true},
    Route{HttpEndpoint::kResponseItems, "GET", "/v1/responses/{id}/input_items", KeyNeed::kAlways,
          false},
    Route{HttpEndpoint::kCancelResponse, "POST", "/v1/responses/{id}/cancel", KeyNeed::kAlways,
          false},
    Route{HttpEndpoint::kResponse, "GET", "/v1/responses/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kDeleteResponse, "DELETE", "/v1/responses/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kUploadFile, "POST", "/v1/files", KeyNeed::kAlways, false,
          ErrorForm::kOpenAi, true},
    Route{HttpEndpoint::kFiles, "GET", "/v1/files", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kFileContent, "GET", "/v1/files/{id}/content", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kFile, "GET", "/v1/files/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kDeleteFile, "DELETE", "/v1/files/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kCreateBatch, "POST", "/v1/batches", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kBatches, "GET", "/v1/batches", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kCancelBatch, "POST", "/v1/batches/{id}/cancel", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kBatch, "GET", "/v1/batches/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kLive, "GET", "/health/live", KeyNeed::kNever, false},
    Route{HttpEndpoint::kReady, "GET", "/health/ready", KeyNeed::kNever, false},
    Route{HttpEndpoint::kReady, "GET", "/health", KeyNeed::kNever, false},
    Route{HttpEndpoint::kMetrics, "GET", "/metrics", KeyNeed::kNeverOnLoopback, false},
    Route{HttpEndpoint::kVersion, "GET", "/version", KeyNeed::kNever, false},
    Route{HttpEndpoint::kOpenApi, "GET", "/openapi.json", KeyNeed::kNever, false},
    Route{HttpEndpoint::kUi, "GET", "/ui", KeyNeed::kNever, false},
    Route{HttpEndpoint::kUi, "GET", "/ui/", KeyNeed::kNever, false},
    Route{HttpEndpoint::kUiPort, "GET", "/ui/port", KeyNeed::kNever, false},
    Route{HttpEndpoint::kUi, "GET", "/ui/{id}", KeyNeed::kNever, false},
    Route{HttpEndpoint::kAdminKv, "GET", "/admin/v1/kv", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminPins, "GET", "/admin/v1/pins", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminDropPins, "DELETE", "/admin/v1/pins", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminDropPin, "DELETE", "/admin/v1/pins/{id}", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminQueue, "GET", "/admin/v1/queue", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminQueue, "GET", "/admin/queue", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminUsage, "GET", "/admin/v1/usage", KeyNeed::kAlways, false},
    Route{HttpEndpoint::kAdminReload, "POST", "/admin/v1/reload", KeyNeed::kAlways, false},
};

bool IsBehind(HttpDoor door, const Route& route) {
  const bool is_admin = std::string_view(route.path).starts_with("/admin/");
  switch (door) {
    case HttpDoor::kOnly:
      return route.endpoint != HttpEndpoint::kAdminReload;  // no tenant's affair
    case HttpDoor::kTenants:
      return !is_admin;
    case HttpDoor::kAdministrators:
      return is_admin || route.key != KeyNeed::kAlways;
  }
  return false;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// A broken escape stays as it is: it then names nothing, which is a 404.
std::string PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const int high = HexDigit(text[i + 1]), low = HexDigit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        decoded += static_cast<char>(high * 16 + low);
        i += 2;
        continue;
      }
    }
    decoded += text[i];
  }
  return decoded;
}

}  // namespace

std::span<const Route> Routes() { return kRoutes; }

RouteMatch MatchRoute(HttpDoor door, std::string_view method, std::string_view path) {
  constexpr std::string_view kId = "{id}";
  RouteMatch other;  // of the path, by another method
  for (const Route& route : kRoutes) {
    if (!IsBehind(door, route)) continue;
    const std::string_view pattern = route.path;
    std::string param;
    if (const size_t at = pattern.find(kId); at != std::string_view::npos) {
      const std::string_view before = pattern.substr(0, at),
                             behind = pattern.substr(at + kId.size());
      const size_t fixed = before.size() + behind.size();
      if (path.size() <= fixed || !path.starts_with(before) || !path.ends_with(behind)) continue;
      param = PercentDecoded(path.substr(before.size(), path.size() - fixed));
    } else if (path != pattern) {
      continue;
    }
    const bool allowed =
        method == route.method || (method == "HEAD" && std::string_view(route.method) == "GET");
    if (allowed) return {&route, true, std::move(param)};
    if (other.route == nullptr) other = {&route, false, std::move(param)};
  }
  return other;
}

std::string AllowedMethods(const Route& route) {
  std::string methods;
  for (const Route& one : kRoutes) {
    if (std::string_view(one.path) != route.path) continue;
    methods += one.method;
    methods += std::string_view(one.method) == "GET" ? ", HEAD, " : ", ";
  }
  return methods + "OPTIONS";
}

std::string QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    if (PercentDecoded(pair.substr(0, equals)) != name) continue;
    return PercentDecoded(pair.substr(std::min(equals + 1, pair.size())));
  }
  return "";
}

}  // namespace holdfast
