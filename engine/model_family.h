// The one table of differences between the model families that are served. A row says what a
// family's files mean beyond what they state; everything else is read from the file. A family is
// added by a row, not by a copy of the forward pass.
//
// Llama covers SmolLM, SmolLM2, Yi and every other model that calls itself `llama`; a GGUF file of
// a Mistral model calls itself `llama` too.
//
// Sources: transformers' configuration_{llama,mistral,qwen2,qwen3}.py (defaults of absent keys) and
// llama.cpp's converter convert_hf_to_gguf.py (the row permutation of q and k for `llama`).
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "kernels/kernel_table.h"

namespace holdfast {

enum class WindowRule : uint8_t {
  kNone,         // the key sliding_window is not read
  kAlways,       // sliding_window counts unless null; absent means 4096
  kWhenEnabled,  // only with use_sliding_window, and from layer max_window_layers on
};

struct ModelFamily {
  absl::string_view name;      // general.architecture of GGUF, model_type of config.json
  absl::string_view hf_class;  // in `architectures` of config.json
  bool in_gguf;                // there are GGUF files that bear this name
  RopePairing gguf_pairing;    // Hugging Face weights are always kHalves
  bool qkv_bias;               // always there, without a key that says so
  bool biases_by_key;          // attention_bias is read: q, k, v and o have one
  bool mlp_bias_by_key;        // mlp_bias is read
  bool qk_norm;
  int32_t hf_head_dim;  // when config.json has none; 0: hidden / heads
  WindowRule hf_window;
};

inline constexpr ModelFamily kModelFamilies[] = {
    {"llama", "LlamaForCausalLM", true, RopePairing::kInterleaved, false, true, true, false, 0,
     WindowRule::kNone},
    {"mistral", "MistralForCausalLM", false, RopePairing::kInterleaved, false, false, false, false,
     0, WindowRule::kAlways},
    {"qwen2", "Qwen2ForCausalLM", true, RopePairing::kHalves, true, false, false, false, 0,
     WindowRule::kWhenEnabled},
    {"qwen3", "Qwen3ForCausalLM", true, RopePairing::kHalves, false, true, false, true, 128,
     WindowRule::kWhenEnabled},
};

inline constexpr absl::string_view kModelFamilyNames = "llama, mistral, qwen2 or qwen3";

inline const ModelFamily* FindModelFamily(absl::string_view name) {
  for (const ModelFamily& family : kModelFamilies) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

}  // namespace holdfast
