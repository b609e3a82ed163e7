#include "kernels/half.h"
#include "kernels/kernel_table.h"
#include "kernels/packed_layout.h"

namespace holdfast {
namespace {

void WriteScale(CodeFormat format, float value, int32_t row, std::byte* vector) {
  if (format.half_scales) {
    const uint16_t half = HalfOfFloat(value);  // exact: it was f16 in the file
    __builtin_memcpy(vector + 2 * row, &half, sizeof half);
  } else {
    __builtin_memcpy(vector + 4 * row, &value, sizeof value);
  }
}

// One row's 32 codes into the block's vectors.
void WriteCodes(CodeFormat format, const uint8_t* code, int32_t row, std::byte* vectors) {
  auto* out = reinterpret_cast<uint8_t*>(vectors) + 4 * row;
  if (format.code_bits == 4) {
    for (int i = 0; i < 16; ++i) {
      out[64 * (i / 4) + i % 4] = static_cast<uint8_t>(code[i] | (code[i + 16] << 4));
    }
  } else {
    for (int i = 0; i < 32; ++i) out[64 * (i / 4) + i % 4] = code[i];
  }
}

void PackRow(TensorType type, const std::byte* row_blocks, int32_t k, int32_t row,
             std::byte* panel) {
  const CodeFormat format = FormatOf(type);
  const TensorTypeTraits traits = TraitsOf(type);
  std::byte* scales = panel + static_cast<size_t>(k / 32) * CodeBytesPerBlock(format);
  const int32_t scales_per_block = 32 / format.scale_block;
  CodeBlock block;
  for (int32_t begin = 0; begin < k; begin += traits.block_elements) {
    ReadBlock(type, row_blocks, block);
    row_blocks += traits.block_bytes;
    for (int32_t i = 0; i < traits.block_elements / 32; ++i) {
      const auto index = static_cast<size_t>(begin / 32 + i);
      WriteCodes(format, block.code + 32 * i, row, panel + index * CodeBytesPerBlock(format));
      std::byte* vector = scales + index * ScaleBytesPerBlock(format);
      for (int32_t s = 0; s < scales_per_block; ++s) {
        WriteScale(format, block.scale[i * scales_per_block + s], row, vector);
        vector += ScaleBytes(format);
      }
      if (format.has_offset) WriteScale(format, block.offset[i], row, vector);
    }
  }
}

// `out`: the first pair of the row's output, in its first tile.
void PackBf16Row(const std::byte* row, int32_t k, std::byte* out) {
  for (size_t at = 0; at < static_cast<size_t>(k); ++at) {
    uint16_t bf16;
    __builtin_memcpy(&bf16, row + 2 * at, sizeof bf16);
    const bool counts = (bf16 & 0x7fffu) >= BitsOfFloat(kLeastBf16) >> 16;
    if (!counts) bf16 = 0;
    std::byte* const pair = out + at / 32 * kPanelTiles * kTileBytes + at % 32 / 2 * 64;
    __builtin_memcpy(pair + at % 2 * 2, &bf16, sizeof bf16);
  }
}

}  // namespace

size_t PackedMatrixBytes(TensorType type, int32_t n, int32_t k) {
  const auto panels = static_cast<size_t>((n + kPanelRows - 1) / kPanelRows);
  return panels * PanelBytes(FormatOf(type), k);
}

void PackRows(TensorType type, const std::byte* rows, int32_t n, int32_t k, int32_t row_begin,
              int32_t row_end, std::byte* packed) {
  const size_t panel_bytes = PanelBytes(FormatOf(type), k);
  const size_t row_bytes = RowBytes(type, k);
  for (int32_t row = row_begin; row < row_end; ++row) {
    std::byte* panel = packed + static_cast<size_t>(row / kPanelRows) * panel_bytes;
    // Scale and offset zero make the padding rows of the last panel zero weights.
    if (row % kPanelRows == 0) __builtin_memset(panel, 0, panel_bytes);
    PackRow(type, rows, k, row % kPanelRows, panel);
    rows += row_bytes;
  }
  static_cast<void>(n);
}

size_t FloatMatrixBytes(TensorType type, int32_t n, int32_t k) {
  const auto panels = static_cast<size_t>((n + kFloatPanelRows - 1) / kFloatPanelRows);
  return panels * FloatPanelBytes(type, k);
}

void PackFloatRows(TensorType type, const std::byte* rows, int32_t k, int32_t row_begin,
                   int32_t row_end, std::byte* packed) {
  const size_t panel_bytes = FloatPanelBytes(type, k);
  const auto element = static_cast<size_t>(FloatBytes(type));
  for (int32_t row = row_begin; row < row_end; ++row) {
    std::byte* panel = packed + static_cast<size_t>(row / kFloatPanelRows) * panel_bytes;
    if (row % kFloatPanelRows == 0) __builtin_memset(panel, 0, panel_bytes);
    const auto output = static_cast<size_t>(row % kFloatPanelRows);
    if (type == TensorType::kBf16) {
      PackBf16Row(rows, k, panel + output / 16 * kTileBytes + output % 16 * 4);
    } else {
      for (size_t at = 0; at < static_cast<size_t>(k); ++at) {
        __builtin_memcpy(panel + (at * kFloatPanelRows + output) * element, rows + at * element,
                         element);
      }
    }
    rows += static_cast<size_t>(k) * element;
  }
}

}  // namespace holdfast
