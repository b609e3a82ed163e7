// What a GGUF file's metadata and tensor names mean: the keys of the Llama and Qwen families to
// ModelConfig, tensors to ModelWeights, the tokenizer arrays to VocabularySource.
// Source: llama.cpp's key names and defaults (src/llama-arch.cpp, src/llama-model.cpp; facts only).

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/base/status_macros.h"
#include "engine/load_error.h"
#include "engine/model_digest.h"
#include "engine/model_family.h"
#include "engine/model_reader.h"
#include "engine/tensor_table.h"

namespace holdfast {
namespace {

constexpr TensorNames kGgufNames{.embedding = "token_embd",
                                 .final_norm = "output_norm",
                                 .head = "output",
                                 .layer_prefix = "blk.",
                                 .attention_norm = "attn_norm",
                                 .q = "attn_q",
                                 .k = "attn_k",
                                 .v = "attn_v",
                                 .o = "attn_output",
                                 .q_norm = "attn_q_norm",
                                 .k_norm = "attn_k_norm",
                                 .mlp_norm = "ffn_norm",
                                 .gate = "ffn_gate",
                                 .up = "ffn_up",
                                 .down = "ffn_down"};

constexpr absl::string_view kRopeFactorsTensor = "rope_freqs.weight";
constexpr int32_t kControlToken = 3;  // tokenizer.ggml.token_type

// Control tokens by which models end a turn, for files whose metadata names only one end token.
constexpr absl::string_view kEndOfTurnTokens[] = {"<|im_end|>", "<|endoftext|>",   "<|eot_id|>",
                                                  "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>"};

// Metadata of one architecture: look-ups that fail with the key's name. Integers are 32-bit counts.
class Keys final {
 public:
  Keys(const GgufFile& file, std::string architecture)
      : file_(file), prefix_(absl::StrCat(architecture, ".")) {}

  std::string Name(absl::string_view key) const { return absl::StrCat(prefix_, key); }

