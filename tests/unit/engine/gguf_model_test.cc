// What the metadata and tensors of a GGUF file are taken to mean, on files of a few kilobytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <random>

#include "absl/strings/match.h"
#include "engine/gguf_file.h"
#include "engine/model_reader.h"
#include "engine/weights.h"
#include "tests/unit/engine/gguf_writer.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A model of one layer, hidden 8, two heads and one KV head of 4, inner 16, vocabulary 4.
struct TinyModel {
  std::string architecture = "llama";
  std::vector<std::string> without;                            // metadata keys or tensors left out
  std::function<void(GgufWriter&)> more = [](GgufWriter&) {};  // further metadata, then tensors
  std::vector<std::string> tokens = {"a", "b", "<|im_end|>", "<s>"};
  uint64_t q_rows = 8;

  std::string Bytes() const {
    GgufWriter writer;
    const auto wanted = [&](absl::string_view name) {
      return std::find(without.begin(), without.end(), name) == without.end();
    };
    writer.Text("general.architecture", architecture);
    const auto count = [&](const std::string& key, uint32_t value) {
      if (wanted(key)) writer.Uint32(architecture + "." + key, value);
    };
    count("block_count", 1);
    count("context_length", 64);
    count("embedding_length", 8);
    count("feed_forward_length", 16);
    count("attention.head_count", 2);
    count("attention.head_count_kv", 1);
    if (wanted("attention.layer_norm_rms_epsilon")) {
      writer.Float(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f);
    }
    writer.Text("tokenizer.ggml.model", "gpt2").Texts("tokenizer.ggml.tokens", tokens);
    writer.Integers("tokenizer.ggml.token_type", {1, 1, 3, 3});
    writer.Uint32("tokenizer.ggml.eos_token_id", 3).Uint32("tokenizer.ggml.bos_token_id", 3);
    more(writer);
    const auto tensor = [&](const std::string& name, const std::vector<uint64_t>& dims) {
      if (wanted(name)) writer.Zeros(name, dims);
    };
    tensor("token_embd.weight", {8, 4});
    tensor("output_norm.weight", {8});
    tensor("blk.0.attn_norm.weight", {8});
    tensor("blk.0.attn_q.weight", {8, q_rows});
    tensor("blk.0.attn_k.weight", {8, 4});
    tensor("blk.0.attn_v.weight", {8, 4});
    tensor("blk.0.attn_output.weight", {8, 8});
    tensor("blk.0.ffn_norm.weight", {8});
    tensor("blk.0.ffn_gate.weight", {8, 16});
    tensor("blk.0.ffn_up.weight", {8, 16});
    tensor("blk.0.ffn_down.weight", {16, 8});
    return writer.Bytes();
  }
};

absl::StatusOr<LoadedModel> Read(const std::vector<std::byte>& bytes) {
  absl::StatusOr<GgufFile> file = GgufFile::Parse(bytes, "tiny.gguf");
  if (!file.ok()) return file.status();
  return ReadGgufModel(*file);
}

absl::StatusOr<LoadedModel> Read(const TinyModel& model) { return Read(ToBytes(model.Bytes())); }

std::string RefusalOf(const TinyModel& model) {
  const absl::StatusOr<LoadedModel> read = Read(model);
  EXPECT_FALSE(read.ok());
  EXPECT_TRUE(absl::StartsWith(read.status().message(), "tiny.gguf: ")) << read.status();
  return std::string(read.status().message());
}

TEST(GgufModelTest, ReadsALlama) {
  const absl::StatusOr<LoadedModel> model = Read(TinyModel{});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.vocab_size, 4);
  EXPECT_EQ(model->config.head_dim, 4);
  EXPECT_EQ(model->config.rope.dim, 4);
  EXPECT_EQ(model->config.rope.theta, 10000.0f);
  EXPECT_EQ(model->config.rope.pairing, RopePairing::kInterleaved);
  EXPECT_TRUE(model->config.tied_head);
  EXPECT_FALSE(model->config.qkv_bias);
  EXPECT_FALSE(model->config.qk_norm);
  EXPECT_THAT(model->config.eos_tokens, ElementsAre(3, 2));  // the named one, then <|im_end|>
  EXPECT_EQ(model->config.bos_token, 3);
  EXPECT_EQ(model->weights.layers[0].gate.rows, 16);
  EXPECT_EQ(model->weights.layers[0].gate.cols, 8);
  EXPECT_FALSE(model->weights.layers[0].q_bias);
}

