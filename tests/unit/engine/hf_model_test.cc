// What Hugging Face folders are taken to mean: each tiny model of tests/golden/models as a whole,
// then single keys of config.json.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/hf_config.h"
#include "engine/json_document.h"
#include "engine/weights.h"
#include "tests/unit/engine/gguf_writer.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<LoadedModel> LoadTiny(absl::string_view name) {
  return LoadModel(absl::StrCat(HOLDFAST_SOURCE_DIR, "/tests/golden/models/", name));
}

TEST(HuggingFaceModelTest, ReadsEveryTinyModel) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(HOLDFAST_SOURCE_DIR "/tests/golden/models")) {
    SCOPED_TRACE(entry.path().string());
    const absl::StatusOr<LoadedModel> model = LoadModel(entry.path().string());
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->config.hidden, 64);
    EXPECT_EQ(model->config.rope.pairing, RopePairing::kHalves);
    EXPECT_FALSE(model->config.eos_tokens.empty());
    EXPECT_EQ(static_cast<int32_t>(model->weights.layers.size()), model->config.num_layers);
    ++count;
  }
  EXPECT_GE(count, 11);
}

TEST(HuggingFaceModelTest, ReadsTheDifferenceOfEachTinyModel) {
  absl::StatusOr<LoadedModel> model = LoadTiny("llama_f16_sharded");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->weights.layers[1].q.type, TensorType::kF16);
  EXPECT_THAT(model->config.eos_tokens, ElementsAre(1, 5));
  EXPECT_FALSE(model->config.tied_head);
  EXPECT_NE(model->weights.head.data, model->weights.embedding.data);

  model = LoadTiny("llama_biases_bf16");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->config.qkv_bias && model->config.output_bias && model->config.mlp_bias);
  EXPECT_EQ(model->weights.layers[0].down_bias.cols, 64);

  model = LoadTiny("llama_tied_bf16");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->config.tied_head);
  EXPECT_EQ(model->weights.head.data, model->weights.embedding.data);
  EXPECT_THAT(model->vocabulary.tokenizer_json_path, HasSubstr("llama_tied_bf16/tokenizer.json"));
  EXPECT_FALSE(model->vocabulary.tokenizer_config_path.empty());
  EXPECT_TRUE(model->vocabulary.chat_template_path.empty());

  model = LoadTiny("mistral_window");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.sliding_window, 20);
  EXPECT_TRUE(model->config.layer_has_window.empty());

  model = LoadTiny("qwen2");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->config.qkv_bias);
  EXPECT_FALSE(model->config.output_bias);
  EXPECT_EQ(model->config.sliding_window, 0);

  model = LoadTiny("qwen2_window_upper");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.sliding_window, 20);
  EXPECT_THAT(model->config.layer_has_window, ElementsAre(false, true));

  model = LoadTiny("qwen3");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->config.qk_norm);
  EXPECT_FALSE(model->config.qkv_bias);
  EXPECT_EQ(model->config.head_dim, 32);
  EXPECT_EQ(model->weights.layers[0].o.cols, 128);

  model = LoadTiny("llama_rope_llama3");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(model->config.rope.original_context, 32);
  EXPECT_EQ(model->config.rope.factor, 8.0f);

  model = LoadTiny("llama_rope_yarn");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(model->config.rope.original_context, 64);
}

// As sentence-transformers leaves it: the inner model's tensors, and a file that says how to pool.
class EmbeddingFolder final {
 public:
  explicit EmbeddingFolder(absl::string_view modes)
      : path_(absl::StrCat(testing::TempDir(), "holdfast_embedding_", getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(HOLDFAST_SOURCE_DIR "/tests/golden/models/qwen3", path_);
    std::filesystem::create_directory(path_ + "/1_Pooling");
    std::ofstream(path_ + "/1_Pooling/config.json") << modes;
    const std::string weights = path_ + "/model.safetensors";
    std::ifstream file(weights, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    uint64_t head_bytes = 0;
    std::memcpy(&head_bytes, bytes.data(), sizeof(head_bytes));
    std::string head = absl::StrReplaceAll(bytes.substr(8, head_bytes), {{"\"model.", "\""}});
    head.resize(head_bytes, ' ');
    std::ofstream(weights, std::ios::binary)
        << bytes.substr(0, 8) << head << bytes.substr(8 + head_bytes);
  }
  ~EmbeddingFolder() { std::filesystem::remove_all(path_); }
  absl::StatusOr<LoadedModel> Load() const { return LoadModel(path_); }

 private:
  const std::string path_;
};

TEST(HuggingFaceModelTest, ReadsAModelThatWasTrainedToEmbed) {
  const absl::StatusOr<LoadedModel> plain = LoadTiny("qwen3");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->config.pooling, std::nullopt);
  for (const auto& [modes, pooling] :
       {std::pair(R"({"pooling_mode_lasttoken":true,"pooling_mode_cls_token":false})",
                  Pooling::kLast),
        std::pair(R"({"word_embedding_dimension":64,"pooling_mode_mean_tokens":true})",
                  Pooling::kMean)}) {
    const absl::StatusOr<LoadedModel> model = EmbeddingFolder(modes).Load();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->config.pooling, pooling);
    EXPECT_EQ(model->weights.layers.size(), plain->weights.layers.size());
  }
  const absl::StatusOr<LoadedModel> other =
      EmbeddingFolder(R"({"pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":true})").Load();
  EXPECT_THAT(other.status().message(), HasSubstr("pooling_mode_max_tokens"));
}