  absl::StatusOr<std::optional<int32_t>> FindCount(absl::string_view full_key) const {
    ASSIGN_OR_RETURN(const std::optional<int64_t> value, file_.Integer(full_key));
    if (!value) return std::nullopt;
    if (*value < 0 || *value > std::numeric_limits<int32_t>::max()) {
      return Malformed(file_.name(), "metadata ", Quoted(full_key), " is ", *value,
                       ", which is absurd");
    }
    return static_cast<int32_t>(*value);
  }
  absl::StatusOr<int32_t> CountOr(absl::string_view key, int32_t otherwise) const {
    ASSIGN_OR_RETURN(const std::optional<int32_t> value, FindCount(Name(key)));
    return value.value_or(otherwise);
  }
  absl::StatusOr<int32_t> Count(absl::string_view key) const {
    ASSIGN_OR_RETURN(const std::optional<int32_t> value, FindCount(Name(key)));
    if (!value) return Missing(key);
    return *value;
  }
  absl::StatusOr<float> NumberOr(absl::string_view key, float otherwise) const {
    ASSIGN_OR_RETURN(const std::optional<double> value, file_.Number(Name(key)));
    if (!value) return otherwise;
    if (!(std::abs(*value) <= std::numeric_limits<float>::max())) {
      return Malformed(file_.name(), "metadata ", Quoted(Name(key)), " is ", *value,
                       "; wanted a finite number");
    }
    return static_cast<float>(*value);
  }
  absl::Status Missing(absl::string_view key) const {
    return Malformed(file_.name(), "metadata ", Quoted(Name(key)), ": wanted, found none");
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

absl::Status ReadRopeScaling(const GgufFile& file, const Keys& keys, RopeConfig& rope) {
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> type,
                   file.Text(keys.Name("rope.scaling.type")));
  // Before rope.scaling.* there was scale_linear; a factor without a type is linear.
  ASSIGN_OR_RETURN(const float legacy_factor, keys.NumberOr("rope.scale_linear", 0.0f));
  ASSIGN_OR_RETURN(float factor, keys.NumberOr("rope.scaling.factor", legacy_factor));
  if (factor == 0.0f) factor = 1.0f;
  const absl::string_view scaling = type.value_or("linear");
  if (scaling == "none" || (scaling == "linear" && factor == 1.0f)) return absl::OkStatus();
  rope.factor = factor;
  if (scaling == "linear") {
    rope.scaling = RopeScaling::kLinear;
    return absl::OkStatus();
  }
  if (scaling != "yarn") {
    return Unsupported(file.name(), "metadata ", Quoted(keys.Name("rope.scaling.type")), " is ",
                       Quoted(scaling), "; wanted none, linear or yarn");
  }
  rope.scaling = RopeScaling::kYarn;
  ASSIGN_OR_RETURN(rope.original_context, keys.Count("rope.scaling.original_context_length"));
  ASSIGN_OR_RETURN(rope.beta_fast, keys.NumberOr("rope.scaling.yarn_beta_fast", 32.0f));
  ASSIGN_OR_RETURN(rope.beta_slow, keys.NumberOr("rope.scaling.yarn_beta_slow", 1.0f));
  ASSIGN_OR_RETURN(const float extrapolation, keys.NumberOr("rope.scaling.yarn_ext_factor", 1.0f));
  ASSIGN_OR_RETURN(const float log_multiplier,
                   keys.NumberOr("rope.scaling.yarn_log_multiplier", 0.0f));
  if (extrapolation != 1.0f || log_multiplier != 0.0f) {
    return Unsupported(file.name(), "metadata ", Quoted(keys.Name("rope.scaling.yarn_*")),
                       ": wanted ext_factor 1 and log_multiplier 0, found ", extrapolation, " and ",
                       log_multiplier);
  }
  // A factor in the file multiplies the usual one.
  ASSIGN_OR_RETURN(const float older, keys.NumberOr("rope.scaling.yarn_attn_factor", 1.0f));
  ASSIGN_OR_RETURN(const float multiplier, keys.NumberOr("rope.scaling.attn_factor", older));
  if (factor > 0.0f && multiplier != 1.0f) {
    rope.attention_factor = multiplier * (0.1f * std::log(factor) + 1.0f);
  }
  return absl::OkStatus();
}

// Numbers of llama.cpp's enum llama_pooling_type. A file of a model that was not trained to embed
// has none, or 0.
absl::StatusOr<std::optional<Pooling>> ReadPooling(const GgufFile& file, const Keys& keys) {
  constexpr int32_t kFileNone = 0, kFileMean = 1, kFileLast = 3;
  ASSIGN_OR_RETURN(const int32_t type, keys.CountOr("pooling_type", kFileNone));
  if (type == kFileMean) return Pooling::kMean;
  if (type == kFileLast) return Pooling::kLast;
  if (type == kFileNone) return std::nullopt;
  return Unsupported(file.name(), "metadata ", Quoted(keys.Name("pooling_type")),
                     ": wanted 1 (mean) or 3 (last token), found ", type);
}

absl::StatusOr<ModelConfig> ReadConfig(const GgufFile& file) {
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> architecture,
                   file.Text("general.architecture"));
  if (!architecture) {
    return Malformed(file.name(), "metadata \"general.architecture\": wanted, found none");
  }
  const ModelFamily* family = FindModelFamily(*architecture);
  if (family == nullptr || !family->in_gguf) {
    return Unsupported(file.name(), "metadata \"general.architecture\": wanted llama, qwen2 or ",
                       "qwen3, found ", Quoted(*architecture), "; serve a model of these families");
  }
  const Keys keys(file, std::string(*architecture));
  ModelConfig config;
  config.architecture = std::string(*architecture);
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> name, file.Text("general.name"));
  config.name = std::string(name.value_or(""));
  ASSIGN_OR_RETURN(const int32_t num_experts, keys.CountOr("expert_count", 0));
  if (num_experts > 0) {
    return Unsupported(file.name(), "metadata ", Quoted(keys.Name("expert_count")),
                       ": wanted none,", " found ", num_experts,
                       "; mixtures of experts are not supported yet");
  }
  ASSIGN_OR_RETURN(config.num_layers, keys.Count("block_count"));
  ASSIGN_OR_RETURN(config.context_tokens, keys.Count("context_length"));
  ASSIGN_OR_RETURN(config.hidden, keys.Count("embedding_length"));
  ASSIGN_OR_RETURN(config.intermediate, keys.Count("feed_forward_length"));
  ASSIGN_OR_RETURN(config.num_heads, keys.Count("attention.head_count"));
  ASSIGN_OR_RETURN(config.num_kv_heads, keys.CountOr("attention.head_count_kv", config.num_heads));
  if (config.num_heads == 0) return Malformed(file.name(), "attention.head_count is 0");
  ASSIGN_OR_RETURN(config.head_dim,
                   keys.CountOr("attention.key_length", config.hidden / config.num_heads));
  ASSIGN_OR_RETURN(const int32_t value_dim,
                   keys.CountOr("attention.value_length", config.head_dim));
  if (value_dim != config.head_dim) {
    return Unsupported(file.name(), "metadata ", Quoted(keys.Name("attention.value_length")),
                       ": wanted the key length ", config.head_dim, ", found ", value_dim);
  }
  if (!file.Has(keys.Name("attention.layer_norm_rms_epsilon"))) {
    return keys.Missing("attention.layer_norm_rms_epsilon");
  }
  ASSIGN_OR_RETURN(config.rms_norm_eps, keys.NumberOr("attention.layer_norm_rms_epsilon", 0.0f));
  ASSIGN_OR_RETURN(config.sliding_window, keys.CountOr("attention.sliding_window", 0));
  if (file.Has(keys.Name("attention.sliding_window_pattern"))) {
    return Unsupported(file.name(), "metadata ",
                       Quoted(keys.Name("attention.sliding_window_pattern")),
                       ": wanted none, found one; layers of mixed attention are not supported "
                       "from GGUF");
  }
  ASSIGN_OR_RETURN(const std::optional<bool> causal, file.Flag(keys.Name("attention.causal")));
  if (!causal.value_or(true)) {
    return Unsupported(file.name(), "metadata ", Quoted(keys.Name("attention.causal")),
                       " is false; models whose tokens attend to later ones are not supported");
  }
  ASSIGN_OR_RETURN(config.pooling, ReadPooling(file, keys));
  config.rope.pairing = family->gguf_pairing;
  ASSIGN_OR_RETURN(config.rope.theta, keys.NumberOr("rope.freq_base", 10000.0f));
  ASSIGN_OR_RETURN(config.rope.dim, keys.CountOr("rope.dimension_count", config.head_dim));
  RETURN_IF_ERROR(ReadRopeScaling(file, keys, config.rope));
  const auto has = [&](absl::string_view tensor) { return file.FindTensor(tensor) != nullptr; };
  config.qkv_bias = family->qkv_bias || has("blk.0.attn_q.bias");
  config.output_bias = has("blk.0.attn_output.bias");
  config.mlp_bias = has("blk.0.ffn_gate.bias");
  config.qk_norm = family->qk_norm;
  config.tied_head = !has("output.weight");
  return config;
}

absl::Status ReadRopeFactors(const GgufFile& file, TensorTable& table, RopeConfig& rope) {
  if (!table.Has(kRopeFactorsTensor)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const WeightTensor tensor, table.TakeVector(kRopeFactorsTensor, rope.dim / 2));
  if (tensor.type != TensorType::kF32) {
    return Unsupported(file.name(), "tensor ", Quoted(kRopeFactorsTensor), ": wanted F32, found ",
                       TraitsOf(tensor.type).name);
  }
  rope.freq_factors.resize(tensor.cols);
  std::memcpy(rope.freq_factors.data(), tensor.data, tensor.bytes());
  return absl::OkStatus();
}

absl::StatusOr<VocabularySource> ReadVocabulary(const GgufFile& file, const Keys& keys) {
  VocabularySource vocabulary;
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> model, file.Text("tokenizer.ggml.model"));
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> pre, file.Text("tokenizer.ggml.pre"));
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> chat_template,
                   file.Text("tokenizer.chat_template"));
  if (!model) {
    return Malformed(file.name(), "metadata \"tokenizer.ggml.model\": wanted, found none");
  }
  vocabulary.gguf_model = std::string(*model);
  vocabulary.gguf_pre = std::string(pre.value_or(""));
  vocabulary.chat_template = std::string(chat_template.value_or(""));
  ASSIGN_OR_RETURN(vocabulary.tokens, file.Strings("tokenizer.ggml.tokens"));
  ASSIGN_OR_RETURN(vocabulary.token_types, file.Integers("tokenizer.ggml.token_type"));
  ASSIGN_OR_RETURN(vocabulary.scores, file.Floats("tokenizer.ggml.scores"));
  ASSIGN_OR_RETURN(vocabulary.merges, file.Strings("tokenizer.ggml.merges"));
  const size_t num_tokens = vocabulary.tokens.size();
  if (!vocabulary.token_types.empty() && vocabulary.token_types.size() != num_tokens) {
    return Malformed(file.name(), "metadata \"tokenizer.ggml.token_type\": wanted ", num_tokens,
                     " entries, found ", vocabulary.token_types.size());
  }
  if (!vocabulary.scores.empty() && vocabulary.scores.size() != num_tokens) {
    return Malformed(file.name(), "metadata \"tokenizer.ggml.scores\": wanted ", num_tokens,
                     " entries, found ", vocabulary.scores.size());
  }
  // A SentencePiece vocabulary begins its texts with BOS unless the file says otherwise.
  ASSIGN_OR_RETURN(const std::optional<bool> add_bos, file.Flag("tokenizer.ggml.add_bos_token"));
  ASSIGN_OR_RETURN(const std::optional<bool> add_eos, file.Flag("tokenizer.ggml.add_eos_token"));
  ASSIGN_OR_RETURN(const std::optional<bool> add_space,
                   file.Flag("tokenizer.ggml.add_space_prefix"));
  vocabulary.add_bos = add_bos.value_or(vocabulary.gguf_model == "llama");
  vocabulary.add_eos = add_eos.value_or(false);
  vocabulary.add_space_prefix = add_space.value_or(vocabulary.gguf_model == "llama");
  const auto special = [&](absl::string_view key, std::optional<TokenId>& to) -> absl::Status {
    ASSIGN_OR_RETURN(to, keys.FindCount(key));
    if (to && static_cast<size_t>(*to) >= num_tokens) {
      return Malformed(file.name(), "metadata ", Quoted(key), ": wanted a token id below ",
                       num_tokens, ", found ", *to);
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(special("tokenizer.ggml.bos_token_id", vocabulary.bos));
  RETURN_IF_ERROR(special("tokenizer.ggml.eos_token_id", vocabulary.eos));
  RETURN_IF_ERROR(special("tokenizer.ggml.unknown_token_id", vocabulary.unknown));
  RETURN_IF_ERROR(special("tokenizer.ggml.padding_token_id", vocabulary.padding));
  return vocabulary;
}

// Every token that ends a turn: those that the metadata names, then known ones by their text.
absl::StatusOr<std::vector<TokenId>> ReadEndTokens(const Keys& keys,
                                                   const VocabularySource& vocabulary) {
  std::vector<TokenId> ends;
  const auto add = [&](TokenId token) {
    if (std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
  };
  for (const absl::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                      "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const std::optional<int32_t> token, keys.FindCount(key));
    if (token) add(*token);
  }
  for (size_t id = 0; id < vocabulary.token_types.size(); ++id) {
    if (vocabulary.token_types[id] != kControlToken) continue;
    for (const absl::string_view text : kEndOfTurnTokens) {
      if (vocabulary.tokens[id] == text) add(static_cast<TokenId>(id));
    }
  }
  return ends;
}

}  // namespace

absl::StatusOr<LoadedModel> ReadGgufModel(const GgufFile& file) {
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config, ReadConfig(file));
  const Keys keys(file, model.config.architecture);
  ASSIGN_OR_RETURN(model.vocabulary, ReadVocabulary(file, keys));
  TensorTable table(file.name());
  for (const GgufTensor& tensor : file.tensors()) {
    std::vector<int64_t> shape(tensor.dims.begin(), tensor.dims.begin() + tensor.num_dims);
    std::reverse(shape.begin(), shape.end());
    (void)table.Add(std::string(tensor.name), tensor.type, std::move(shape), tensor.data.data());
  }
  ASSIGN_OR_RETURN(model.config.vocab_size, table.RowsOf("token_embd.weight"));
  const size_t num_tokens = model.vocabulary.tokens.size();
  if (num_tokens != static_cast<size_t>(model.config.vocab_size)) {
    return Malformed(file.name(), "metadata \"tokenizer.ggml.tokens\": wanted ",
                     model.config.vocab_size, " entries, one a row of token_embd.weight, found ",
                     num_tokens);
  }
  ASSIGN_OR_RETURN(model.config.eos_tokens, ReadEndTokens(keys, model.vocabulary));
  model.config.bos_token = model.vocabulary.bos;
  RETURN_IF_ERROR(ReadRopeFactors(file, table, model.config.rope));
  RETURN_IF_ERROR(CheckModelConfig(file.name(), model.config));
  ASSIGN_OR_RETURN(model.weights, BindWeights(model.config, kGgufNames, table));
  return model;
}

}  // namespace holdfast
