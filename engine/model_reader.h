// The steps of LoadModel that are not seen outside: one reader per format, and the checks that both
// share. Control plane: may allocate and take its time.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gguf_file.h"
#include "engine/mapped_file.h"
#include "engine/weights.h"

namespace holdfast {

// gguf_model.cc. `file` is a view of bytes that outlive the result; `mapping` and `digest` of the
// result are the caller's to fill.
absl::StatusOr<LoadedModel> ReadGgufModel(const GgufFile& file);

// hf_model.cc. `folder` holds config.json and model.safetensors or model.safetensors.index.json.
absl::StatusOr<LoadedModel> ReadHuggingFaceModel(const std::string& folder);

// model_config.cc. Every number of `config` within bounds that the forward pass can rely on (and so
// that products of two of them fit in 63 bits): heads a multiple of KV heads, an even head_dim, a
// finite theta, token ids below the vocabulary size, and so on. `file` is for the message.
absl::Status CheckModelConfig(const std::string& file, const ModelConfig& config);

}  // namespace holdfast