// A configuration that is sound, with further keys put before its end.
std::string Config(absl::string_view model_type, absl::string_view more = "") {
  return absl::StrCat(R"({"model_type":")", model_type, R"(","vocab_size":16,"hidden_size":8,)",
                      R"("intermediate_size":16,"num_hidden_layers":3,"num_attention_heads":2,)",
                      R"("max_position_embeddings":64)", more.empty() ? "" : ",", more, "}");
}

absl::StatusOr<ModelConfig> Read(const std::string& text, const std::string& generation = "") {
  absl::StatusOr<JsonDocument> json = JsonDocument::Parse(text, "config.json");
  if (!json.ok()) return json.status();
  if (generation.empty()) return ReadHuggingFaceConfig(*json, nullptr);
  absl::StatusOr<JsonDocument> other = JsonDocument::Parse(generation, "generation_config.json");
  if (!other.ok()) return other.status();
  return ReadHuggingFaceConfig(*json, &*other);
}

ModelConfig Sound(const std::string& text) {
  const absl::StatusOr<ModelConfig> config = Read(text);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig{};
}

TEST(HuggingFaceConfigTest, FillsAbsentKeysAsTransformersDoes) {
  const ModelConfig llama = Sound(Config("llama"));
  EXPECT_EQ(llama.num_kv_heads, 2);
  EXPECT_EQ(llama.head_dim, 4);
  EXPECT_EQ(llama.rms_norm_eps, 1e-6f);
  EXPECT_EQ(llama.rope.theta, 10000.0f);
  EXPECT_FALSE(llama.tied_head);
  EXPECT_FALSE(llama.bos_token.has_value());
  EXPECT_EQ(Sound(Config("qwen3")).head_dim, 128);
  EXPECT_EQ(Sound(Config("mistral")).sliding_window, 4096);
  EXPECT_EQ(Sound(Config("mistral", R"("sliding_window":null)")).sliding_window, 0);
  EXPECT_EQ(Sound(Config("llama", R"("sliding_window":8)")).sliding_window, 0);
}

TEST(HuggingFaceConfigTest, WindowsOnlyTheLayersThatTheFileNames) {
  EXPECT_EQ(
      Sound(Config("qwen2", R"("sliding_window":8,"use_sliding_window":false)")).sliding_window, 0);
  const ModelConfig upper = Sound(
      Config("qwen2", R"("sliding_window":8,"use_sliding_window":true,"max_window_layers":1)"));
  EXPECT_EQ(upper.sliding_window, 8);
  EXPECT_THAT(upper.layer_has_window, ElementsAre(false, true, true));
  const ModelConfig listed =
      Sound(Config("qwen3", R"("sliding_window":8,"use_sliding_window":true,"layer_types":)"
                            R"(["sliding_attention","full_attention","sliding_attention"])"));
  EXPECT_THAT(listed.layer_has_window, ElementsAre(true, false, true));
}

