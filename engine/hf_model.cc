// Reads a Hugging Face folder: config.json, generation_config.json, and the weights as one
// model.safetensors or as shards that model.safetensors.index.json names.

#include <sys/stat.h>

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "config/base/status_macros.h"
#include "engine/hf_config.h"
#include "engine/json_document.h"
#include "engine/load_error.h"
#include "engine/model_digest.h"
#include "engine/model_reader.h"
#include "engine/safetensors_file.h"
#include "engine/tensor_table.h"

namespace holdfast {
namespace {

constexpr TensorNames kHuggingFaceNames{.embedding = "model.embed_tokens",
                                        .final_norm = "model.norm",
                                        .head = "lm_head",
                                        .layer_prefix = "model.layers.",
                                        .attention_norm = "input_layernorm",
                                        .q = "self_attn.q_proj",
                                        .k = "self_attn.k_proj",
                                        .v = "self_attn.v_proj",
                                        .o = "self_attn.o_proj",
                                        .q_norm = "self_attn.q_norm",
                                        .k_norm = "self_attn.k_norm",
                                        .mlp_norm = "post_attention_layernorm",
                                        .gate = "mlp.gate_proj",
                                        .up = "mlp.up_proj",
                                        .down = "mlp.down_proj"};

constexpr size_t kJsonFileBytesMax = 32 << 20;  // an index of 100,000 tensors takes 10 MB
constexpr size_t kShardsMax = 1024;

using Mappings = std::vector<std::unique_ptr<MappedFile>>;

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

std::string PathIfExists(const std::string& folder, absl::string_view name) {
  std::string path = absl::StrCat(folder, "/", name);
  return FileExists(path) ? path : std::string();
}

absl::StatusOr<JsonDocument> ReadJsonFile(const std::string& path, ModelDigest* digest) {
  ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() > kJsonFileBytesMax) {
    return Malformed(path, "wanted at most ", kJsonFileBytesMax, " bytes, found ", bytes.size());
  }
  if (digest != nullptr) digest->AddBytes("json", bytes);
  return JsonDocument::Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

// Which tensors are wanted from which file of the folder; an empty list means all.
using Shards = std::map<std::string, std::vector<std::string>>;

absl::StatusOr<Shards> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const JsonDocument json, ReadJsonFile(path, nullptr));
  ASSIGN_OR_RETURN(const std::optional<JsonDocument> weight_map, json.Object("weight_map"));
  if (!weight_map) return Malformed(path, "\"weight_map\": wanted an object, found none");
  Shards shards;
  for (const auto& item : weight_map->top().items()) {
    // A name, not a path: the index must not lead out of the folder.
    if (!item.value().is_string() ||
        !absl::EndsWith(item.value().get_ref<const std::string&>(), ".safetensors") ||
        absl::StrContains(item.value().get_ref<const std::string&>(), '/')) {
      return Malformed(path, "\"weight_map\" ", Quoted(item.key()),
                       ": wanted the name of a .safetensors file in the folder");
    }
    shards[item.value().get_ref<const std::string&>()].push_back(item.key());
    if (shards.size() > kShardsMax) {
      return Malformed(path, "\"weight_map\": wanted at most ", kShardsMax, " files, found more");
    }
  }
  if (shards.empty()) return Malformed(path, "\"weight_map\": wanted tensors, found none");
  return shards;
}

absl::Status AddShard(const std::string& path, const std::vector<std::string>& wanted,
                      TensorTable& table, ModelDigest& digest, Mappings& mappings) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Parse(mapped->bytes(), path));
  digest.AddNumber("safetensors bytes", mapped->bytes().size());
  digest.AddBytes("safetensors head", file.head);
  for (const SafetensorsTensor& tensor : file.tensors) {
    digest.AddSamples("tensor", tensor.data);
    if (!table.Add(tensor.name, tensor.type, tensor.shape, tensor.data.data())) {
      return Malformed(path, "tensor ", Quoted(tensor.name), " lies in another shard too");
    }
    // Rotary frequencies that older files keep follow from the configuration.
    if (absl::EndsWith(tensor.name, ".rotary_emb.inv_freq")) table.Ignore(tensor.name);
  }
  for (const std::string& name : wanted) {
    if (!table.Has(name)) {
      return Malformed(path, "tensor ", Quoted(name),
                       ": wanted by the index, found none; fetch the file again");
    }
  }
  mappings.push_back(std::move(mapped));
  return absl::OkStatus();
}

