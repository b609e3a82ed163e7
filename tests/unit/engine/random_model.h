// Small models with random weights, in memory: for what does not depend on what a model says.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/weights.h"
#include "kernels/half.h"

namespace holdfast {

struct RandomModelOptions {
  TensorType type = TensorType::kQ8_0;  // of the matrices: f32, bf16, Q8_0 or Q4_1
  bool qkv_bias = false;
  bool qk_norm = false;
  int32_t sliding_window = 0;
  int32_t num_layers = 2;
  uint32_t seed = 1;
};

class RandomModel final {
 public:
  explicit RandomModel(const RandomModelOptions& options) : options_(options), rng_(options.seed) {
    ModelConfig& c = model.config;
    c.architecture = "llama";
    c.name = "random";
    c.vocab_size = 101;
    c.hidden = 64;
    c.intermediate = 96;
    c.num_layers = options.num_layers;
    c.num_heads = 4;
    c.num_kv_heads = 2;
    c.head_dim = 16;
    c.context_tokens = 600;  // more than two attention splits
    c.rope.dim = 16;
    c.sliding_window = options.sliding_window;
    c.qkv_bias = options.qkv_bias;
    c.qk_norm = options.qk_norm;
    ModelWeights& w = model.weights;
    w.embedding = Matrix(c.vocab_size, c.hidden);
    w.head = Matrix(c.vocab_size, c.hidden);
    w.final_norm = Vector(c.hidden, 1.0f);
    for (int32_t i = 0; i < c.num_layers; ++i) {
      LayerWeights& layer = w.layers.emplace_back();
      layer.attention_norm = Vector(c.hidden, 1.0f);
      layer.mlp_norm = Vector(c.hidden, 1.0f);
      layer.q = Matrix(c.num_heads * c.head_dim, c.hidden);
      layer.k = Matrix(c.num_kv_heads * c.head_dim, c.hidden);
      layer.v = Matrix(c.num_kv_heads * c.head_dim, c.hidden);
      layer.o = Matrix(c.hidden, c.num_heads * c.head_dim);
      layer.gate = Matrix(c.intermediate, c.hidden);
      layer.up = Matrix(c.intermediate, c.hidden);
      layer.down = Matrix(c.hidden, c.intermediate);
      if (options.qkv_bias) {
        layer.q_bias = Vector(c.num_heads * c.head_dim, 0.0f);
        layer.k_bias = Vector(c.num_kv_heads * c.head_dim, 0.0f);
        layer.v_bias = Vector(c.num_kv_heads * c.head_dim, 0.0f);
      }
      if (options.qk_norm) {
        layer.q_norm = Vector(c.head_dim, 1.0f);
        layer.k_norm = Vector(c.head_dim, 1.0f);
      }
    }
    model.digest.fill(static_cast<uint8_t>(options.seed));
    model.mapping = storage_;
  }

  std::vector<TokenId> RandomTokens(int32_t count) {
    std::vector<TokenId> tokens(count);
    for (TokenId& token : tokens) token = static_cast<TokenId>(rng_() % model.config.vocab_size);
    return tokens;
  }

  // Overwrites the final norm's weights.
  void BreakFinalNorm(float value) {
    auto* floats = reinterpret_cast<float*>(const_cast<std::byte*>(model.weights.final_norm.data));
    for (int32_t i = 0; i < model.config.hidden; ++i) floats[i] = value;
  }

  LoadedModel model;

 private:
  WeightTensor Own(TensorType type, int32_t rows, int32_t cols, std::vector<std::byte> bytes) {
    storage_->push_back(std::move(bytes));
    return {.type = type, .rows = rows, .cols = cols, .data = storage_->back().data()};
  }

  WeightTensor Vector(int32_t count, float mean) {
    std::vector<std::byte> bytes(sizeof(float) * count);
    for (int32_t i = 0; i < count; ++i) {
      const float value = mean + 0.2f * Uniform();
      std::memcpy(bytes.data() + sizeof(float) * i, &value, sizeof value);
    }
    return Own(TensorType::kF32, 1, count, std::move(bytes));
  }

  WeightTensor Matrix(int32_t rows, int32_t cols) {
    const size_t row_bytes = RowBytes(options_.type, cols);
    std::vector<std::byte> bytes(row_bytes * rows);
    if (IsFloat(options_.type)) {
      const size_t element_bytes = RowBytes(options_.type, 1);
      for (int64_t i = 0; i < static_cast<int64_t>(rows) * cols; ++i) {
        const uint32_t bits = StoredBits(0.25f * Uniform());
        std::memcpy(bytes.data() + element_bytes * i, &bits, element_bytes);
      }
      return Own(options_.type, rows, cols, std::move(bytes));
    }
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng_());
    // Sane scales: 2^-9 for eight-bit codes; 2^-6 and an offset of -2^-3 for four-bit ones.
    const size_t block_bytes = TraitsOf(options_.type).block_bytes;
    for (size_t at = 0; at < bytes.size(); at += block_bytes) {
      const bool wide = options_.type == TensorType::kQ8_0;
      const uint16_t scale = wide ? 0x1800 : 0x2400, offset = 0xB000;
      std::memcpy(bytes.data() + at, &scale, 2);
      if (!wide) std::memcpy(bytes.data() + at + 2, &offset, 2);
    }
    return Own(options_.type, rows, cols, std::move(bytes));
  }

  static bool IsFloat(TensorType type) {
    return type == TensorType::kF32 || type == TensorType::kF16 || type == TensorType::kBf16;
  }

  // The value as the model's float type stores it, in the low bits.
  uint32_t StoredBits(float value) const {
    if (options_.type == TensorType::kF16) return HalfOfFloat(value);
    const uint32_t bits = BitsOfFloat(value);
    return options_.type == TensorType::kBf16 ? bits >> 16 : bits;
  }

  float Uniform() { return static_cast<float>(rng_() % 20001) / 10000.0f - 1.0f; }

  const RandomModelOptions options_;
  std::mt19937 rng_;
  std::shared_ptr<std::vector<std::vector<std::byte>>> storage_ =
      std::make_shared<std::vector<std::vector<std::byte>>>();
};

}  // namespace holdfast