TEST(HuggingFaceConfigTest, ReadsRopeInBothShapesOfTheFile) {
  const ModelConfig older =
      Sound(Config("llama", R"("rope_theta":5e5,"rope_scaling":{"type":"linear","factor":2})"));
  EXPECT_EQ(older.rope.theta, 5e5f);
  EXPECT_EQ(older.rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(older.rope.factor, 2.0f);
  const ModelConfig newer =
      Sound(Config("llama", R"("rope_parameters":{"rope_type":"default","rope_theta":1e6})"));
  EXPECT_EQ(newer.rope.theta, 1e6f);
  EXPECT_EQ(newer.rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(Sound(Config("llama", R"("rope_scaling":null)")).rope.scaling, RopeScaling::kNone);
  const ModelConfig yarn = Sound(
      Config("qwen2", R"("rope_scaling":{"rope_type":"yarn","factor":4,"attention_factor":1.5})"));
  EXPECT_EQ(yarn.rope.original_context, 64);  // none stated: the context itself
  EXPECT_EQ(yarn.rope.attention_factor, 1.5f);
}

TEST(HuggingFaceConfigTest, GathersEndTokensOfBothFilesOnce) {
  const absl::StatusOr<ModelConfig> config =
      Read(Config("llama", R"("eos_token_id":2)"), R"({"eos_token_id":[7,2,9]})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_tokens, ElementsAre(7, 2, 9));
}

struct Refusal {
  const char* name;
  std::string text;
  const char* message;
};

std::vector<Refusal> Refusals() {
  const auto llama = [](absl::string_view more) { return Config("llama", more); };
  return {
      {"NoJson", "{", "JSON"},
      {"KeyTwice", R"({"model_type":"llama","model_type":"llama"})", "occurs twice"},
      {"OtherArchitecture", Config("mixtral"), "\"model_type\": wanted llama, mistral, qwen2"},
      {"NoArchitecture", "{}", "\"model_type\""},
      {"Classifier", llama(R"("architectures":["LlamaForSequenceClassification"])"),
       "\"architectures\""},
      {"Quantized", llama(R"("quantization_config":{"bits":4})"), "\"quantization_config\""},
      {"OtherActivation", llama(R"("hidden_act":"gelu")"), "\"hidden_act\""},
      {"PartialRotation", llama(R"("partial_rotary_factor":0.5)"), "\"partial_rotary_factor\""},
      {"Experts", llama(R"("num_local_experts":8)"), "mixtures of experts"},
      {"DynamicRope", llama(R"("rope_scaling":{"type":"dynamic","factor":2})"), "\"dynamic\""},
      {"LongRope", llama(R"("rope_scaling":{"rope_type":"longrope"})"), "\"longrope\""},
      {"TwoRopes", llama(R"("rope_scaling":{"rope_type":"yarn","type":"linear"})"), "one meaning"},
      {"NoFactor", llama(R"("rope_scaling":{"type":"linear"})"), "\"factor\": wanted"},
      {"Llama3WithoutContext",
       llama(R"("rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,)"
             R"("high_freq_factor":4})"),
       "\"original_max_position_embeddings\": wanted"},
      {"RopeNoObject", llama(R"("rope_scaling":3)"), "\"rope_scaling\": wanted an object"},
      {"NegativeCount", llama(R"("num_key_value_heads":-2)"), "\"num_key_value_heads\""},
      {"FractionalCount", llama(R"("head_dim":4.5)"), "\"head_dim\""},
      {"HugeCount", llama(R"("head_dim":99999999999)"), "\"head_dim\""},
      {"TextForNumber", llama(R"("rms_norm_eps":"small")"), "\"rms_norm_eps\""},
      {"TextForFlag", llama(R"("tie_word_embeddings":"yes")"), "\"tie_word_embeddings\""},
      {"BadEndToken", llama(R"("eos_token_id":[1,"x"])"), "\"eos_token_id\""},
      {"BadLayerTypes",
       Config("qwen2", R"("use_sliding_window":true,"sliding_window":4,"layer_types":["odd"])"),
       "\"layer_types\""},
      {"AbsurdLayers",
       R"({"model_type":"qwen2","vocab_size":1,"hidden_size":1,"intermediate_size":1,)"
       R"("num_attention_heads":1,"max_position_embeddings":1,"num_hidden_layers":2000000000,)"
       R"("use_sliding_window":true,"sliding_window":4})",
       "\"num_hidden_layers\""},
  };
}

class HuggingFaceRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(HuggingFaceRefusalTest, NamesFileAndField) {
  const absl::StatusOr<ModelConfig> config = Read(GetParam().text);
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()), testing::StartsWith("config.json"));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFaceRefusalTest, testing::ValuesIn(Refusals()),
                         [](const auto& info) { return info.param.name; });

