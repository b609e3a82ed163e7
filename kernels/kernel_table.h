// All CPU kernels of one instruction path, chosen once at run time. Arithmetic on raw memory: no
// allocation, no state, no policy, no failure; any thread, as long as outputs do not overlap.
//
// Promise 1 lives here. Each output element is one fixed sequence of operations, whatever the
// number of rows, panels or threads, and the sequence is the same on every instruction path: the
// integer dot products are exact, and float work is written once in 16 lanes (*.inl) and compiled
// per path with contraction off, so that scalar, AVX2 and AVX-512 agree bit for bit. What a matrix
// unit computes (bf16), the others repeat operation by operation. Only the payload of a NaN may
// differ.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/dtype.h"
#include "kernels/paged_attention.h"
#include "kernels/partial_attention.h"

namespace holdfast {

enum class Isa : uint8_t { kScalar, kAvx2, kAvx512Vnni, kAvx512Bf16, kAvx512Amx };
// In the order of what they need of a processor.
inline constexpr Isa kIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAvx512Bf16,
                                Isa::kAvx512Amx};

// Where the activations of a product lie that takes them in blocks of 32 along k (the last one
// filled up with zeros): sixteen rows together, block by block, so that a product of them reads
// memory in order and finds each at a constant distance.
struct RowBlocks {
  static constexpr int32_t kGroup = 16;

  // [rows / 16][k / 32][16], as if rows were whole groups.
  static constexpr size_t Count(int32_t rows, int32_t k) {
    const auto groups = static_cast<size_t>((rows + kGroup - 1) / kGroup);
    return groups * kGroup * static_cast<size_t>((k + 31) / 32);
  }
  static constexpr int64_t At(int64_t row, int64_t block, int32_t k) {
    return (row / kGroup * ((k + 31) / 32) + block) * kGroup + row % kGroup;
  }
};

// ---- Quantised matrix product -------------------------------------------------------------------
// y[r, n] = sum_k x[r, k] * w[n, k], w quantised, x quantised on the fly per row and block of 32.

inline constexpr int32_t kPanelRows = 16;  // weight rows (outputs) interleaved in one panel

// A view of weights repacked from any quantised TensorType into panels that every path reads:
// per panel and block of k, kPanelRows scales and offsets (f16 where the file has them so, else
// f32; w = scale * q + offset) and the unsigned codes q, interleaved by groups of 4 along k for
// 8-bit dot products. The exact bytes are the business of packed_layout.h, which also gives the
// sizes.
struct PackedMatrix {
  TensorType type = TensorType::kQ4_0;
  int32_t n = 0;                    // outputs; the last panel is padded with zero weights
  int32_t k = 0;                    // inputs, a multiple of 32
  const std::byte* data = nullptr;  // 64-byte aligned

  int32_t num_panels() const { return (n + kPanelRows - 1) / kPanelRows; }
};

// Bytes that PackRows writes; the caller allocates, 64-byte aligned.
size_t PackedMatrixBytes(TensorType type, int32_t n, int32_t k);
// Packs weight rows [row_begin, row_end) given as consecutive GGUF rows at `rows`; row_begin a
// multiple of kPanelRows, row_end too unless it is n. Parts of one matrix may be packed by several
// threads, and several tensors may be packed one after the other into one matrix (q, k, v) as long
// as each has a multiple of kPanelRows rows.
void PackRows(TensorType type, const std::byte* rows, int32_t n, int32_t k, int32_t row_begin,
              int32_t row_end, std::byte* packed);
// Any TensorType to f32: the loader's and the oracle's path. `count` a multiple of the block.
void DequantizeRow(TensorType type, const std::byte* row, int64_t count, float* out);

// Activations as integers in two bytes, with one scale per row and block of 32 along k, and block
// sums for offsets: x ~ scale * q, q = 256 * high + low, high and low in [-127, 127].
//
//   narrow block   8 bits:  high = round(x * 127 / max|x|), low = 0
//   wide block    16 bits:  q = round(x * 32639 / max|x|)
//
// All blocks of a row are wide (k16), or (kMixed) only those that would else bring most of its
// error: whose max|x| is large beside the row's others, max|x|^2 > kWideEnergy * mean of max|x|^2.
// That depends on the row alone, so promise 1 holds; the product leaves out the second byte where
// it is zero. A block whose max|x| is below 2^-60 counts as zero; one that is not finite gets q = 0
// and scale NaN.
//
// Why: with 8 bits throughout, outliers of normed activations leave their 31 neighbours 3 or 4
// bits, and their steps are far wider than those of all other blocks. docs/models.md has the
// perplexities.
enum class ActivationBits : uint8_t { kMixed, k16 };
inline constexpr float kWideEnergy = 2.0f;

// Row by row and block by block as RowBlocks says.
struct QuantizedRows {
  int8_t* high = nullptr;           // [32] a block
  int8_t* low = nullptr;            // [32]
  float* scale = nullptr;           // [1]
  int32_t* negative_sum = nullptr;  // [2], for zero points: minus the sums of q over the block and
                                    // over its first half
  float* scaled_sum = nullptr;      // [1]: scale * sum of q, for offsets
  uint8_t* wide = nullptr;          // [1]: whether low may be other than 0
};

// ---- Float matrix product -----------------------------------------------------------------------
// y[r, n] = sum_k x[r, k] * w[n, k], w as it is stored: f32, f16 or bf16. With f32 and f16 x and
// all arithmetic are f32. With bf16 x is bf16 as well, and the sums are those of a matrix unit
// (TDPBF16PS): over each block of 32 inputs a chain of f32 fused multiply-adds of the even inputs
// and one of the odd, both from 0 and in order; then sum += even + odd, block by block.
//
// A matrix unit takes denormal numbers for zero, and other units do if told so. Here none comes up:
// bf16 numbers below kLeastBf16, weights or activations, count as zero. The others are multiples of
// 2^-63, so that products, and sums of those, are multiples of 2^-126 however they are rounded:
// zero or normal.

