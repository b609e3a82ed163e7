// Element types of stored weights, with the block structure of the GGUF quantisations.
// Source: block layouts as in the GGUF format's reference, ggml `ggml-common.h` (facts only).
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast {

enum class TensorType : uint8_t {
  kF32,
  kF16,
  kBf16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K
};

struct TensorTypeTraits {
  const char* name;
  int32_t block_elements;  // elements of one block along k
  int32_t block_bytes;
};

constexpr TensorTypeTraits TraitsOf(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return {"F32", 1, 4};
    case TensorType::kF16:
      return {"F16", 1, 2};
    case TensorType::kBf16:
      return {"BF16", 1, 2};
    case TensorType::kQ4_0:
      return {"Q4_0", 32, 18};
    case TensorType::kQ4_1:
      return {"Q4_1", 32, 20};
    case TensorType::kQ5_0:
      return {"Q5_0", 32, 22};
    case TensorType::kQ5_1:
      return {"Q5_1", 32, 24};
    case TensorType::kQ8_0:
      return {"Q8_0", 32, 34};
    case TensorType::kQ4_K:
      return {"Q4_K", 256, 144};
    case TensorType::kQ5_K:
      return {"Q5_K", 256, 176};
    case TensorType::kQ6_K:
      return {"Q6_K", 256, 210};
  }
  return {"?", 1, 0};
}

constexpr bool IsQuantized(TensorType type) { return type >= TensorType::kQ4_0; }

// Bytes of one row of k elements; k is a multiple of block_elements.
constexpr size_t RowBytes(TensorType type, int64_t k) {
  const TensorTypeTraits traits = TraitsOf(type);
  return static_cast<size_t>(k / traits.block_elements) * static_cast<size_t>(traits.block_bytes);
}

}  // namespace holdfast
