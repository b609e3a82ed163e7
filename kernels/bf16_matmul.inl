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

inline constexpr int64_t kBf16BytesAhead = 4096;

// sums[r][..] += even + odd over a block of 32 inputs of kRows rows, for kVectors vectors of
// outputs; `weights` at the first of those vectors in the block, `sums` [kRows][kFloatPanelRows].
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void AddBf16Block(const std::byte* weights,
                                                const float (&x)[kRows][32], float* sums) {
  F32x16 even[kRows * kVectors], odd[kRows * kVectors];
  ForEach<kRows * kVectors>(HOLDFAST_EACH { even[i] = odd[i] = Zero(); });
  for (int at = 0; at < 32; at += 2) {
    ForEach<kVectors>([&](auto v) __attribute__((always_inline)) {
      F32x16 first, second;
      LoadBf16Pairs(weights + 64 * v, first, second);
      ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
        constexpr int kSum = r * kVectors + v;
        even[kSum] = Fma(first, Splat(x[r][at]), even[kSum]);
        odd[kSum] = Fma(second, Splat(x[r][at + 1]), odd[kSum]);
      });
      __builtin_prefetch(weights + 64 * v + kBf16BytesAhead);  // as in MultiplyFloatTile
    });
    weights += kPairsBytes;
  }
  ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
    ForEach<kVectors>(HOLDFAST_EACH {
      float* const sum = sums + r * kFloatPanelRows + 16 * i;
      Store(sum, Add(Load(sum), Add(even[r * kVectors + i], odd[r * kVectors + i])));
    });
  });
}

// Rows of one panel, kRows at a time, while there are as many; returns the first that is left.
template <int kRows, int kVectors>
int32_t MultiplyBf16Rows(const std::byte* panel, const Bf16Rows& x, int32_t k, int32_t row,
                         int32_t row_end, float* y, int64_t y_stride, int32_t outputs) {
  for (; row + kRows <= row_end; row += kRows) {
    alignas(64) float sums[kRows][kFloatPanelRows] = {};
    const std::byte* weights = panel;
    for (int32_t block = 0; block < (k + 31) / 32; ++block) {
      alignas(64) float inputs[kRows][32];
      ForEach<kRows>(HOLDFAST_EACH {
        const uint16_t* values = x.values + 32 * RowBlocks::At(row + i, block, k);
        Store(inputs[i], LoadBf16(values));
        Store(inputs[i] + 16, LoadBf16(values + 16));
      });
      for (int v = 0; v < kFloatPanelVectors; v += kVectors) {
        AddBf16Block<kRows, kVectors>(weights + 64 * v, inputs, sums[0] + 16 * v);
      }
      weights += kPairsBlockBytes;
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kFloatPanelVectors; ++v) {
        StoreUpTo(y + (row + r) * y_stride + 16 * v, outputs - 16 * v, Load(sums[r] + 16 * v));
      }
    }
  }
  return row;
}

void Bf16Matmul(const FloatMatrix& w, const Bf16Rows& x, int32_t row_begin, int32_t row_end,
                int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  for (int32_t p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + FloatPanelBytes(w.type, w.k) * static_cast<size_t>(p);
    const int32_t column = p * kFloatPanelRows;
    const auto multiply = [&](auto tile_rows, auto vectors, int32_t row) {
      return MultiplyBf16Rows<tile_rows, vectors>(panel, x, w.k, row, row_end, y + column, y_stride,
                                                  w.n - column);
    };
    int32_t row = multiply(Constant<kBf16Rows>{}, Constant<kBf16Vectors>{}, row_begin);
    row = multiply(Constant<2>{}, Constant<kBf16Vectors>{}, row);
    multiply(Constant<1>{}, Constant<kFloatPanelVectors>{}, row);
  }
}

}  // namespace
}  // namespace holdfast
