#include "server/batch_input.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/generation.h"
#include "server/http_status.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

absl::StatusOr<BatchLine> ReadLine(std::string_view text, std::string_view endpoint) {
  if (text.size() > kRequestBodyBytesMax) {
    return ParameterError(
        "", "line_too_long",
        Concat("a line may have ", kRequestBodyBytesMax, " bytes, this one has ", text.size()));
  }
  ASSIGN_OR_RETURN(const Json json, ParseJson(AbslView(text)));
  JsonFields fields(json, "");
  BatchLine line;
  if (auto id = fields.String("custom_id", kCustomIdBytesMax)) {
    line.custom_id = *std::move(id);
  } else {
    fields.Missing("custom_id");
  }
  const auto method = fields.String("method");
  if (!method.has_value()) {
    fields.Missing("method");
  } else if (*method != "POST") {
    fields.Fail("method", "invalid_method", "method must be POST");
  }
  const auto url = fields.String("url");
  if (!url.has_value()) {
    fields.Missing("url");
  } else if (*url != endpoint) {
    fields.Fail(
        "url", "invalid_url",
        Concat("url must be the batch's endpoint, ", endpoint, "; found ", url->substr(0, 128)));
  }
  if (const Json* body = fields.Object("body")) {
    line.body = DumpJson(*body);
  } else {
    fields.Missing("body");
  }
  RETURN_IF_ERROR(fields.Finish());
  return line;
}

BatchFault FaultOf(const absl::Status& status, int64_t line) {
  OpenAiError error = ToOpenAiError(status);
  return {.code = error.code.empty() ? "invalid_json_line" : std::move(error.code),
          .message = std::move(error.message),
          .param = std::move(error.param),
          .line = line};
}

}  // namespace

bool IsBatchEndpoint(std::string_view path) {
  return path == "/v1/chat/completions" || path == "/v1/completions" || path == "/v1/embeddings";
}

BatchInput ReadBatchInput(std::string_view content, std::string_view endpoint) {
  BatchInput input;
  absl::flat_hash_map<std::string, int64_t> line_of_id;
  int64_t number = 0;
  while (!content.empty() && input.faults.size() < kBatchFaultsMax) {
    ++number;
    const size_t end = std::min(content.find('\n'), content.size());
    const std::string_view text = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    if (static_cast<int64_t>(input.lines.size()) == kBatchLinesMax) {
      input.faults.push_back(
          {.code = "too_many_lines",
           .message = Concat("a batch takes at most ", kBatchLinesMax, " lines; make several")});
      break;
    }
    absl::StatusOr<BatchLine> line = ReadLine(text, endpoint);
    if (!line.ok()) {
      input.faults.push_back(FaultOf(line.status(), number));
      continue;
    }
    line->line = number;
    const auto [first, is_new] = line_of_id.try_emplace(line->custom_id, number);
    if (!is_new) {
      input.faults.push_back({.code = "duplicate_custom_id",
                              .message = Concat("custom_id is that of line ", first->second,
                                                ", too; each line needs one of its own"),
                              .param = "custom_id",
                              .line = number});
      continue;
    }
    input.lines.push_back(*std::move(line));
  }
  if (input.lines.empty() && input.faults.empty()) {
    input.faults.push_back({.code = "empty_file", .message = "the input file has no line"});
  }
  return input;
}

}  // namespace holdfast
