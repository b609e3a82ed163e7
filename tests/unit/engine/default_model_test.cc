// The default model as it is shipped: what its reader finds in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/weights.h"

namespace holdfast {
namespace {

TEST(DefaultModelTest, IsReadAsTheSmallLlamaThatItIs) {
  const char* path = std::getenv("HOLDFAST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "HOLDFAST_MODEL does not name the default model's file";
  const absl::StatusOr<LoadedModel> model = LoadModel(path);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.hidden, 576);
  EXPECT_EQ(config.intermediate, 1536);
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.num_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.context_tokens, 8192);
  EXPECT_FLOAT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_FLOAT_EQ(config.rope.theta, 100000.0f);
  EXPECT_EQ(config.rope.dim, 64);
  EXPECT_EQ(config.rope.pairing, RopePairing::kInterleaved);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kNone);
  EXPECT_TRUE(config.tied_head);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_THAT(config.eos_tokens, testing::ElementsAre(2, 0));  // <|im_end|>, <|endoftext|>
  EXPECT_EQ(model->weights.embedding.type, TensorType::kQ8_0);
  EXPECT_EQ(model->weights.head.data, model->weights.embedding.data);
  ASSERT_EQ(model->weights.layers.size(), 30u);
  EXPECT_EQ(model->weights.layers[29].down.type, TensorType::kQ4_1);
  EXPECT_EQ(model->vocabulary.gguf_model, "gpt2");
  EXPECT_EQ(model->vocabulary.gguf_pre, "smollm");
  EXPECT_EQ(model->vocabulary.tokens.size(), 49152u);
  EXPECT_EQ(model->vocabulary.merges.size(), 48900u);
  EXPECT_FALSE(model->vocabulary.add_bos);
  EXPECT_FALSE(model->vocabulary.chat_template.empty());
}

TEST(DefaultModelTest, HasOneDigestEachTimeItIsRead) {
  const char* path = std::getenv("HOLDFAST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "HOLDFAST_MODEL does not name the default model's file";
  const absl::StatusOr<LoadedModel> first = LoadModel(path), second = LoadModel(path);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->digest, second->digest);
  EXPECT_NE(first->digest, (std::array<uint8_t, 32>{}));
}

}  // namespace
}  // namespace holdfast
