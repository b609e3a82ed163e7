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

// A tile of 32 inputs by 16 outputs as packed. Asks for the weights further on.
struct PackedTile {
  static constexpr int64_t kStep = kTileBytes;

  const std::byte* at;

  F32x16 LoadEven(int pair) const {
    F32x16 even, odd;
    LoadBf16Pairs(at + 64 * pair, even, odd);
    __builtin_prefetch(at + 64 * pair + kBf16BytesAhead, 0, 2);
    return even;
  }
  F32x16 LoadOdd(int pair) const {
    F32x16 even, odd;
    LoadBf16Pairs(at + 64 * pair, even, odd);
    return odd;
  }
};

// The same with each weight widened, pairs of vectors one after the other.
struct WidenedTile {
  static constexpr int64_t kStep = 2 * kTileBytes / sizeof(float);

  const float* at;

  F32x16 LoadEven(int pair) const { return Load(at + 32 * pair); }
  F32x16 LoadOdd(int pair) const { return Load(at + 32 * pair + 16); }
};

// sums[r][..16] += even + odd over a tile, for kRows rows; `sums`: [kRows][kFloatPanelRows].
template <int kRows, typename Tile>
[[gnu::always_inline]] inline void AddTile(Tile tile, const float (&x)[kRows][32], float* sums) {
  F32x16 even[kRows], odd[kRows];
  ForEach<kRows>(HOLDFAST_EACH { even[i] = odd[i] = Zero(); });
  constexpr int kAtOnce = 4;  // else the loop itself is a third of one row's instructions
  for (int begin = 0; begin < 16; begin += kAtOnce) {
    ForEach<kAtOnce>([&](auto step) __attribute__((always_inline)) {
      const int pair = begin + step;
      // One after the other: of 16 registers, three rows leave four.
      const F32x16 first = tile.LoadEven(pair);
      ForEach<kRows>(HOLDFAST_EACH { even[i] = Fma(first, Splat(x[i][2 * pair]), even[i]); });
      const F32x16 second = tile.LoadOdd(pair);
      ForEach<kRows>(HOLDFAST_EACH { odd[i] = Fma(second, Splat(x[i][2 * pair + 1]), odd[i]); });
    });
  }
  ForEach<kRows>(HOLDFAST_EACH {
    float* const sum = sums + i * kFloatPanelRows;
    Store(sum, Add(Load(sum), Add(even[i], odd[i])));
  });
}

// Blocks [begin, end) of one panel, whose tiles of them begin at `first`, for rows [row, row_end),
// kRows at a time; those that are left by about half as many. Sums begin at y, or with block 0 at
// zero.
template <int kRows, typename Tile>
void MultiplyBf16Rows(Tile first, const Bf16Rows& x, int32_t k, int32_t begin, int32_t end,
                      int32_t row, int32_t row_end, float* y, int64_t y_stride, int32_t outputs) {
  const auto columns = static_cast<size_t>(Least(outputs, kFloatPanelRows)) * sizeof(float);
  for (; row + kRows <= row_end; row += kRows) {
    alignas(64) float sums[kRows][kFloatPanelRows] = {};
    if (begin > 0) {
      for (int r = 0; r < kRows; ++r) __builtin_memcpy(sums[r], y + (row + r) * y_stride, columns);
    }
    Tile tile = first;
    for (int32_t block = begin; block < end; ++block) {
      alignas(64) float inputs[kRows][32];
      ForEach<kRows>(HOLDFAST_EACH {
        const uint16_t* values = x.values + 32 * RowBlocks::At(row + i, block, k);
        Store(inputs[i], LoadBf16(values));
        Store(inputs[i] + 16, LoadBf16(values + 16));
      });
      for (int t = 0; t < kPanelTiles; ++t) {
        AddTile<kRows>(tile, inputs, sums[0] + 16 * t);
        tile.at += Tile::kStep;
      }
    }
    for (int r = 0; r < kRows; ++r) __builtin_memcpy(y + (row + r) * y_stride, sums[r], columns);
  }
  if constexpr (kRows > 1) {
    MultiplyBf16Rows<(kRows + 1) / 2>(first, x, k, begin, end, row, row_end, y, y_stride, outputs);
  }
}

// From here on weights are widened once instead of with every few rows: at 16 rows AVX-512 lost 12
// %.
inline constexpr int32_t kWidenRows = 32;
// Blocks of a panel at once: 24 KB, so that a first-level cache of 32 KB holds them.
inline constexpr int32_t kWidenBlocks = 4;

void MultiplyManyBf16Rows(const std::byte* panel, const Bf16Rows& x, int32_t k, int32_t row_begin,
                          int32_t row_end, float* y, int64_t y_stride, int32_t outputs) {
  alignas(64) float widened[kWidenBlocks * kPanelTiles * WidenedTile::kStep];
  const int32_t blocks = (k + 31) / 32;
  const std::byte* packed = panel;
  for (int32_t begin = 0; begin < blocks; begin += kWidenBlocks) {
    const int32_t end = Least(begin + kWidenBlocks, blocks);
    for (int32_t pair = 0; pair < (end - begin) * kPanelTiles * 16; ++pair) {
      Store(widened + 32 * pair, PackedTile{packed}.LoadEven(0));
      Store(widened + 32 * pair + 16, PackedTile{packed}.LoadOdd(0));
      packed += 64;
    }
    MultiplyBf16Rows<kBf16Rows>(WidenedTile{widened}, x, k, begin, end, row_begin, row_end, y,
                                y_stride, outputs);
  }
}

void Bf16Matmul(const FloatMatrix& w, const Bf16Rows& x, int32_t row_begin, int32_t row_end,
                int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  for (int32_t p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + FloatPanelBytes(w.type, w.k) * static_cast<size_t>(p);
    const int32_t column = p * kFloatPanelRows;
    if (row_end - row_begin >= kWidenRows) {
      MultiplyManyBf16Rows(panel, x, w.k, row_begin, row_end, y + column, y_stride, w.n - column);
    } else {
      MultiplyBf16Rows<kBf16Rows>(PackedTile{panel}, x, w.k, 0, (w.k + 31) / 32, row_begin, row_end,
                                  y + column, y_stride, w.n - column);
    }
  }
}

}  // namespace
}  // namespace holdfast
