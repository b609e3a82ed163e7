#include "kernels/gguf_block.h"
#include "kernels/half.h"
#include "kernels/kernel_table.h"

namespace holdfast {
namespace {

uint16_t ReadU16(const std::byte* p) {
  return static_cast<uint16_t>(static_cast<unsigned>(p[0]) | (static_cast<unsigned>(p[1]) << 8));
}

// Multiplied out in f32 in the order of the format's reference: scale by code, then the offset.
void DequantizeBlock(TensorType type, const std::byte* block, float* out) {
  const CodeFormat format = FormatOf(type);
  const int32_t count = TraitsOf(type).block_elements;
  CodeBlock decoded;
  ReadBlock(type, block, decoded);
  for (int32_t i = 0; i < count; ++i) {
    const auto code = static_cast<float>(decoded.code[i] - format.zero_point);
    const float product = decoded.scale[i / format.scale_block] * code;
    out[i] = format.has_offset ? product + decoded.offset[i / 32] : product;
  }
}

}  // namespace

void DequantizeRow(TensorType type, const std::byte* row, int64_t count, float* out) {
  switch (type) {
    case TensorType::kF32:
      __builtin_memcpy(out, row, static_cast<size_t>(count) * sizeof(float));
      return;
    case TensorType::kF16:
      for (int64_t i = 0; i < count; ++i) out[i] = FloatOfHalf(ReadU16(row + 2 * i));
      return;
    case TensorType::kBf16:
      for (int64_t i = 0; i < count; ++i) {
        out[i] = FloatOfBits(uint32_t{ReadU16(row + 2 * i)} << 16);
      }
      return;
    default:
      break;
  }
  const TensorTypeTraits traits = TraitsOf(type);
  for (int64_t i = 0; i < count; i += traits.block_elements) {
    DequantizeBlock(type, row, out + i);
    row += traits.block_bytes;
  }
}

}  // namespace holdfast