inline constexpr int32_t kFloatPanelRows = 48;  // weight rows (outputs) side by side in one panel
inline constexpr float kLeastBf16 = 0x1p-56f;

// A view of weights repacked by PackFloatRows: of f32 and f16 [panels][k][kFloatPanelRows]; of bf16
// [panels][k / 32][kFloatPanelRows / 16][16][16][2], tiles of 16 pairs of inputs by 16 outputs, the
// last inputs filled up with zeros.
struct FloatMatrix {
  TensorType type = TensorType::kF32;
  int32_t n = 0;  // outputs; the last panel is padded with zero weights
  int32_t k = 0;
  const std::byte* data = nullptr;  // 64-byte aligned

  int32_t num_panels() const { return (n + kFloatPanelRows - 1) / kFloatPanelRows; }
};

// Bytes that PackFloatRows writes; the caller allocates, 64-byte aligned.
size_t FloatMatrixBytes(TensorType type, int32_t n, int32_t k);
// Packs weight rows [row_begin, row_end), which lie row-major at `rows`; row_begin a multiple of
// kFloatPanelRows, row_end too unless it is n.
void PackFloatRows(TensorType type, const std::byte* rows, int32_t k, int32_t row_begin,
                   int32_t row_end, std::byte* packed);

// Activations rounded to bf16, to nearest even. Row by row and block by block as RowBlocks says.
struct Bf16Rows {
  uint16_t* values = nullptr;  // [32] a block
};

// ---- The table ----------------------------------------------------------------------------------

enum class RopePairing : uint8_t {
  kInterleaved,  // pairs (2i, 2i+1): GGUF files of the Llama family
  kHalves        // pairs (i, i + d/2): Hugging Face weights; GGUF Qwen family
};

struct KernelTable {
  Isa isa;
  const char* name;
  int32_t matmul_panels;  // that quantized_matmul takes at once: best given multiples of it

  // Rows [row_begin, row_end) of `out` from as many rows at x.
  void (*quantize_rows)(const float* x, int32_t row_begin, int32_t row_end, int32_t k,
                        ActivationBits bits, const QuantizedRows& out);
  // Panels [panel_begin, panel_end): y row r at y + r * y_stride, columns of those panels; columns
  // >= w.n are not written.
  void (*quantized_matmul)(const PackedMatrix& w, const QuantizedRows& x, int32_t row_begin,
                           int32_t row_end, int32_t panel_begin, int32_t panel_end, float* y,
                           int64_t y_stride);
  // The same of f32 and f16 weights; x: [rows][k] without gaps.
  void (*float_matmul)(const FloatMatrix& w, const float* x, int32_t rows, int32_t panel_begin,
                       int32_t panel_end, float* y, int64_t y_stride);
  // The two of bf16 weights; row_begin of the second a multiple of RowBlocks::kGroup.
  void (*round_rows)(const float* x, int32_t row_begin, int32_t row_end, int32_t k,
                     const Bf16Rows& out);
  void (*bf16_matmul)(const FloatMatrix& w, const Bf16Rows& x, int32_t row_begin, int32_t row_end,
                      int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride);

  // out[r,h] = x[r,h] * weight[h] / sqrt(mean_h(x[r,h]^2) + eps); out may alias x; sums in f32.
  void (*rms_norm)(const float* x, int64_t x_stride, const float* weight, int32_t rows,
                   int32_t hidden, float eps, float* out, int64_t out_stride);
  // Rotates num_heads heads of one row in place; cos_sin: [rope_dim / 2][2] for its position. Only
  // the first rope_dim of head_dim places are rotated.
  void (*rope)(float* heads, int32_t num_heads, int32_t head_dim, int32_t rope_dim,
               RopePairing pairing, const float* cos_sin);
  // out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; out may alias either.
  void (*swiglu)(const float* gate, const float* up, int64_t count, float* out);
  void (*add)(const float* x, int64_t count, float* inout);  // inout += x
  // Writes K and V [head_dim] f32 of one token to place `slot` (0..15) of one head's part of a
  // block (kv_layout.h), as paged_attention.h says for each element.
  void (*write_kv)(const float* key, const float* value, int32_t head_dim, KvElement element,
                   int32_t slot, std::byte* head_block);
  // As in paged_attention.h. num_rows and num_heads >= 1. Against double, on standard normal values
  // and scores of deviation 1.5: 4e-6 of max|V| for out, 1e-5 for lse.
  void (*attention)(const AttentionTile& tile);
  // As in partial_attention.h.
  void (*attention_part)(const AttentionPart& part);
  void (*merge_attention)(const AttentionMerge& merge);
  // Natural-log sum of exp over count logits, 16 lanes, fixed order.
  float (*log_sum_exp)(const float* logits, int32_t count);
  // out[i] = logits[i] where its bit of `words` is set (32 a word, the lowest first), -inf
  // elsewhere; out may be logits. Returns the largest.
  float (*withhold)(const float* logits, int64_t count, const uint32_t* words, float* out);
  // out[i] = exp((logits[i] - best) / temperature), 0 for a logit of -inf; best the largest, out
  // may be logits.
  void (*weigh_logits)(const float* logits, int64_t count, float best, float temperature,
                       float* out);
};

bool IsaSupported(Isa isa);             // by this CPU, system and build
Isa BestIsa();                          // the fastest supported
const KernelTable& KernelsOf(Isa isa);  // isa must be supported
const char* IsaName(Isa isa);  // "scalar", "avx2", "avx512-vnni", "avx512-bf16", "avx512-amx"

}  // namespace holdfast
