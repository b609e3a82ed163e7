// Any bytes on the Responses wire: as a request body, decoded or refused with an error object,
// never a crash; what is taken is items that are taken again, and messages for the template. And as
// what a model wrote, which is a response and events of one line each whatever it holds. The first
// byte picks which.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "config/base/check.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/responses_answer.h"
#include "server/responses_codec.h"
#include "server/responses_items.h"

namespace holdfast {
namespace {

const GenerationService::ModelInfo& Model() {
  static const GenerationService::ModelInfo model = {.name = "tiny",
                                                     .context_tokens = 8192,
                                                     .vocab_size = 1000,
                                                     .has_chat_template = true,
                                                     .tool_calls = ToolCallFormat::kHermes};
  return model;
}

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  const OpenAiError error = ToOpenAiError(status);
  CHECK(error.http_status == 400 || error.http_status == 404);
  CHECK(Json::accept(ErrorBody(error)));
}

void Decode(std::string_view body) {
  const absl::StatusOr<ResponsesCall> call = DecodeResponses(body, Model());
  CheckRefusal(call.status());
  if (!call.ok()) return;
  CHECK(!call->input.empty());
  CHECK(ReadInputItems(call->input).ok());
  const absl::StatusOr<GenerationCall> alone = ChatCallOf(*call, Json::array(), Model(), {});
  const absl::StatusOr<GenerationCall> behind = ChatCallOf(*call, call->input, Model(), {});
  CheckRefusal(alone.status());
  CheckRefusal(behind.status());
  const ResponseHead head{.id = "resp_1", .model = "tiny", .echo = call->echo};
  CHECK(Json::accept(DumpJson(ResponseJson(head, ResponseStatus::kQueued, Json::array()))));
}

void Write(std::string_view text) {
  ResponseStream stream({.id = "resp_1", .model = "tiny"});
  std::string sse;
  const size_t third = text.size() / 3;
  stream.Append(0, ChoiceDelta{.reasoning = std::string(text.substr(0, third))}, sse);
  stream.Append(0, ChoiceDelta{.text = std::string(text.substr(third, third))}, sse);
  ChoiceDelta call;
  call.tool_calls.push_back(
      {.id = "c1", .name = "f", .arguments = std::string(text.substr(third))});
  stream.Append(0, std::move(call), sse);
  stream.Append(0, ChoiceDelta{.finish = FinishReason::kStop}, sse);
  stream.AppendEnd(sse);
  std::string_view left = sse;
  while (!left.empty()) {
    const size_t end = left.find("\n\n");
    CHECK(end != left.npos);
    const std::string_view event = left.substr(0, end);
    const size_t data = event.find("\ndata: ");
    CHECK(data != event.npos && Json::accept(event.substr(data + 7)));
    left.remove_prefix(end + 2);
  }
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'w') {
    holdfast::Write(input);
  } else {
    holdfast::Decode(input);
  }
  return 0;
}
