// Any bytes as a request body: decoded for each endpoint or refused with an error object that is
// itself JSON, never a crash. The first byte picks the endpoint.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "config/base/check.h"
#include "config/limits.h"
#include "server/embedding_codec.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/openai_codec.h"

namespace {

const holdfast::GenerationService::ModelInfo& Model() {
  static const holdfast::GenerationService::ModelInfo model = {.name = "tiny",
                                                               .aliases = {"small"},
                                                               .context_tokens = 8192,
                                                               .vocab_size = 1000,
                                                               .has_chat_template = true,
                                                               .embedding_size = 2};
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

// Whatever is taken can be answered, with an answer that is JSON.
void CheckCall(absl::StatusOr<holdfast::EmbeddingCall> call) {
  CheckRefusal(call.status());
  if (!call.ok()) return;
  const size_t num_texts = call->requests.size();
  CHECK(num_texts > 0 && num_texts <= holdfast::kEmbeddingInputsMax);
  holdfast::EmbeddingBody body({.model = call->model}, std::move(call->shape), num_texts);
  for (size_t i = 0; i < num_texts; ++i) {
    CHECK(call->requests[i].embedding.has_value() && call->requests[i].max_tokens == 0);
    body.Add(static_cast<int32_t>(i),
             holdfast::PromptInfo{.embedding = {1.0f, static_cast<float>(i)}});
  }
  CHECK(holdfast::ParseOwnJson(body.Finish()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 0:
      CheckCall(holdfast::DecodeChatCompletion(body, Model()));
      break;
    case 1:
      CheckCall(holdfast::DecodeCompletion(body, Model()));
      break;
    case 2:
      CheckRefusal(holdfast::DecodeTokenize(body, Model()).status());
      break;
    case 4:
      CheckCall(holdfast::DecodeEmbeddings(body, Model()));
      break;
    case 5:
      CheckCall(holdfast::DecodeScore(body, Model()));
      break;
    case 6:
      CheckCall(holdfast::DecodeRerank(body, Model()));
      break;
    default:
      CheckRefusal(holdfast::DecodeDetokenize(body, Model()).status());
      break;
  }
  return 0;
}
