#include "engine/model_config.h"

#include <cmath>

#include "config/base/status_macros.h"
#include "engine/load_error.h"
#include "engine/model_reader.h"

namespace holdfast {
namespace {

absl::Status CheckRange(const std::string& file, absl::string_view what, int64_t value, int64_t min,
                        int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return Malformed(file, what, ": wanted ", min, " to ", max, ", found ", value);
}

absl::Status CheckPositive(const std::string& file, absl::string_view what, double value,
                           double max) {
  if (std::isfinite(value) && value > 0.0 && value <= max) return absl::OkStatus();
  return Malformed(file, what, ": wanted a number above 0 and up to ", max, ", found ", value);
}

absl::Status CheckRope(const std::string& file, const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  RETURN_IF_ERROR(CheckPositive(file, "RoPE base (theta)", rope.theta, 1e15));
  RETURN_IF_ERROR(CheckRange(file, "rotated places of a head", rope.dim, 2, config.head_dim));
  if (rope.dim % 2 != 0) {
    return Malformed(file, "rotated places of a head: wanted an even number, found ", rope.dim);
  }
  RETURN_IF_ERROR(CheckPositive(file, "RoPE scaling factor", rope.factor, 1e6));
  if (rope.scaling == RopeScaling::kLlama3 || rope.scaling == RopeScaling::kYarn) {
    RETURN_IF_ERROR(CheckRange(file, "original context of the RoPE scaling", rope.original_context,
                               1, 1 << 24));
  }
  if (rope.scaling == RopeScaling::kLlama3) {
    RETURN_IF_ERROR(CheckPositive(file, "RoPE low_freq_factor", rope.low_freq_factor, 1e6));
    RETURN_IF_ERROR(CheckPositive(file, "RoPE high_freq_factor", rope.high_freq_factor, 1e6));
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      return Malformed(file, "RoPE high_freq_factor: wanted more than low_freq_factor (",
                       rope.low_freq_factor, "), found ", rope.high_freq_factor);
    }
  }
  if (rope.scaling == RopeScaling::kYarn) {
    RETURN_IF_ERROR(CheckPositive(file, "RoPE beta_fast", rope.beta_fast, 1e6));
    RETURN_IF_ERROR(CheckPositive(file, "RoPE beta_slow", rope.beta_slow, 1e6));
    if (rope.theta <= 1.0f) {
      return Malformed(file, "RoPE base (theta): YaRN wants more than 1, found ", rope.theta);
    }
    if (rope.attention_factor) {
      RETURN_IF_ERROR(CheckPositive(file, "RoPE attention_factor", *rope.attention_factor, 1e6));
    }
  }
  if (!rope.freq_factors.empty()) {
    if (rope.freq_factors.size() != static_cast<size_t>(rope.dim / 2)) {
      return Malformed(file, "RoPE frequency factors: wanted ", rope.dim / 2, ", found ",
                       rope.freq_factors.size());
    }
    for (const float factor : rope.freq_factors) {
      RETURN_IF_ERROR(CheckPositive(file, "RoPE frequency factor", factor, 1e9));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckModelConfig(const std::string& file, const ModelConfig& config) {
  RETURN_IF_ERROR(CheckRange(file, "vocabulary size", config.vocab_size, 1, 1 << 24));
  RETURN_IF_ERROR(CheckRange(file, "hidden size", config.hidden, 1, 1 << 17));
  RETURN_IF_ERROR(CheckRange(file, "intermediate size", config.intermediate, 1, 1 << 20));
  RETURN_IF_ERROR(CheckRange(file, "number of layers", config.num_layers, 1, 1024));
  RETURN_IF_ERROR(CheckRange(file, "number of attention heads", config.num_heads, 1, 1024));
  RETURN_IF_ERROR(CheckRange(file, "number of KV heads", config.num_kv_heads, 1, config.num_heads));
  if (config.num_heads % config.num_kv_heads != 0) {
    return Malformed(file, "number of attention heads: wanted a multiple of the ",
                     config.num_kv_heads, " KV heads, found ", config.num_heads);
  }
  RETURN_IF_ERROR(CheckRange(file, "head size", config.head_dim, 2, 1024));
  if (config.head_dim % 2 != 0) {
    return Malformed(file, "head size: wanted an even number, found ", config.head_dim);
  }
  RETURN_IF_ERROR(CheckRange(file, "context length", config.context_tokens, 1, 1 << 24));
  RETURN_IF_ERROR(CheckPositive(file, "RMS norm epsilon", config.rms_norm_eps, 1.0));
  RETURN_IF_ERROR(CheckRange(file, "sliding window", config.sliding_window, 0, 1 << 24));
  if (!config.layer_has_window.empty() &&
      config.layer_has_window.size() != static_cast<size_t>(config.num_layers)) {
    return Malformed(file, "attention types of the layers: wanted ", config.num_layers, ", found ",
                     config.layer_has_window.size());
  }
  for (const TokenId token : config.eos_tokens) {
    RETURN_IF_ERROR(CheckRange(file, "end-of-text token", token, 0, config.vocab_size - 1));
  }
  if (config.bos_token) {
    RETURN_IF_ERROR(
        CheckRange(file, "begin-of-text token", *config.bos_token, 0, config.vocab_size - 1));
  }
  return CheckRope(file, config);
}

}  // namespace holdfast
