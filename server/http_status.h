// How our errors look to an HTTP client: one table from absl::Status to status code and OpenAI's
// error object, {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace holdfast {

struct OpenAiError {
  int http_status = 500;
  std::string message;
  std::string type;   // invalid_request_error, rate_limit_error, server_error
  std::string param;  // empty: null on the wire
  std::string code;   // likewise
  std::optional<int> retry_after_seconds;
};

// Code, parameter and Retry-After come from the payloads kErrorCodeUrl, kErrorParamUrl and
// kRetryAfterUrl where the status has them, else from the table. Not for an OK status (a bug).
OpenAiError ToOpenAiError(const absl::Status& status);

// What only HTTP can say: 405, 408, 413, 417, 431, ... `code` may be empty.
OpenAiError HttpError(int http_status, absl::string_view code, absl::string_view message);

std::string ErrorBody(const OpenAiError& error);  // the JSON text
absl::string_view ReasonPhrase(int http_status);

// kInvalidArgument naming the parameter that is at fault ("messages[3].role") and a code for
// machines ("invalid_type", "unknown_parameter", ...).
absl::Status ParameterError(absl::string_view param, absl::string_view code,
                            absl::string_view message);

}  // namespace holdfast
