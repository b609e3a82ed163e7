// Compiled with -mamx-tile -mamx-bf16; reached only on processors that have them beside what
// Avx512VnniKernels() needs, and where the system lets this process use tiles.
#include "kernels/kernel_paths.h"
#include "kernels/packed_layout.h"
#include "kernels/tiles_amx.inl"

namespace holdfast {
namespace {

constexpr int32_t kTileRows = 16;
static_assert(kPanelTiles == 3 && RowBlocks::kGroup == kTileRows);

// A tile's lines asked for together, before its load does so in turn: of 270 MB two cores read 26
// GB/s without, 30 with it.
[[gnu::always_inline]] inline void AskForTile(const std::byte* tile) {
  for (size_t line = 0; line < kTileBytes; line += 64) __builtin_prefetch(tile + line);
}

// Tiles 0..2 = 16 rows from x on times a panel.
template <bool kFromMemory>
void MultiplyTiles(const std::byte* weights, const uint16_t* x, int32_t blocks) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  for (int32_t b = 0; b < blocks; ++b) {
    _tile_loadd(6, x, 64);
    if constexpr (kFromMemory) AskForTile(weights);
    _tile_loadd(3, weights, 64);
    _tile_dpbf16ps(0, 6, 3);
    if constexpr (kFromMemory) AskForTile(weights + kTileBytes);
    _tile_loadd(4, weights + kTileBytes, 64);
    _tile_dpbf16ps(1, 6, 4);
    if constexpr (kFromMemory) AskForTile(weights + 2 * kTileBytes);
    _tile_loadd(5, weights + 2 * kTileBytes, 64);
    _tile_dpbf16ps(2, 6, 5);
    x += kTileBytes / sizeof(uint16_t);
    weights += kPanelTiles * kTileBytes;
  }
}

// Tiles 0..2 to y; `rows` and `outputs` of them where there are no more.
void StoreTiles(float* y, int64_t y_stride, int32_t rows, int32_t outputs) {
  if (rows >= kTileRows && outputs >= kFloatPanelRows) {
    const auto stride = y_stride * 4;
    _tile_stored(0, y, stride);
    _tile_stored(1, y + 16, stride);
    _tile_stored(2, y + 32, stride);
    return;
  }
  alignas(64) float sums[kTileRows][kFloatPanelRows];
  _tile_stored(0, sums[0], sizeof sums[0]);
  _tile_stored(1, sums[0] + 16, sizeof sums[0]);
  _tile_stored(2, sums[0] + 32, sizeof sums[0]);
  const int32_t columns = outputs < kFloatPanelRows ? outputs : kFloatPanelRows;
  for (int32_t r = 0; r < kTileRows && r < rows; ++r) {
    __builtin_memcpy(y + r * y_stride, sums[r], static_cast<size_t>(columns) * sizeof(float));
  }
}

// Below as many rows the tiles would be emptier than the vectors.
constexpr int32_t kRowsMin = 2;

void Bf16Matmul(const FloatMatrix& w, const Bf16Rows& x, int32_t row_begin, int32_t row_end,
                int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  if (row_end - row_begin < kRowsMin) {
    Avx512VnniKernels().bf16_matmul(w, x, row_begin, row_end, panel_begin, panel_end, y, y_stride);
    return;
  }
  const int32_t blocks = (w.k + 31) / 32;
  _tile_loadconfig(&kTileConfig);
  for (int32_t p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + FloatPanelBytes(w.type, w.k) * static_cast<size_t>(p);
    const int32_t column = p * kFloatPanelRows;
    for (int32_t row = row_begin; row < row_end; row += kTileRows) {
      const uint16_t* rows = x.values + 32 * RowBlocks::At(row, 0, w.k);
      if (row == row_begin) {
        MultiplyTiles<true>(panel, rows, blocks);
      } else {
        MultiplyTiles<false>(panel, rows, blocks);
      }
      StoreTiles(y + row * y_stride + column, y_stride, row_end - row, w.n - column);
    }
  }
  _tile_release();
}

}  // namespace

KernelTable Avx512AmxKernels() {
  KernelTable kernels = Avx512VnniKernels();
  kernels.isa = Isa::kAvx512Amx;
  kernels.name = "avx512-amx";
  kernels.bf16_matmul = Bf16Matmul;
  return kernels;
}

}  // namespace holdfast