absl::StatusOr<Shards> FindShards(const std::string& folder) {
  const std::string index = PathIfExists(folder, "model.safetensors.index.json");
  if (!index.empty()) return ReadIndex(index);
  if (!PathIfExists(folder, "model.safetensors").empty()) {
    return Shards{{"model.safetensors", {}}};
  }
  return absl::NotFoundError(absl::StrCat(
      folder,
      ": wanted model.safetensors or model.safetensors.index.json, found neither; weights "
      "in other formats (.bin, .pt) must be converted"));
}

// What sentence-transformers has written beside a model that was trained to embed.
absl::StatusOr<std::optional<Pooling>> ReadPooling(const std::string& folder) {
  const std::string path = PathIfExists(folder, "1_Pooling/config.json");
  if (path.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(const JsonDocument json, ReadJsonFile(path, nullptr));
  std::vector<std::string> modes;
  for (const auto& item : json.top().items()) {
    if (absl::StartsWith(item.key(), "pooling_mode_") && item.value() == true) {
      modes.push_back(item.key());
    }
  }
  if (modes == std::vector<std::string>{"pooling_mode_lasttoken"}) return Pooling::kLast;
  if (modes == std::vector<std::string>{"pooling_mode_mean_tokens"}) return Pooling::kMean;
  return Unsupported(path,
                     "wanted one of pooling_mode_lasttoken and pooling_mode_mean_tokens to be "
                     "true and no other, found ",
                     modes.empty() ? "none" : Quoted(absl::StrJoin(modes, ", ")));
}

// As the whole model of which it is the inner part: files of embedding models leave the prefix out.
TensorNames NamesIn(const TensorTable& table) {
  TensorNames names = kHuggingFaceNames;
  if (table.Has(absl::StrCat(names.embedding, ".weight"))) return names;
  for (absl::string_view* name : {&names.embedding, &names.final_norm, &names.layer_prefix}) {
    absl::ConsumePrefix(name, "model.");
  }
  return names;
}

}  // namespace

absl::StatusOr<LoadedModel> ReadHuggingFaceModel(const std::string& folder) {
  ModelDigest digest;
  ASSIGN_OR_RETURN(const JsonDocument config,
                   ReadJsonFile(absl::StrCat(folder, "/config.json"), &digest));
  std::optional<JsonDocument> generation;
  const std::string generation_path = PathIfExists(folder, "generation_config.json");
  if (!generation_path.empty()) {
    ASSIGN_OR_RETURN(generation, ReadJsonFile(generation_path, nullptr));
  }
  LoadedModel model;
  ASSIGN_OR_RETURN(model.config,
                   ReadHuggingFaceConfig(config, generation ? &*generation : nullptr));
  RETURN_IF_ERROR(CheckModelConfig(config.name(), model.config));
  ASSIGN_OR_RETURN(model.config.pooling, ReadPooling(folder));
  ASSIGN_OR_RETURN(const Shards shards, FindShards(folder));
  TensorTable table(folder);
  auto mappings = std::make_shared<Mappings>();
  for (const auto& [name, wanted] : shards) {
    RETURN_IF_ERROR(AddShard(absl::StrCat(folder, "/", name), wanted, table, digest, *mappings));
  }
  // A head that a model never had, since it was trained to embed, does no harm as a copy.
  if (model.config.pooling && !table.Has("lm_head.weight")) model.config.tied_head = true;
  ASSIGN_OR_RETURN(model.weights, BindWeights(model.config, NamesIn(table), table));
  model.vocabulary.tokenizer_json_path = PathIfExists(folder, "tokenizer.json");
  model.vocabulary.tokenizer_config_path = PathIfExists(folder, "tokenizer_config.json");
  model.vocabulary.chat_template_path = PathIfExists(folder, "chat_template.jinja");
  model.digest = digest.Finish();
  for (const std::unique_ptr<MappedFile>& file : *mappings) model.files.push_back(file.get());
  model.mapping = std::move(mappings);
  return model;
}

}  // namespace holdfast
