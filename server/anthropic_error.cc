#include "server/anthropic_error.h"

#include "absl/strings/str_replace.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

const char* TypeOf(int http_status) {
  switch (http_status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return http_status >= 500 ? "api_error" : "invalid_request_error";
  }
}

std::string InAnthropicNames(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{".function.parameters", ".input_schema"},
                              {".function.name", ".name"},
                              {".function.description", ".description"},
                              {"response_format.json_schema.schema", "output_config.format.schema"},
                              {"response_format", "output_config.format"},
                              {"thinking_token_budget", "thinking.budget_tokens"}});
}

}  // namespace

std::string AnthropicErrorBody(const OpenAiError& error, absl::string_view request_id) {
  Json object = Json::object();
  object["type"] = TypeOf(error.http_status);
  object["message"] = InAnthropicNames(error.message);
  if (!error.code.empty()) object["details"]["error_code"] = error.code;
  if (!error.param.empty()) object["details"]["param"] = InAnthropicNames(error.param);
  Json body = Json::object();
  body["type"] = "error";
  body["error"] = std::move(object);
  body["request_id"] = std::string(request_id);
  return DumpJson(body);
}

}  // namespace holdfast