TEST(GgufModelTest, ReadsTheDifferencesOfQwen2AndQwen3) {
  const auto biases = [](GgufWriter& writer) {
    writer.Zeros("blk.0.attn_q.bias", {8}).Zeros("blk.0.attn_k.bias", {4});
    writer.Zeros("blk.0.attn_v.bias", {4});
  };
  const absl::StatusOr<LoadedModel> qwen2 =
      Read(TinyModel{.architecture = "qwen2", .more = biases});
  ASSERT_TRUE(qwen2.ok()) << qwen2.status();
  EXPECT_EQ(qwen2->config.rope.pairing, RopePairing::kHalves);
  EXPECT_TRUE(qwen2->config.qkv_bias);
  EXPECT_EQ(qwen2->weights.layers[0].k_bias.cols, 4);
  EXPECT_THAT(RefusalOf({.architecture = "qwen2"}), HasSubstr("\"blk.0.attn_q.bias\": wanted"));

  const auto norms = [](GgufWriter& writer) {
    writer.Zeros("blk.0.attn_q_norm.weight", {4}).Zeros("blk.0.attn_k_norm.weight", {4});
  };
  const absl::StatusOr<LoadedModel> qwen3 = Read(TinyModel{.architecture = "qwen3", .more = norms});
  ASSERT_TRUE(qwen3.ok()) << qwen3.status();
  EXPECT_TRUE(qwen3->config.qk_norm);
  EXPECT_EQ(qwen3->weights.layers[0].q_norm.cols, 4);
  EXPECT_THAT(RefusalOf({.architecture = "qwen3"}), HasSubstr("attn_q_norm"));
}

TEST(GgufModelTest, TakesAHeadOfItsOwn) {
  const absl::StatusOr<LoadedModel> model = Read(TinyModel{.more = [](GgufWriter& writer) {
    writer.Zeros("output.weight", {8, 4});
  }});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->config.tied_head);
  EXPECT_NE(model->weights.head.data, model->weights.embedding.data);
}

TEST(GgufModelTest, ReadsRopeScalings) {
  const auto rope = [](const std::function<void(GgufWriter&)>& more) {
    const absl::StatusOr<LoadedModel> model = Read(TinyModel{.more = more});
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? model->config.rope : RopeConfig{};
  };
  const RopeConfig linear = rope([](GgufWriter& writer) {
    writer.Text("llama.rope.scaling.type", "linear").Float("llama.rope.scaling.factor", 4.0f);
  });
  EXPECT_EQ(linear.scaling, RopeScaling::kLinear);
  EXPECT_EQ(linear.factor, 4.0f);
  EXPECT_EQ(rope([](GgufWriter& w) { w.Float("llama.rope.scale_linear", 2.0f); }).factor, 2.0f);
  const RopeConfig yarn = rope([](GgufWriter& writer) {
    writer.Text("llama.rope.scaling.type", "yarn").Float("llama.rope.scaling.factor", 4.0f);
    writer.Uint32("llama.rope.scaling.original_context_length", 16);
  });
  EXPECT_EQ(yarn.scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn.original_context, 16);
  EXPECT_EQ(yarn.attention_factor, std::nullopt);
  const RopeConfig factors = rope([](GgufWriter& writer) {
    const float values[2] = {1.0f, 8.0f};
    writer.Tensor("rope_freqs.weight", {2}, 0,
                  {reinterpret_cast<const char*>(values), sizeof(values)});
  });
  EXPECT_THAT(factors.freq_factors, ElementsAre(1.0f, 8.0f));
}

TEST(GgufModelTest, ReadsThePoolingOfModelsThatEmbed) {
  const auto with_pooling = [](uint32_t type) {
    return TinyModel{.more = [type](GgufWriter& w) { w.Uint32("llama.pooling_type", type); }};
  };
  EXPECT_EQ(Read(TinyModel{})->config.pooling, std::nullopt);
  EXPECT_EQ(Read(with_pooling(0))->config.pooling, std::nullopt);
  EXPECT_EQ(Read(with_pooling(1))->config.pooling, Pooling::kMean);
  EXPECT_EQ(Read(with_pooling(3))->config.pooling, Pooling::kLast);
  for (const uint32_t type : {2, 4}) {
    EXPECT_THAT(RefusalOf(with_pooling(type)),
                HasSubstr("\"llama.pooling_type\": wanted 1 (mean) or 3 (last token), found"));
  }
}

