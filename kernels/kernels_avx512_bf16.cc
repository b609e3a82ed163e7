// Compiled with -mavx512f -mavx512bw -mavx512bf16; reached only on processors that have them beside
// what Avx512VnniKernels() needs.
//
// vdpbf16ps adds two products to a lane, one fused multiply-add after the other: of the upper
// halves, then of the lower. A matrix unit's sums (kernel_table.h) are two chains, of even and of
// odd inputs. Both are met by pairing each input with the next of its own chain: 4j above 4j + 2,
// 4j + 1 above 4j + 3.
#include <immintrin.h>

#include "kernels/kernel_paths.h"
#include "kernels/packed_layout.h"
#include "kernels/unroll.inl"

namespace holdfast {
namespace {

#define HOLDFAST_INLINE [[gnu::always_inline]] inline

constexpr int32_t kRowsAtOnce = 4;  // by a panel's three tiles: 24 registers of sums
// From here on weights are paired once instead of with every few rows.
constexpr int32_t kPairRows = 16;
// Blocks of a panel at once: 27 KB of paired weights, in a first-level cache of 48 KB.
constexpr int32_t kPairBlocks = 9;
constexpr int64_t kBytesAhead = 3072;  // as in bf16_matmul.inl

constexpr __mmask32 kUpperHalves = 0xaaaaaaaa;

HOLDFAST_INLINE __m512i LoadLine(const std::byte* p) { return _mm512_load_si512(p); }
// Of pairs 2j and 2j + 1 of a tile, `a` and `b`.
HOLDFAST_INLINE __m512i EvenOf(__m512i a, __m512i b) {
  return _mm512_mask_blend_epi16(kUpperHalves, b, _mm512_slli_epi32(a, 16));
}
HOLDFAST_INLINE __m512i OddOf(__m512i a, __m512i b) {
  return _mm512_mask_blend_epi16(kUpperHalves, _mm512_srli_epi32(b, 16), a);
}

// A block of a panel as packed_layout.h has it. Asks for the weights further on.
struct PackedBlock {
  const std::byte* at;

  HOLDFAST_INLINE __m512i Even(int tile, int j) const {
    const std::byte* line = at + tile * kTileBytes + 128 * j;
    __builtin_prefetch(line + kBytesAhead, 0, 2);
    __builtin_prefetch(line + kBytesAhead + 64, 0, 2);
    return EvenOf(LoadLine(line), LoadLine(line + 64));
  }
  HOLDFAST_INLINE __m512i Odd(int tile, int j) const {
    const std::byte* line = at + tile * kTileBytes + 128 * j;
    return OddOf(LoadLine(line), LoadLine(line + 64));
  }
};

// The same with inputs paired: even and odd lines in turn, of all tiles together.
struct PairedBlock {
  const std::byte* at;

  HOLDFAST_INLINE __m512i Even(int tile, int j) const {
    return LoadLine(at + 64 * (2 * kPanelTiles * j + tile));
  }
  HOLDFAST_INLINE __m512i Odd(int tile, int j) const {
    return LoadLine(at + 64 * (2 * kPanelTiles * j + kPanelTiles + tile));
  }
};

// 32 inputs of a row, paired: even and odd in turn.
HOLDFAST_INLINE void PairInputs(const uint16_t* x, uint32_t* out) {
  const __m512i pairs = _mm512_set_epi16(29, 31, 28, 30, 25, 27, 24, 26, 21, 23, 20, 22, 17, 19, 16,
                                         18, 13, 15, 12, 14, 9, 11, 8, 10, 5, 7, 4, 6, 1, 3, 0, 2);
  _mm512_store_si512(out, _mm512_permutexvar_epi16(pairs, _mm512_loadu_si512(x)));
}

// sums[r] += even + odd over a block, for kRows rows; x: [kRows][16], sums: [kRows][48].
template <int kRows, typename Block>
HOLDFAST_INLINE void AddBlock(Block weights, const uint32_t* x, float* sums) {
  constexpr int kSums = kRows * kPanelTiles;
  __m512 even[kSums], odd[kSums];
  ForEach<kSums>(HOLDFAST_EACH { even[i] = odd[i] = _mm512_setzero_ps(); });
  const auto add = [&](const __m512i(&w)[kPanelTiles], const uint32_t* inputs,
                       __m512(&chain)[kSums]) __attribute__((always_inline)) {
    ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
      const auto input = (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(inputs[16 * r]));
      ForEach<kPanelTiles>(HOLDFAST_EACH {
        __m512& sum = chain[kPanelTiles * r + i];
        sum = _mm512_dpbf16_ps(sum, (__m512bh)w[i], input);
      });
    });
  };
  for (int j = 0; j < 8; ++j) {
    __m512i w[kPanelTiles];
    ForEach<kPanelTiles>(HOLDFAST_EACH { w[i] = weights.Even(i, j); });
    add(w, x + 2 * j, even);
    ForEach<kPanelTiles>(HOLDFAST_EACH { w[i] = weights.Odd(i, j); });
    add(w, x + 2 * j + 1, odd);
  }
  ForEach<kSums>(HOLDFAST_EACH {
    float* const sum = sums + 16 * i;
    _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), _mm512_add_ps(even[i], odd[i])));
  });
}

