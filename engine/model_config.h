// What distinguishes one model from another, read from a file's metadata: the one table of
// differences that the forward pass (transformer.cc) follows. No copies of a model file per family.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/ids.h"
#include "engine/pooling.h"
#include "kernels/kernel_table.h"

namespace holdfast {

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  float theta = 10000.0f;
  int32_t dim = 0;  // rotated places of head_dim
  RopePairing pairing = RopePairing::kHalves;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;
  int32_t original_context = 0;                           // llama3, yarn
  float low_freq_factor = 1.0f, high_freq_factor = 4.0f;  // llama3
  float beta_fast = 32.0f, beta_slow = 1.0f;              // yarn
  std::optional<float> attention_factor;                  // yarn; default from factor
  std::vector<float> freq_factors;                        // GGUF rope_freqs.weight, divides freqs
};

struct ModelConfig {
  std::string architecture;  // llama, mistral, qwen2, qwen3
  std::string name;          // from metadata, for people
  int32_t vocab_size = 0;
  int32_t hidden = 0;
  int32_t intermediate = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t context_tokens = 0;
  float rms_norm_eps = 1e-5f;
  RopeConfig rope;
  int32_t sliding_window = 0;          // 0: none
  std::vector<bool> layer_has_window;  // empty: all layers if sliding_window > 0
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  bool tied_head = false;
  std::vector<TokenId> eos_tokens;
  std::optional<TokenId> bos_token;
  std::optional<Pooling> pooling;  // that its embeddings were trained with; none: none were
};

}  // namespace holdfast
