// Any bytes on Anthropic's wire: as a request body, decoded or refused with an error object that is
// itself JSON, never a crash; and as what a model wrote, which is JSON and events of one line each
// whatever it holds. The first byte picks which.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "config/base/check.h"
#include "server/anthropic_codec.h"
#include "server/anthropic_error.h"
#include "server/anthropic_response.h"
#include "server/http_status.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

const GenerationService::ModelInfo& Model(bool shows_tools) {
  static const GenerationService::ModelInfo with = {.name = "tiny",
                                                    .context_tokens = 8192,
                                                    .vocab_size = 1000,
                                                    .has_chat_template = true,
                                                    .tool_calls = ToolCallFormat::kHermes};
  static const GenerationService::ModelInfo without = {
      .name = "tiny", .context_tokens = 8192, .vocab_size = 1000, .has_chat_template = true};
  return shows_tools ? with : without;
}

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  const OpenAiError error = ToOpenAiError(status);
  CHECK(error.http_status == 400 || error.http_status == 404);
  CHECK(Json::accept(AnthropicErrorBody(error, "req_1")));
}

void CheckChat(const ChatInput& chat) {
  const absl::StatusOr<Json> messages = ParseJson(chat.messages_json);
  CHECK(messages.ok() && !messages->empty());
}

void Decode(std::string_view body, bool shows_tools) {
  const absl::StatusOr<MessagesCall> call = DecodeMessages(body, Model(shows_tools));
  const absl::StatusOr<ChatInput> counted = DecodeCountTokens(body, Model(shows_tools));
  CheckRefusal(call.status());
  CheckRefusal(counted.status());
  if (counted.ok()) CheckChat(*counted);
  if (!call.ok()) return;
  CHECK(call->max_tokens >= 1);
  CHECK(call->request.sampling.temperature >= 0 && call->request.sampling.temperature <= 2);
  CHECK(call->cache_life.has_value() == call->request.retain.has_value());
  const ChatInput& chat = std::get<ChatInput>(call->request.prompt);
  CheckChat(chat);
  // What can be answered can be counted, and as it is answered.
  CHECK(counted.ok() && counted->messages_json == chat.messages_json);
}

void Write(std::string_view text) {
  const std::string first(text.substr(0, text.size() / 2));
  const std::string rest(text.substr(first.size()));
  const auto events = [&](const auto& take) {
    take(PromptInfo{.prompt_tokens = 1});
    take(ChoiceDelta{.reasoning = rest, .text = first});
    take(ChoiceDelta{.tool_calls = {{.index = 0, .id = rest, .name = "f", .arguments = first}}});
    take(ChoiceDelta{.tool_calls = {{.index = 0, .arguments = rest}},
                     .finish = FinishReason::kStop,
                     .stop_string = rest});
    take(GenerationDone{.prompt_tokens = 1, .completion_tokens = 1});
  };
  const MessageHead head = {
      .id = first, .model = rest, .request_id = first, .max_tokens = 1, .shows_thinking = true};

  MessageBody body(head);
  events([&](GenerationEvent event) { body.Add(0, std::move(event)); });
  CHECK(Json::accept(body.Finish()));

  MessageStream stream(head);
  std::string sse;
  events([&](GenerationEvent event) { stream.Append(0, std::move(event), sse); });
  stream.AppendEnd(sse);
  stream.AppendError(HttpError(500, first, rest), sse);
  std::string_view left = sse;
  while (!left.empty()) {
    CHECK(left.starts_with("event: "));
    const size_t data = left.find("\ndata: ");
    const size_t end = left.find("\n\n");
    CHECK(data < end && end != left.npos);
    const std::string_view payload = left.substr(data + 7, end - data - 7);
    CHECK(payload.find_first_of("\r\n") == payload.npos);
    CHECK(Json::accept(payload));
    left.remove_prefix(end + 2);
  }
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 3 == 2) {
    holdfast::Write(bytes);
  } else {
    holdfast::Decode(bytes, data[0] % 3 == 1);
  }
  return 0;
}
