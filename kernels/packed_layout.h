// Where things lie in a packed matrix. A panel is kPanelRows weight rows (outputs), padded to 64
// bytes; the panels follow each other. Within a panel of k inputs, in blocks of 32 along k:
//
//   codes    per block  4 bits: 4 vectors of 64 bytes; byte 4 * row + t of vector v holds the code
//                       of k = 4v + t in its low nibble and that of k = 16 + 4v + t in its high
//                       8 bits: 8 vectors of 64 bytes; byte 4 * row + t of vector v is k = 4v + t
//   scales   per block  [32 / scale_block][kPanelRows], then, if the type has them,
//                       offsets [kPanelRows]; f16 if they are so in the file, else f32
//
// So one vector times 4 activations, broadcast, is one 8-bit dot-product instruction over all 16
// rows. Codes lie before the scales, not between them, so that every vector is aligned to a cache
// line. Resident size against the file: 1.0 for Q4_0, Q4_1 and Q8_0, 1.33 for Q4_K, 1.5 for
// Q5_0, Q5_1 and Q6_K, 1.8 for Q5_K.
//
// Internal linkage: included by files of several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gguf_block.h"
#include "kernels/kernel_table.h"

namespace holdfast {

static constexpr size_t CodeBytesPerBlock(CodeFormat format) {
  return static_cast<size_t>(format.code_bits) * 64;
}

static constexpr size_t ScaleBytes(CodeFormat format) {  // of one vector of scales or offsets
  return format.half_scales ? 32 : 64;
}

static constexpr size_t ScaleBytesPerBlock(CodeFormat format) {
  const auto vectors = static_cast<size_t>(32 / format.scale_block + (format.has_offset ? 1 : 0));
  return vectors * ScaleBytes(format);
}

static constexpr size_t PanelBytes(CodeFormat format, int32_t k) {
  const auto blocks = static_cast<size_t>(k / 32);
  const size_t bytes = blocks * (CodeBytesPerBlock(format) + ScaleBytesPerBlock(format));
  return (bytes + 63) / 64 * 64;
}

// Of float weights, a panel is [k][kFloatPanelRows], in the type they have: one input's weights of
// all outputs side by side. Of bf16 it is tiles as a matrix unit takes them, 16 pairs of inputs by
// 16 outputs, [k / 32][kPanelTiles][16][16][2]: each in one piece, which memory gives 10 % faster
// than rows of 64 bytes out of those of a panel.
static constexpr int32_t FloatBytes(TensorType type) { return type == TensorType::kF32 ? 4 : 2; }
static constexpr int32_t kPanelTiles = kFloatPanelRows / 16;
static constexpr size_t kTileBytes = 1024;

static constexpr size_t FloatPanelBytes(TensorType type, int32_t k) {
  if (type == TensorType::kBf16)
    return static_cast<size_t>((k + 31) / 32) * kPanelTiles * kTileBytes;
  const auto floats = static_cast<size_t>(k) * kFloatPanelRows;
  return (floats * static_cast<size_t>(FloatBytes(type)) + 63) / 64 * 64;
}

}  // namespace holdfast
