#include "engine/hf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/base/status_macros.h"
#include "engine/load_error.h"
#include "engine/model_family.h"

namespace holdfast {
namespace {

constexpr int32_t kMistralWindow = 4096;      // MistralConfig's default
constexpr int32_t kQwenMaxWindowLayers = 28;  // Qwen2Config's and Qwen3Config's default

absl::StatusOr<int32_t> WantedCount(const JsonDocument& json, absl::string_view key) {
  ASSIGN_OR_RETURN(const std::optional<int32_t> value, json.Count(key));
  if (!value) return Malformed(json.name(), Quoted(key), ": wanted an integer, found none");
  return *value;
}

absl::StatusOr<float> WantedNumber(const JsonDocument& json, absl::string_view key) {
  ASSIGN_OR_RETURN(const std::optional<float> value, json.Number(key));
  if (!value) return Malformed(json.name(), Quoted(key), ": wanted a number, found none");
  return *value;
}

absl::StatusOr<const ModelFamily*> ReadFamily(const JsonDocument& json) {
  ASSIGN_OR_RETURN(const std::optional<std::string> model_type, json.Text("model_type"));
  const ModelFamily* family = model_type ? FindModelFamily(*model_type) : nullptr;
  if (family == nullptr) {
    return Unsupported(json.name(), "\"model_type\": wanted ", kModelFamilyNames, ", found ",
                       model_type ? Quoted(*model_type) : "none",
                       "; serve a model of these families");
  }
  if (const nlohmann::json* classes = json.Find("architectures")) {
    const bool known = classes->is_array() && classes->size() == 1 && (*classes)[0].is_string() &&
                       (*classes)[0].get_ref<const std::string&>() == family->hf_class;
    if (!known) {
      return Unsupported(json.name(), "\"architectures\": wanted [\"", family->hf_class,
                         "\"], found another; only models that continue text are served");
    }
  }
  return family;
}

// Keys that would change the arithmetic, with the only values that this engine computes.
absl::Status RefuseUnknownArithmetic(const JsonDocument& json) {
  if (json.Has("quantization_config")) {
    return Unsupported(json.name(),
                       "\"quantization_config\": wanted none, found one; serve the "
                       "model's unquantised weights or a GGUF file");
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> activation, json.Text("hidden_act"));
  const std::string activation_name = activation.value_or("silu");
  if (activation_name != "silu") {
    return Unsupported(json.name(), "\"hidden_act\": wanted \"silu\", found ",
                       Quoted(activation_name));
  }
  ASSIGN_OR_RETURN(const std::optional<float> rotated, json.Number("partial_rotary_factor"));
  if (rotated && *rotated != 1.0f) {
    return Unsupported(json.name(), "\"partial_rotary_factor\": wanted 1, found ", *rotated);
  }
  for (const absl::string_view key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    ASSIGN_OR_RETURN(const std::optional<int32_t> experts, json.Count(key));
    if (experts.value_or(0) > 0) {
      return Unsupported(json.name(), Quoted(key), ": wanted none, found ", *experts,
                         "; mixtures of experts are not supported yet");
    }
  }
  return absl::OkStatus();
}

// attention_factor: stated, or from mscale and mscale_all_dim; else left to the default of factor.
absl::Status ReadYarn(const JsonDocument& scaling, int32_t context_tokens, RopeConfig& rope) {
  rope.scaling = RopeScaling::kYarn;
  ASSIGN_OR_RETURN(const std::optional<int32_t> original,
                   scaling.Count("original_max_position_embeddings"));
  rope.original_context = original.value_or(context_tokens);
  ASSIGN_OR_RETURN(const std::optional<float> beta_fast, scaling.Number("beta_fast"));
  ASSIGN_OR_RETURN(const std::optional<float> beta_slow, scaling.Number("beta_slow"));
  ASSIGN_OR_RETURN(const std::optional<bool> truncate, scaling.Flag("truncate"));
  ASSIGN_OR_RETURN(const std::optional<float> mscale, scaling.Number("mscale"));
  ASSIGN_OR_RETURN(const std::optional<float> mscale_all, scaling.Number("mscale_all_dim"));
  ASSIGN_OR_RETURN(rope.attention_factor, scaling.Number("attention_factor"));
  rope.beta_fast = beta_fast.value_or(32.0f);
  rope.beta_slow = beta_slow.value_or(1.0f);
  if (!truncate.value_or(true)) {
    return Unsupported(scaling.name(), "\"truncate\": wanted true, found false");
  }
  const bool both = mscale.value_or(0.0f) != 0.0f && mscale_all.value_or(0.0f) != 0.0f;
  if (!rope.attention_factor && both) {
    const auto scale = [&](float m) {
      return rope.factor <= 1.0f ? 1.0f : 0.1f * m * std::log(rope.factor) + 1.0f;
    };
    rope.attention_factor = scale(*mscale) / scale(*mscale_all);
  }
  return absl::OkStatus();
}

absl::Status ReadRopeScaling(const JsonDocument& scaling, int32_t context_tokens,
                             RopeConfig& rope) {
  ASSIGN_OR_RETURN(const std::optional<std::string> newer, scaling.Text("rope_type"));
  ASSIGN_OR_RETURN(const std::optional<std::string> older, scaling.Text("type"));
  if (newer && older && *newer != *older) {
    return Malformed(scaling.name(), "\"rope_type\" says ", Quoted(*newer), " and \"type\" says ",
                     Quoted(*older), "; wanted one meaning");
  }
  const std::string type = newer ? *newer : older.value_or("default");
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3" && type != "yarn") {
    return Unsupported(scaling.name(), "\"rope_type\": wanted default, linear, llama3 or yarn, ",
                       "found ", Quoted(type),
                       "; remove the scaling if the shorter context is enough");
  }
  ASSIGN_OR_RETURN(rope.factor, WantedNumber(scaling, "factor"));
  if (type == "yarn") return ReadYarn(scaling, context_tokens, rope);
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
    return absl::OkStatus();
  }
  rope.scaling = RopeScaling::kLlama3;
  ASSIGN_OR_RETURN(rope.low_freq_factor, WantedNumber(scaling, "low_freq_factor"));
  ASSIGN_OR_RETURN(rope.high_freq_factor, WantedNumber(scaling, "high_freq_factor"));
  ASSIGN_OR_RETURN(rope.original_context, WantedCount(scaling, "original_max_position_embeddings"));
  return absl::OkStatus();
}

