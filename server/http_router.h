// Which endpoint a method and a path mean, and what it asks of the caller: one table.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace holdfast {

enum class HttpEndpoint : uint8_t {
  kChatCompletions,
  kCancelChat,
  kChatStream,
  kDeleteChatStream,
  kCompletions,
  kCompletionStream,
  kDeleteCompletionStream,
  kEmbeddings,
  kScore,
  kRerank,
  kMessages,
  kMessageStream,
  kDeleteMessageStream,
  kCountTokens,
  kModels,
  kModel,
  kTokenize,
  kDetokenize,
  kCreateResponse,
  kResponse,
  kResponseItems,
  kDeleteResponse,
  kCancelResponse,
  kUploadFile,
  kFiles,
  kFile,
  kFileContent,
  kDeleteFile,
  kCreateBatch,
  kBatches,
  kBatch,
  kCancelBatch,
  kLive,
  kReady,
  kMetrics,
  kVersion,
  kOpenApi,
  kUi,
  kUiPort,
  kAdminKv,
  kAdminPins,
  kAdminDropPins,
  kAdminDropPin,
  kAdminQueue,
  kAdminUsage,
  kAdminReload
};

// Which of a server's ports: where administration has one of its own, the tenants' has nothing of
// it, and its own nothing but it and what takes no key. `kOnly`: there is one port for all.
enum class HttpDoor : uint8_t { kOnly, kTenants, kAdministrators };

// kNeverOnLoopback: /metrics speaks of all tenants, so no tenant's key opens it. Whoever is on this
// machine may scrape it; from elsewhere it is refused, unless HttpServerOptions::metrics_for_all.
enum class KeyNeed : uint8_t { kAlways, kNever, kNeverOnLoopback };

// In which form an endpoint tells what went wrong, also where it has not come to be asked.
enum class ErrorForm : uint8_t { kOpenAi, kAnthropic };

struct Route {
  HttpEndpoint endpoint;
  const char* method;  // GET means HEAD as well
  const char* path;    // "{id}" stands for what is there, slashes included
  KeyNeed key;
  bool needs_ready;  // else refused with 503 (TakesRequests)
  ErrorForm errors = ErrorForm::kOpenAi;
  bool is_upload = false;  // its body may have upload_bytes_max
};

struct RouteMatch {
  const Route* route = nullptr;  // nullptr: unknown path (404); else one of the path's
  bool method_allowed = false;   // false with a route: 405, or the answer to OPTIONS
  std::string param;             // what "{id}" stood for, percent-decoded
};

std::span<const Route> Routes();
// `path` is without query.
RouteMatch MatchRoute(HttpDoor door, std::string_view method, std::string_view path);
// Percent-decoded; the first of that name; empty where there is none. `query`: without its "?".
std::string QueryValue(std::string_view query, std::string_view name);
std::string AllowedMethods(const Route& route);  // of its path, for the Allow header

}  // namespace holdfast