// Copies of tiny models with one file changed.
class HuggingFaceFolderTest : public testing::Test {
 protected:
  void Copy(absl::string_view name) {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(absl::StrCat(HOLDFAST_SOURCE_DIR, "/tests/golden/models/", name),
                          folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Content(const std::string& file) {
    std::ifstream in(folder_ / file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void Write(const std::string& file, const std::string& content) {
    std::ofstream(folder_ / file, std::ios::binary) << content;
  }
  void Replace(const std::string& file, absl::string_view from, absl::string_view to) {
    const std::string content = Content(file);
    ASSERT_THAT(content, HasSubstr(std::string(from)));
    Write(file, absl::StrReplaceAll(content, {{from, to}}));
  }
  std::string Refused() {
    const absl::StatusOr<LoadedModel> model = LoadModel(folder_.string());
    EXPECT_FALSE(model.ok());
    return std::string(model.status().message());
  }

  std::filesystem::path folder_;
};

TEST_F(HuggingFaceFolderTest, RefusesAFolderWithoutItsParts) {
  Copy("llama_f32");
  std::filesystem::remove(folder_ / "generation_config.json");
  EXPECT_TRUE(LoadModel(folder_.string()).ok());
  std::filesystem::rename(folder_ / "model.safetensors", folder_ / "model.bin");
  EXPECT_THAT(Refused(), HasSubstr("wanted model.safetensors"));
  std::filesystem::remove(folder_ / "config.json");
  EXPECT_THAT(Refused(), HasSubstr("config.json"));
}

TEST_F(HuggingFaceFolderTest, RefusesTensorsThatDoNotFitTheConfiguration) {
  Copy("llama_f32");
  Replace("config.json", "\"hidden_size\": 64", "\"hidden_size\": 56");
  EXPECT_THAT(Refused(), HasSubstr("found [128, 64]"));
  Copy("llama_f32");
  Replace("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  EXPECT_THAT(Refused(), HasSubstr("\"model.layers.1."));
  Copy("llama_f32");
  Replace("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
  EXPECT_THAT(Refused(), HasSubstr("\"model.layers.2."));
  Copy("llama_f32");
  Replace("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 3");
  EXPECT_FALSE(Refused().empty());
  Copy("llama_f32");
  Replace("config.json", "\"eos_token_id\": 1", "\"eos_token_id\": 128");
  EXPECT_THAT(Refused(), HasSubstr("end-of-text token"));
}

TEST_F(HuggingFaceFolderTest, RefusesAnIndexThatLeadsElsewhere) {
  const std::string index = "model.safetensors.index.json";
  Copy("llama_f16_sharded");
  Replace(index, "model-00002-of-00003.safetensors", "../model.safetensors");
  EXPECT_THAT(Refused(), HasSubstr("in the folder"));
  Copy("llama_f16_sharded");
  std::filesystem::remove(folder_ / "model-00002-of-00003.safetensors");
  EXPECT_THAT(Refused(), HasSubstr("model-00002-of-00003.safetensors"));
  Copy("llama_f16_sharded");
  Replace(index, "model.norm.weight", "model.extra.weight");
  EXPECT_THAT(Refused(), HasSubstr("model.extra.weight"));
  Copy("llama_f16_sharded");
  std::filesystem::copy(folder_ / "model-00002-of-00003.safetensors", folder_ / "x.safetensors");
  Replace(index, "\"model.norm.weight\": \"model-00003-of-00003.safetensors\"",
          "\"model.norm.weight\": \"x.safetensors\"");
  EXPECT_THAT(Refused(), HasSubstr("another shard"));
  Copy("llama_f16_sharded");
  Write(index, R"({"weight_map":{}})");
  EXPECT_THAT(Refused(), HasSubstr("weight_map"));
}

TEST_F(HuggingFaceFolderTest, RefusesATruncatedFile) {
  Copy("llama_f32");
  const std::string whole = Content("model.safetensors");
  for (const size_t size :
       {size_t{1}, size_t{7}, size_t{8}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    Write("model.safetensors", whole.substr(0, size));
    EXPECT_THAT(Refused(), HasSubstr("model.safetensors")) << size;
  }
  const std::string config = Content("config.json");
  for (size_t size = 0; size + 2 < config.size(); size += 17) {
    Write("config.json", config.substr(0, size));
    EXPECT_THAT(Refused(), HasSubstr("config.json")) << size;
  }
}

TEST_F(HuggingFaceFolderTest, DigestFollowsConfigurationAndWeights) {
  Copy("llama_f32");
  const auto digest = [&] {
    const absl::StatusOr<LoadedModel> model = LoadModel(folder_.string());
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? model->digest : std::array<uint8_t, 32>{};
  };
  const auto before = digest();
  EXPECT_EQ(before, digest());
  Replace("config.json", "10000.0", "20000.0");
  const auto other_config = digest();
  EXPECT_NE(before, other_config);
  std::string weights = Content("model.safetensors");
  weights.back() ^= 1;
  Write("model.safetensors", weights);
  EXPECT_NE(other_config, digest());
}

}  // namespace
}  // namespace holdfast