absl::Status ReadRope(const JsonDocument& json, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.pairing = RopePairing::kHalves;
  rope.dim = config.head_dim;
  ASSIGN_OR_RETURN(const std::optional<float> theta, json.Number("rope_theta"));
  rope.theta = theta.value_or(10000.0f);
  for (const absl::string_view key : {"rope_scaling", "rope_parameters"}) {
    ASSIGN_OR_RETURN(const std::optional<JsonDocument> scaling, json.Object(key));
    if (!scaling) continue;
    ASSIGN_OR_RETURN(const std::optional<float> inner_theta, scaling->Number("rope_theta"));
    if (inner_theta) rope.theta = *inner_theta;
    return ReadRopeScaling(*scaling, config.context_tokens, rope);
  }
  return absl::OkStatus();
}

absl::Status ReadLayerTypes(const JsonDocument& json, const nlohmann::json& types,
                            ModelConfig& config) {
  if (!types.is_array() || types.size() != static_cast<size_t>(config.num_layers)) {
    return Malformed(json.name(), "\"layer_types\": wanted an array of ", config.num_layers,
                     " strings");
  }
  for (const nlohmann::json& type : types) {
    const bool sliding = type == "sliding_attention";
    if (!sliding && type != "full_attention") {
      return Unsupported(json.name(),
                         "\"layer_types\": wanted full_attention or "
                         "sliding_attention, found another");
    }
    config.layer_has_window.push_back(sliding);
  }
  return absl::OkStatus();
}

absl::Status ReadWindow(const JsonDocument& json, const ModelFamily& family, ModelConfig& config) {
  if (family.hf_window == WindowRule::kNone) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::optional<int32_t> window, json.Count("sliding_window"));
  if (family.hf_window == WindowRule::kAlways) {
    const bool stated = json.top().contains("sliding_window");  // null: none
    config.sliding_window = stated ? window.value_or(0) : kMistralWindow;
  } else {
    ASSIGN_OR_RETURN(const std::optional<bool> enabled, json.Flag("use_sliding_window"));
    if (!enabled.value_or(false)) return absl::OkStatus();
    config.sliding_window = window.value_or(0);
  }
  if (config.sliding_window == 0) return absl::OkStatus();
  if (const nlohmann::json* types = json.Find("layer_types")) {
    return ReadLayerTypes(json, *types, config);
  }
  if (family.hf_window == WindowRule::kWhenEnabled) {
    ASSIGN_OR_RETURN(const std::optional<int32_t> full, json.Count("max_window_layers"));
    for (int32_t i = 0; i < config.num_layers; ++i) {
      config.layer_has_window.push_back(i >= full.value_or(kQwenMaxWindowLayers));
    }
  }
  return absl::OkStatus();
}