TEST(GgufModelTest, RefusesWhatItCannotCompute) {
  EXPECT_THAT(RefusalOf({.architecture = "gpt_neox"}), HasSubstr("found \"gpt_neox\""));
  const auto with = [](std::function<void(GgufWriter&)> more) {
    return RefusalOf({.more = std::move(more)});
  };
  EXPECT_THAT(with([](GgufWriter& w) { w.Uint32("llama.expert_count", 8); }),
              HasSubstr("mixtures of experts"));
  EXPECT_THAT(with([](GgufWriter& w) { w.Text("llama.rope.scaling.type", "longrope"); }),
              HasSubstr("longrope"));
  EXPECT_THAT(with([](GgufWriter& w) {
                w.Zeros("blk.0.ffn_gate_inp.weight", {8, 4});
              }),
              HasSubstr("ffn_gate_inp"));
  EXPECT_THAT(with([](GgufWriter& w) { w.Uint32("llama.attention.value_length", 2); }),
              HasSubstr("value_length"));
  EXPECT_THAT(
      with([](GgufWriter& w) { w.Raw("llama.attention.causal", 7, absl::string_view("\0", 1)); }),
      HasSubstr("attend to later ones"));
  EXPECT_THAT(with([](GgufWriter& w) { w.Zeros("rope_freqs.weight", {2}); }),
              HasSubstr("frequency factor"));
}

TEST(GgufModelTest, RefusesContradictions) {
  EXPECT_THAT(RefusalOf({.without = {"block_count"}}), HasSubstr("\"llama.block_count\": wanted"));
  EXPECT_THAT(RefusalOf({.without = {"attention.layer_norm_rms_epsilon"}}), HasSubstr("epsilon"));
  EXPECT_THAT(RefusalOf({.without = {"blk.0.ffn_up.weight"}}),
              HasSubstr("\"blk.0.ffn_up.weight\""));
  EXPECT_THAT(RefusalOf({.without = {"token_embd.weight"}}), HasSubstr("token_embd"));
  EXPECT_THAT(RefusalOf({.q_rows = 4}), HasSubstr("wanted the shape [8, 8], found [4, 8]"));
  EXPECT_THAT(RefusalOf({.tokens = {"a", "b", "c"}}), HasSubstr("token_type"));
  EXPECT_THAT(
      RefusalOf({.more = [](GgufWriter& w) { w.Uint32("tokenizer.ggml.unknown_token_id", 4); }}),
      HasSubstr("unknown_token_id"));
  EXPECT_THAT(
      RefusalOf({.more = [](GgufWriter& w) { w.Float("llama.rope.freq_base", std::nanf("")); }}),
      HasSubstr("freq_base"));
  EXPECT_THAT(RefusalOf({.more = [](GgufWriter& w) { w.Uint32("llama.rope.dimension_count", 3); }}),
              HasSubstr("even"));
}

// A file whose every byte may lie is refused, or read to something whose bytes are all there.
TEST(GgufModelTest, SurvivesFlippedBytes) {
  const std::string whole = TinyModel{}.Bytes();
  const size_t head = whole.size() - 3000;  // mostly metadata and directory: the rest is weights
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::string mutated = whole;
    for (uint32_t i = 0; i <= rng() % 3; ++i) mutated[rng() % head] = static_cast<char>(rng());
    const std::vector<std::byte> bytes = ToBytes(mutated);
    const absl::StatusOr<LoadedModel> model = Read(bytes);
    if (!model.ok()) continue;
    for (const WeightTensor& tensor : {model->weights.embedding, model->weights.layers[0].down}) {
      EXPECT_LE(tensor.data + tensor.bytes(), bytes.data() + bytes.size());
    }
  }
}

class ModelFileTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, absl::string_view bytes) {
    const std::string path = testing::TempDir() + "holdfast_gguf_model_test_" + name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), bytes.size());
    return path;
  }
};

TEST_F(ModelFileTest, DigestTellsModelsApart) {
  const std::string bytes = TinyModel{}.Bytes();
  std::string other_weight = bytes, other_key = bytes;
  other_weight.back() = 1;
  const size_t token = other_key.find("<|im_end|>");
  other_key[token + 2] = 'x';
  const absl::StatusOr<LoadedModel> one = LoadModel(Write("one", bytes)),
                                    same = LoadModel(Write("same", bytes)),
                                    weight = LoadModel(Write("weight", other_weight)),
                                    key = LoadModel(Write("key", other_key));
  ASSERT_TRUE(one.ok() && same.ok() && weight.ok() && key.ok());
  EXPECT_EQ(one->digest, same->digest);
  EXPECT_NE(one->digest, weight->digest);
  EXPECT_NE(one->digest, key->digest);
}

TEST_F(ModelFileTest, RefusesWhatIsNoModel) {
  EXPECT_EQ(LoadModel(testing::TempDir() + "no_such_file").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(LoadModel("/dev/null").ok());
  EXPECT_THAT(std::string(LoadModel(Write("empty", "")).status().message()),
              HasSubstr("empty file"));
  EXPECT_THAT(std::string(LoadModel(Write("text", "hello")).status().message()),
              HasSubstr("no GGUF file"));
  EXPECT_THAT(std::string(LoadModel(Write("x.safetensors", "hello")).status().message()),
              HasSubstr("give the folder"));
}

}  // namespace
}  // namespace holdfast
