// What config.json and generation_config.json of a Hugging Face folder mean, as transformers reads
// them: keys of both its older (rope_scaling, rope_theta) and newer (rope_parameters) shape.
// Whatever would change the arithmetic and is not known here is refused, never skipped.
#pragma once

#include "absl/status/statusor.h"
#include "engine/json_document.h"
#include "engine/model_config.h"

namespace holdfast {

// `generation` may be null: there is no such file.
absl::StatusOr<ModelConfig> ReadHuggingFaceConfig(const JsonDocument& config,
                                                  const JsonDocument* generation);

}  // namespace holdfast
