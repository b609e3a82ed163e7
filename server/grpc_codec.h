// Between the messages of proto/holdfast/v1 and what GenerationService takes and gives. Ranges and
// conversations are checked by the code that checks them for HTTP, so that both refuse alike.
//
// Thread: any; pure but for Decode's draw of a seed where the caller gave none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "holdfast/v1/generate.pb.h"
#include "server/generation.h"

namespace holdfast {

// kInvalidArgument or kNotFound (model), with the payloads of server/generation.h. The caller fills
// in tenant and arrival; wire_id is the request's own or a drawn one. `session`: of the metadata,
// for options that name none.
absl::StatusOr<GenerationRequest> Decode(const v1::ChatRequest& from,
                                         const GenerationService::ModelInfo& info,
                                         std::string_view session = {});
absl::StatusOr<GenerationRequest> Decode(const v1::CompleteRequest& from,
                                         const GenerationService::ModelInfo& info,
                                         std::string_view session = {});
absl::StatusOr<GenerationRequest> Decode(const v1::GenerateRequest& from,
                                         const GenerationService::ModelInfo& info,
                                         std::string_view session = {});

// One request an input, all under one wire_id.
absl::StatusOr<std::vector<GenerationRequest>> Decode(const v1::EmbedRequest& from,
                                                      const GenerationService::ModelInfo& info);

// What every answer says about itself.
struct GrpcAnswerHead {
  std::string id, model;
  int64_t created_unix = 0;
};

// Appends to a choice what has come of it: the same call builds a chunk's choice and a whole one.
void Append(ChoiceDelta delta, v1::ChatChoice& choice);
void Append(ChoiceDelta delta, v1::ChatChoiceDelta& choice);
void Append(ChoiceDelta delta, v1::CompleteChoice& choice);
void Append(ChoiceDelta delta, v1::GenerateChoice& choice);

// False: the answer says nothing of the prompt.
bool SetPrompt(PromptInfo prompt, bool echo, v1::CompleteResponse& answer);
bool SetPrompt(PromptInfo prompt, bool echo, v1::CompleteChunk& answer);
bool SetPrompt(PromptInfo prompt, bool echo, v1::GenerateResponse& answer);
bool SetPrompt(PromptInfo prompt, bool echo, v1::GenerateChunk& answer);
inline bool SetPrompt(const PromptInfo&, bool, v1::ChatResponse&) { return false; }
inline bool SetPrompt(const PromptInfo&, bool, v1::ChatChunk&) { return false; }

void SetUsage(const GenerationDone& done, v1::Usage& usage);
void SetModel(const GenerationService::ModelInfo& info, v1::Model& model);

template <typename Answer>
void SetHead(const GrpcAnswerHead& head, Answer& answer) {
  answer.set_id(head.id);
  answer.set_model(head.model);
  answer.set_created_unix(head.created_unix);
}

}  // namespace holdfast
