// The ranges of a generation request, whatever wire it came by: HTTP and gRPC refuse the same
// values with the same words. Types and unknown fields are the decoders' matter.
//
// Thread: any; pure.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/generation.h"

namespace holdfast {

// kNotFound with code model_not_found unless `name` is the served model's name or an alias; empty
// names the served model.
absl::Status CheckModel(const std::string& name, const GenerationService::ModelInfo& info);

// kInvalidArgument naming the first parameter out of range. What needs the prompt's length in
// tokens (the context) is checked behind GenerationService::Start.
absl::Status CheckGenerationRequest(const GenerationRequest& request,
                                    const GenerationService::ModelInfo& info);

// As above for the tokens of one prompt, called `param`.
absl::Status CheckTokens(const std::vector<TokenId>& tokens, const std::string& param,
                         const GenerationService::ModelInfo& info);

}  // namespace holdfast
