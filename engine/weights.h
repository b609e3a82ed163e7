// The tensors of a loaded model, as they lie in the mapped file(s). Raw: repacking for a device is
// the engine's. Two readers fill this: gguf_file.* and safetensors_file.* (model_loader.* picks).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/mapped_file.h"
#include "engine/model_config.h"
#include "kernels/dtype.h"

namespace holdfast {

// A row-major matrix [rows][cols] (a vector has rows = 1) in a mapped file; data may be unaligned.
struct WeightTensor {
  TensorType type = TensorType::kF32;
  int32_t rows = 0;
  int32_t cols = 0;
  const std::byte* data = nullptr;  // null: the model has no such tensor
  explicit operator bool() const { return data != nullptr; }
  size_t bytes() const { return RowBytes(type, cols) * static_cast<size_t>(rows); }
};

struct LayerWeights {
  WeightTensor attention_norm, q, k, v, o, q_bias, k_bias, v_bias, o_bias, q_norm, k_norm;
  WeightTensor mlp_norm, gate, up, down, gate_bias, up_bias, down_bias;
};

struct ModelWeights {
  WeightTensor embedding;  // [vocab][hidden]
  WeightTensor final_norm;
  WeightTensor head;  // [vocab][hidden]; the embedding's when tied
  std::vector<LayerWeights> layers;
};

// What the text room needs from the model's files, without the engine knowing text. Either the
// GGUF vocabulary arrays or the paths of the Hugging Face files are filled.
struct VocabularySource {
  // GGUF: tokenizer.ggml.*
  std::string gguf_model;  // "gpt2", "llama"; empty for a Hugging Face folder
  std::string gguf_pre;
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;
  std::vector<float> scores;
  std::vector<std::string> merges;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
  std::optional<TokenId> bos, eos, unknown, padding;
  std::string chat_template;  // empty: none
  // Hugging Face
  std::string tokenizer_json_path, tokenizer_config_path, chat_template_path;
};

struct LoadedModel {
  ModelConfig config;
  ModelWeights weights;
  VocabularySource vocabulary;
  std::array<uint8_t, 32> digest{};      // of all tensor data and configuration
  std::shared_ptr<const void> mapping;   // keeps the files mapped; shared by all tensor views
  std::vector<const MappedFile*> files;  // those of `mapping`
};

// Opens a GGUF file or a Hugging Face folder. Every offset, count and string is checked against
// the file's size; an error names file and field. A model that is not supported is refused with the
// reason. Maps, does not read weights (the digest of a GGUF file covers metadata, tensor directory
// and file size plus a sample of the data; stated in docs).
absl::StatusOr<LoadedModel> LoadModel(const std::string& path);

}  // namespace holdfast
