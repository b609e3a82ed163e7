#include "server/http_status.h"

#include <array>
#include <nlohmann/json.hpp>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "config/base/check.h"
#include "server/generation.h"

namespace holdfast {
namespace {

constexpr char kInvalidRequest[] = "invalid_request_error";
constexpr char kServerError[] = "server_error";

struct Row {
  absl::StatusCode status;
  int http_status;
  const char* type;
  const char* code;         // when the status carries none; empty: null
  int retry_after_seconds;  // when the status carries none; 0: no header
};

constexpr std::array kTable = {
    Row{absl::StatusCode::kInvalidArgument, 400, kInvalidRequest, "", 0},
    Row{absl::StatusCode::kOutOfRange, 400, kInvalidRequest, "", 0},
    Row{absl::StatusCode::kFailedPrecondition, 400, kInvalidRequest, "", 0},
    Row{absl::StatusCode::kUnauthenticated, 401, kInvalidRequest, "invalid_api_key", 0},
    Row{absl::StatusCode::kPermissionDenied, 403, "permission_error", "permission_denied", 0},
    Row{absl::StatusCode::kNotFound, 404, kInvalidRequest, "not_found", 0},
    Row{absl::StatusCode::kAlreadyExists, 409, kInvalidRequest, "already_exists", 0},
    Row{absl::StatusCode::kAborted, 409, kInvalidRequest, "aborted", 0},
    Row{absl::StatusCode::kResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded", 1},
    Row{absl::StatusCode::kCancelled, 499, kInvalidRequest, "cancelled", 0},
    Row{absl::StatusCode::kUnimplemented, 501, kServerError, "not_implemented", 0},
    Row{absl::StatusCode::kUnavailable, 503, kServerError, "service_unavailable", 1},
    Row{absl::StatusCode::kDeadlineExceeded, 504, kServerError, "timeout", 0},
    Row{absl::StatusCode::kInternal, 500, kServerError, "internal_error", 0},
};

const Row& RowOf(absl::StatusCode code) {
  for (const Row& row : kTable) {
    if (row.status == code) return row;
  }
  return kTable.back();  // kUnknown, kDataLoss: ours to answer for
}

std::string PayloadOr(const absl::Status& status, const char* url, absl::string_view otherwise) {
  const absl::optional<absl::Cord> payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string(otherwise);
}

}  // namespace

OpenAiError ToOpenAiError(const absl::Status& status) {
  CHECK(!status.ok());
  const Row& row = RowOf(status.code());
  OpenAiError error{.http_status = row.http_status,
                    .message = std::string(status.message()),
                    .type = row.type,
                    .param = PayloadOr(status, kErrorParamUrl, ""),
                    .code = PayloadOr(status, kErrorCodeUrl, row.code)};
  int seconds = 0;
  if (absl::SimpleAtoi(PayloadOr(status, kRetryAfterUrl, ""), &seconds) && seconds >= 0) {
    error.retry_after_seconds = seconds;
  } else if (row.retry_after_seconds > 0) {
    error.retry_after_seconds = row.retry_after_seconds;
  }
  return error;
}

OpenAiError HttpError(int http_status, absl::string_view code, absl::string_view message) {
  OpenAiError error{.http_status = http_status,
                    .message = std::string(message),
                    .type = http_status >= 500 ? kServerError : kInvalidRequest,
                    .code = std::string(code)};
  if (http_status == 503) error.retry_after_seconds = 1;
  return error;
}

std::string ErrorBody(const OpenAiError& error) {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json object = Json::object();
  object["message"] = error.message;
  object["type"] = error.type;
  object["param"] = or_null(error.param);
  object["code"] = or_null(error.code);
  Json body = Json::object();
  body["error"] = std::move(object);
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::string_view ReasonPhrase(int http_status) {
  switch (http_status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

absl::Status ParameterError(absl::string_view param, absl::string_view code,
                            absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  if (!param.empty()) status.SetPayload(kErrorParamUrl, absl::Cord(param));
  if (!code.empty()) status.SetPayload(kErrorCodeUrl, absl::Cord(code));
  return status;
}

}  // namespace holdfast
