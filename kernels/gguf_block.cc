#include "kernels/gguf_block.h"

#include "kernels/half.h"

namespace holdfast {
namespace {

uint16_t ReadU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
float ReadHalf(const uint8_t* p) { return FloatOfHalf(ReadU16(p)); }
uint32_t ReadU32(const uint8_t* p) {
  return uint32_t{ReadU16(p)} | (uint32_t{ReadU16(p + 2)} << 16);
}

// 16 bytes: low nibbles are elements 0..15, high nibbles 16..31.
void ReadNibbles32(const uint8_t* qs, uint8_t* code) {
  for (int i = 0; i < 16; ++i) {
    code[i] = qs[i] & 15;
    code[i + 16] = qs[i] >> 4;
  }
}

// A fifth bit for each of 32 codes: bit i of the word is element i's.
void AddFifthBits(uint32_t bits, uint8_t* code) {
  for (int i = 0; i < 32; ++i) code[i] |= static_cast<uint8_t>(((bits >> i) & 1u) << 4);
}

// 32 bytes: low nibbles are elements 0..31, high nibbles 32..63 (K-quants).
void ReadNibbles64(const uint8_t* qs, uint8_t* code) {
  for (int i = 0; i < 32; ++i) {
    code[i] = qs[i] & 15;
    code[i + 32] = qs[i] >> 4;
  }
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each are the low 6 bits
// of bytes 0..3 and 4..7; of the others, bytes 8..11 hold the low nibbles and the two top bits of
// bytes 0..7 the rest.
void ReadScalesAndOffsets(const uint8_t* block, CodeBlock& out) {
  const float d = ReadHalf(block);
  const float d_min = ReadHalf(block + 2);
  const uint8_t* packed = block + 4;
  for (int i = 0; i < 8; ++i) {
    const int j = i % 4;
    uint32_t scale, minimum;
    if (i < 4) {
      scale = packed[j] & 63u;
      minimum = packed[j + 4] & 63u;
    } else {
      scale = (packed[j + 8] & 15u) | ((packed[j] >> 6) << 4);
      minimum = (packed[j + 8] >> 4) | ((packed[j + 4] >> 6) << 4);
    }
    out.scale[i] = d * static_cast<float>(scale);
    out.offset[i] = -(d_min * static_cast<float>(minimum));
  }
}

void ReadQ5K(const uint8_t* block, CodeBlock& out) {
  ReadScalesAndOffsets(block, out);
  const uint8_t* fifth = block + 16;  // byte i, bit s: element 32 * s + i
  const uint8_t* qs = block + 48;
  for (int chunk = 0; chunk < 4; ++chunk) ReadNibbles64(qs + 32 * chunk, out.code + 64 * chunk);
  for (int s = 0; s < 8; ++s) {
    for (int i = 0; i < 32; ++i) {
      out.code[32 * s + i] |= static_cast<uint8_t>(((fifth[i] >> s) & 1u) << 4);
    }
  }
}

// Two halves of 128 elements: 64 bytes of low nibbles, 32 bytes of upper bit pairs; then 16 int8
// scales and d for the whole block.
void ReadQ6K(const uint8_t* block, CodeBlock& out) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    uint8_t* code = out.code + 128 * half;
    for (int i = 0; i < 32; ++i) {
      code[i] = static_cast<uint8_t>((low[i] & 15) | ((high[i] & 3) << 4));
      code[i + 32] = static_cast<uint8_t>((low[i + 32] & 15) | (((high[i] >> 2) & 3) << 4));
      code[i + 64] = static_cast<uint8_t>((low[i] >> 4) | (((high[i] >> 4) & 3) << 4));
      code[i + 96] = static_cast<uint8_t>((low[i + 32] >> 4) | ((high[i] >> 6) << 4));
    }
  }
  const float d = ReadHalf(block + 208);
  for (int i = 0; i < 16; ++i) {
    out.scale[i] = d * static_cast<float>(static_cast<int8_t>(block[192 + i]));
  }
}

}  // namespace

void ReadBlock(TensorType type, const std::byte* block_bytes, CodeBlock& out) {
  const auto* block = reinterpret_cast<const uint8_t*>(block_bytes);
  switch (type) {
    case TensorType::kQ4_0:
      out.scale[0] = ReadHalf(block);
      ReadNibbles32(block + 2, out.code);
      return;
    case TensorType::kQ4_1:
      out.scale[0] = ReadHalf(block);
      out.offset[0] = ReadHalf(block + 2);
      ReadNibbles32(block + 4, out.code);
      return;
    case TensorType::kQ5_0:
      out.scale[0] = ReadHalf(block);
      ReadNibbles32(block + 6, out.code);
      AddFifthBits(ReadU32(block + 2), out.code);
      return;
    case TensorType::kQ5_1:
      out.scale[0] = ReadHalf(block);
      out.offset[0] = ReadHalf(block + 2);
      ReadNibbles32(block + 8, out.code);
      AddFifthBits(ReadU32(block + 4), out.code);
      return;
    case TensorType::kQ8_0:
      out.scale[0] = ReadHalf(block);
      for (int i = 0; i < 32; ++i) out.code[i] = block[2 + i] ^ 0x80u;
      return;
    case TensorType::kQ4_K:
      ReadScalesAndOffsets(block, out);
      for (int chunk = 0; chunk < 4; ++chunk) {
        ReadNibbles64(block + 16 + 32 * chunk, out.code + 64 * chunk);
      }
      return;
    case TensorType::kQ5_K:
      return ReadQ5K(block, out);
    case TensorType::kQ6_K:
      return ReadQ6K(block, out);
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBf16:
      return;
  }
}

}  // namespace holdfast
