// Reads one block of a GGUF quantisation into one common form, from which packing and
// dequantisation both start:
//
//   w[i] = scale[i / scale_block] * (code[i] - zero_point) + offset[i / 32]
//
// Source: layouts as in ggml's `ggml-common.h` and the Python package `gguf` (facts only); checked
// against values made by the latter (tests/golden/dequant).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace holdfast {

// How the weights of a type are said in the common form, and so how they lie in a panel.
struct CodeFormat {
  int32_t code_bits;    // as packed: 4 (two codes a byte) or 8
  int32_t max_code;     // codes are 0 .. max_code
  int32_t scale_block;  // elements that share a scale: 32 or 16
  int32_t zero_point;   // 0 where the type has offsets
  bool has_offset;      // per 32 elements
  bool half_scales;     // scales and offsets are f16 in the file, and stay so in a panel

  constexpr CodeFormat InBytes() const {
    return {8, max_code, scale_block, zero_point, has_offset, half_scales};
  }
};

// `type` is quantised. Internal linkage: used at compile time by files of several instruction sets.
static constexpr CodeFormat FormatOf(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
      return {4, 15, 32, 8, false, true};
    case TensorType::kQ4_1:
      return {4, 15, 32, 0, true, true};
    case TensorType::kQ5_0:
      return {8, 31, 32, 16, false, true};
    case TensorType::kQ5_1:
      return {8, 31, 32, 0, true, true};
    case TensorType::kQ8_0:
      return {8, 255, 32, 128, false, true};
    case TensorType::kQ4_K:
      return {4, 15, 32, 0, true, false};
    case TensorType::kQ5_K:
      return {8, 31, 32, 0, true, false};
    case TensorType::kQ6_K:
      return {8, 63, 16, 32, false, false};
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBf16:
      break;
  }
  return {};
}

inline constexpr int32_t kBlockElementsMax = 256;

struct CodeBlock {  // of TraitsOf(type).block_elements elements; what lies beyond is untouched
  uint8_t code[kBlockElementsMax];
  float scale[kBlockElementsMax / 16];
  float offset[kBlockElementsMax / 32];  // written only if the format has offsets
};

// `block`: TraitsOf(type).block_bytes bytes, any alignment; any bytes are a valid block.
void ReadBlock(TensorType type, const std::byte* block, CodeBlock& out);

}  // namespace holdfast
