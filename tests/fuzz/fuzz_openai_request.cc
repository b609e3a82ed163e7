// Any bytes as a request body: decoded for each endpoint or refused with an error object that is
// itself JSON, never a crash. The first byte picks the endpoint.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "config/base/check.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/openai_codec.h"

namespace {

const holdfast::GenerationService::ModelInfo& Model() {
  static const holdfast::GenerationService::ModelInfo model = {.name = "tiny",
                                                               .aliases = {"small"},
                                                               .context_tokens = 8192,
                                                               .vocab_size = 1000,
                                                               .has_chat_template = true};
  return model;
}

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  const holdfast::OpenAiError error = holdfast::ToOpenAiError(status);
  CHECK(error.http_status == 400 || error.http_status == 404);
  CHECK(holdfast::ParseJson(holdfast::ErrorBody(error)).ok());
}

void CheckCall(const absl::StatusOr<holdfast::GenerationCall>& call) {
  CheckRefusal(call.status());
  if (!call.ok()) return;
  CHECK(static_cast<int32_t>(call->requests.size()) == call->shape.num_prompts);
  CHECK(call->shape.num_choices >= 1 && call->shape.num_choices <= holdfast::kChoicesMax);
  for (const holdfast::GenerationRequest& request : call->requests) {
    CHECK(request.sampling.temperature >= 0 && request.sampling.temperature <= 2);
    if (const auto* chat = std::get_if<holdfast::ChatInput>(&request.prompt); chat != nullptr) {
      CHECK(holdfast::ParseJson(chat->messages_json).ok());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      CheckCall(holdfast::DecodeChatCompletion(body, Model()));
      break;
    case 1:
      CheckCall(holdfast::DecodeCompletion(body, Model()));
      break;
    case 2:
      CheckRefusal(holdfast::DecodeTokenize(body, Model()).status());
      break;
    default:
      CheckRefusal(holdfast::DecodeDetokenize(body, Model()).status());
      break;
  }
  return 0;
}