// Of the outputs of a panel that are left, those of a tile.
HOLDFAST_INLINE __mmask16 TileMask(int32_t outputs, int tile) {
  const int32_t left = outputs - 16 * tile;
  return static_cast<__mmask16>(left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
}

// Blocks [begin, end) of one panel, the first of them at `first`, for rows [row, row_end), kRows at
// a time; those that are left by half as many. Sums begin at y, or with block 0 at zero.
template <int kRows, typename Block>
void MultiplyRows(Block first, const Bf16Rows& x, int32_t k, int32_t begin, int32_t end,
                  int32_t row, int32_t row_end, float* y, int64_t y_stride, int32_t outputs) {
  for (; row + kRows <= row_end; row += kRows) {
    alignas(64) float sums[kRows][kFloatPanelRows];
    ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
      ForEach<kPanelTiles>(HOLDFAST_EACH {
        const __mmask16 mask = begin > 0 ? TileMask(outputs, i) : __mmask16{0};
        const float* at = y + (row + r) * y_stride + 16 * i;
        __builtin_prefetch(at, 1);  // as in quantized_matmul.inl
        _mm512_store_ps(sums[r] + 16 * i, _mm512_maskz_loadu_ps(mask, at));
      });
    });
    Block block = first;
    for (int32_t b = begin; b < end; ++b) {
      alignas(64) uint32_t inputs[kRows * 16];
      ForEach<kRows>(HOLDFAST_EACH {
        PairInputs(x.values + 32 * RowBlocks::At(row + i, b, k), inputs + 16 * i);
      });
      AddBlock<kRows>(block, inputs, sums[0]);
      block.at += kPanelTiles * kTileBytes;
    }
    ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
      ForEach<kPanelTiles>(HOLDFAST_EACH {
        float* at = y + (row + r) * y_stride + 16 * i;
        _mm512_mask_storeu_ps(at, TileMask(outputs, i), _mm512_load_ps(sums[r] + 16 * i));
      });
    });
  }
  if constexpr (kRows > 1) {
    MultiplyRows<kRows / 2>(first, x, k, begin, end, row, row_end, y, y_stride, outputs);
  }
}

void MultiplyManyRows(const std::byte* panel, const Bf16Rows& x, int32_t k, int32_t row_begin,
                      int32_t row_end, float* y, int64_t y_stride, int32_t outputs) {
  alignas(64) std::byte paired[kPairBlocks * kPanelTiles * kTileBytes];
  const int32_t blocks = (k + 31) / 32, spans = (blocks + kPairBlocks - 1) / kPairBlocks;
  PackedBlock packed{panel};
  for (int32_t s = 0; s < spans; ++s) {
    const int32_t begin = blocks * s / spans, end = blocks * (s + 1) / spans;
    std::byte* out = paired;
    for (int32_t b = begin; b < end; ++b) {
      for (int j = 0; j < 8; ++j) {
        for (int tile = 0; tile < kPanelTiles; ++tile) {
          _mm512_store_si512(out + 64 * tile, packed.Even(tile, j));
          _mm512_store_si512(out + 64 * (kPanelTiles + tile), packed.Odd(tile, j));
        }
        out += 2 * kPanelTiles * 64;
      }
      packed.at += kPanelTiles * kTileBytes;
    }
    MultiplyRows<kRowsAtOnce>(PairedBlock{paired}, x, k, begin, end, row_begin, row_end, y,
                              y_stride, outputs);
  }
}

void Bf16Matmul(const FloatMatrix& w, const Bf16Rows& x, int32_t row_begin, int32_t row_end,
                int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  for (int32_t p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + FloatPanelBytes(w.type, w.k) * static_cast<size_t>(p);
    const int32_t column = p * kFloatPanelRows;
    if (row_end - row_begin >= kPairRows) {
      MultiplyManyRows(panel, x, w.k, row_begin, row_end, y + column, y_stride, w.n - column);
    } else {
      MultiplyRows<kRowsAtOnce>(PackedBlock{panel}, x, w.k, 0, (w.k + 31) / 32, row_begin, row_end,
                                y + column, y_stride, w.n - column);
    }
  }
}

#undef HOLDFAST_INLINE

}  // namespace

KernelTable Avx512Bf16Kernels() {
  KernelTable kernels = Avx512VnniKernels();
  kernels.isa = Isa::kAvx512Bf16;
  kernels.name = "avx512-bf16";
  kernels.bf16_matmul = Bf16Matmul;
  return kernels;
}

}  // namespace holdfast