// An id, or a list of them; absent and null are none.
absl::Status AddTokens(const JsonDocument& json, absl::string_view key,
                       std::vector<TokenId>& tokens) {
  const nlohmann::json* value = json.Find(key);
  if (value == nullptr) return absl::OkStatus();
  const auto add = [&](const nlohmann::json& id) -> absl::Status {
    if (!id.is_number_unsigned() ||
        id.get<uint64_t>() > uint64_t{std::numeric_limits<int32_t>::max()}) {
      return Malformed(json.name(), Quoted(key), ": wanted a token id or a list of them");
    }
    const TokenId token = static_cast<TokenId>(id.get<uint64_t>());
    if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
    return absl::OkStatus();
  };
  if (!value->is_array()) return add(*value);
  constexpr size_t kEndTokensMax = 64;
  if (value->size() > kEndTokensMax) {
    return Malformed(json.name(), Quoted(key), ": wanted at most ", kEndTokensMax, " token ids");
  }
  for (const nlohmann::json& id : *value) RETURN_IF_ERROR(add(id));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadHuggingFaceConfig(const JsonDocument& json,
                                                  const JsonDocument* generation) {
  ASSIGN_OR_RETURN(const ModelFamily* family, ReadFamily(json));
  RETURN_IF_ERROR(RefuseUnknownArithmetic(json));
  ModelConfig config;
  config.architecture = std::string(family->name);
  ASSIGN_OR_RETURN(const std::optional<std::string> name, json.Text("_name_or_path"));
  config.name = name.value_or("");
  ASSIGN_OR_RETURN(config.vocab_size, WantedCount(json, "vocab_size"));
  ASSIGN_OR_RETURN(config.hidden, WantedCount(json, "hidden_size"));
  ASSIGN_OR_RETURN(config.intermediate, WantedCount(json, "intermediate_size"));
  ASSIGN_OR_RETURN(config.num_layers, WantedCount(json, "num_hidden_layers"));
  ASSIGN_OR_RETURN(config.num_heads, WantedCount(json, "num_attention_heads"));
  ASSIGN_OR_RETURN(config.context_tokens, WantedCount(json, "max_position_embeddings"));
  if (config.num_heads == 0) return Malformed(json.name(), "\"num_attention_heads\" is 0");
  constexpr int32_t kLayersMax = 1024;  // before the lists of layers are built
  if (config.num_layers > kLayersMax) {
    return Malformed(json.name(), "\"num_hidden_layers\": wanted at most ", kLayersMax, ", found ",
                     config.num_layers);
  }
  ASSIGN_OR_RETURN(const std::optional<int32_t> kv_heads, json.Count("num_key_value_heads"));
  config.num_kv_heads = kv_heads.value_or(config.num_heads);
  ASSIGN_OR_RETURN(const std::optional<int32_t> head_dim, json.Count("head_dim"));
  config.head_dim = head_dim                  ? *head_dim
                    : family->hf_head_dim > 0 ? family->hf_head_dim
                                              : config.hidden / config.num_heads;
  ASSIGN_OR_RETURN(const std::optional<float> eps, json.Number("rms_norm_eps"));
  config.rms_norm_eps = eps.value_or(1e-6f);
  RETURN_IF_ERROR(ReadRope(json, config));
  RETURN_IF_ERROR(ReadWindow(json, *family, config));
  ASSIGN_OR_RETURN(const std::optional<bool> attention_bias, json.Flag("attention_bias"));
  ASSIGN_OR_RETURN(const std::optional<bool> mlp_bias, json.Flag("mlp_bias"));
  ASSIGN_OR_RETURN(const std::optional<bool> tied, json.Flag("tie_word_embeddings"));
  const bool biased = family->biases_by_key && attention_bias.value_or(false);
  config.qkv_bias = family->qkv_bias || biased;
  config.output_bias = biased;
  config.mlp_bias = family->mlp_bias_by_key && mlp_bias.value_or(false);
  config.qk_norm = family->qk_norm;
  config.tied_head = tied.value_or(false);
  ASSIGN_OR_RETURN(const std::optional<int32_t> bos, json.Count("bos_token_id"));
  config.bos_token = bos;
  if (generation != nullptr) {
    RETURN_IF_ERROR(AddTokens(*generation, "eos_token_id", config.eos_tokens));
  }
  RETURN_IF_ERROR(AddTokens(json, "eos_token_id", config.eos_tokens));
  return config;
}

}  // namespace holdfast
