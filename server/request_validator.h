// The ranges of a generation request, whatever wire it came by: HTTP and gRPC refuse the same
// values with the same words, each by its own name of the field (request.names). Types and unknown
// fields are the decoders' matter.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/generation.h"

namespace holdfast {

// kNotFound with code model_not_found unless `name` is the served model's name or an alias; empty
// names the served model.
absl::Status CheckModel(const std::string& name, const GenerationService::ModelInfo& info);

// kInvalidArgument naming the first parameter out of range. What needs the prompt's length in
// tokens is FitToContext's.
absl::Status CheckGenerationRequest(const GenerationRequest& request,
                                    const GenerationService::ModelInfo& info);

// The prompt's name in refusals.
std::string PromptParam(const GenerationRequest& request);

// Settles max_tokens of a request whose prompt has so many tokens, or kInvalidArgument: the context
// is too small for what is asked. Names what the caller gave; a default that does not fit is the
// prompt's fault.
absl::Status FitToContext(GenerationRequest& request, int64_t prompt_tokens, int64_t context);

// As CheckGenerationRequest for the tokens of one prompt, called `param`.
absl::Status CheckTokens(const std::vector<TokenId>& tokens, const std::string& param,
                         const GenerationService::ModelInfo& info);

}  // namespace holdfast
