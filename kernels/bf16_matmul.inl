// The product with bf16 weights, packed as in packed_layout.h, and the rounding of its activations.
// Written once over the lanes of the including path; kernel_table.h says which sums are made.

namespace holdfast {
namespace {

void RoundRows(const float* x, int32_t row_begin, int32_t row_end, int32_t k, const Bf16Rows& out) {
  const F32x16 least = Splat(kLeastBf16), most_negative = Splat(-kLeastBf16);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* row = x + (r - row_begin) * k;
    for (int32_t at = 0; at < (k + 31) / 32 * 32; at += 16) {
      F32x16 v = Zero();
      if (const int32_t left = k - at; left >= 16) {
        v = Load(row + at);
      } else if (left > 0) {
        v = LoadPartial(row + at, left);
      }
      v = SelectLess(v, least, SelectLess(most_negative, v, Zero(), v), v);
      StoreBf16(out.values + 32 * RowBlocks::At(r, at / 32, k) + at % 32, v);
    }
  }
}

// How far ahead lines are asked for, into the second-level cache: of 270 MB two cores read 23 GB/s
// with 4 KB into the first, 29 so.
inline constexpr int64_t kBf16BytesAhead = 3072;

// sums[r][..16] += even + odd over a tile of 32 inputs and 16 outputs, for kRows rows; `sums`:
// [kRows][kFloatPanelRows].
template <int kRows>
[[gnu::always_inline]] inline void AddTile(const std::byte* tile, const float (&x)[kRows][32],
                                           float* sums) {
  F32x16 even[kRows], odd[kRows];
  ForEach<kRows>(HOLDFAST_EACH { even[i] = odd[i] = Zero(); });
  for (int at = 0; at < 32; at += 2) {
    F32x16 first, second;
    LoadBf16Pairs(tile, first, second);
    ForEach<kRows>(HOLDFAST_EACH {
      even[i] = Fma(first, Splat(x[i][at]), even[i]);
      odd[i] = Fma(second, Splat(x[i][at + 1]), odd[i]);
    });
    __builtin_prefetch(tile + kBf16BytesAhead, 0, 2);
    tile += 64;
  }
  ForEach<kRows>(HOLDFAST_EACH {
    float* const sum = sums + i * kFloatPanelRows;
    Store(sum, Add(Load(sum), Add(even[i], odd[i])));
  });
}

// The rows of one panel, kRows at a time; those that are left by about half as many.
template <int kRows>
void MultiplyBf16Rows(const std::byte* panel, const Bf16Rows& x, int32_t k, int32_t row,
                      int32_t row_end, float* y, int64_t y_stride, int32_t outputs) {
  for (; row + kRows <= row_end; row += kRows) {
    alignas(64) float sums[kRows][kFloatPanelRows] = {};
    const std::byte* tile = panel;
    for (int32_t block = 0; block < (k + 31) / 32; ++block) {
      alignas(64) float inputs[kRows][32];
      ForEach<kRows>(HOLDFAST_EACH {
        const uint16_t* values = x.values + 32 * RowBlocks::At(row + i, block, k);
        Store(inputs[i], LoadBf16(values));
        Store(inputs[i] + 16, LoadBf16(values + 16));
      });
      for (int t = 0; t < kPanelTiles; ++t) {
        AddTile<kRows>(tile, inputs, sums[0] + 16 * t);
        tile += kTileBytes;
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kPanelTiles; ++t) {
        StoreUpTo(y + (row + r) * y_stride + 16 * t, outputs - 16 * t, Load(sums[r] + 16 * t));
      }
    }
  }
  if constexpr (kRows > 1) {
    MultiplyBf16Rows<(kRows + 1) / 2>(panel, x, k, row, row_end, y, y_stride, outputs);
  }
}

void Bf16Matmul(const FloatMatrix& w, const Bf16Rows& x, int32_t row_begin, int32_t row_end,
                int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  for (int32_t p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + FloatPanelBytes(w.type, w.k) * static_cast<size_t>(p);
    const int32_t column = p * kFloatPanelRows;
    MultiplyBf16Rows<kBf16Rows>(panel, x, w.k, row_begin, row_end, y + column, y_stride,
                                w.n - column);
  }
}

}  // namespace
}  // namespace holdfast
