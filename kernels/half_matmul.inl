// The product with weights of two bytes (f16, bf16), written once over the lanes of the including
// path: widened to f32, which is exact, times activations in f32.
//
//   y[r][n] = fma(x[r][k - 1], w[n][k - 1], ... fma(x[r][0], w[n][0], 0))
//
// one sum an output, k ascending, whatever the rows and panels at once and the path.

namespace holdfast {
namespace {

template <TensorType kType>
inline F32x16 LoadTwoBytes(const void* p) {
  if constexpr (kType == TensorType::kF16) return LoadHalf(p);
  return LoadBf16(p);
}

// A span of k of kRows rows and kPanels panels. `weight(i, k)` gives panel i's 16 weights of input
// k; the sums begin with what is in y unless the span is the first.
template <int kRows, int kPanels, typename Weight>
[[gnu::always_inline]] inline void MultiplyHalfTile(const Weight& weight, int32_t k, const float* x,
                                                    int64_t x_stride, bool first, float* y,
                                                    int64_t y_stride, int32_t columns) {
  F32x16 acc[kRows * kPanels];
  ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
    ForEach<kPanels>(HOLDFAST_EACH {
      const float* at = y + r * y_stride + i * kPanelRows;
      const int32_t left = columns - i * kPanelRows;
      F32x16& sum = acc[r * kPanels + i];
      sum = first ? Zero() : left >= kPanelRows ? Load(at) : LoadPartial(at, left);
    });
  });
  for (int32_t at = 0; at < k; ++at) {
    F32x16 w[kPanels];
    ForEach<kPanels>(HOLDFAST_EACH { w[i] = weight(i, at); });
    ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
      const F32x16 input = Splat(x[r * x_stride + at]);
      ForEach<kPanels>(
          HOLDFAST_EACH { acc[r * kPanels + i] = Fma(w[i], input, acc[r * kPanels + i]); });
    });
  }
  ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
    ForEach<kPanels>(HOLDFAST_EACH {
      StoreColumns(y + r * y_stride + i * kPanelRows, columns - i * kPanelRows,
                   acc[r * kPanels + i]);
    });
  });
}

// Rows [row, rows) by tiles of kRows and then of halves of it, all of kPanels panels.
template <int kRows, int kPanels, typename Weight>
void MultiplyHalfRows(const Weight& weight, int32_t k, const float* x, int64_t x_stride,
                      int32_t row, int32_t rows, bool first, float* y, int64_t y_stride,
                      int32_t columns) {
  for (; row + kRows <= rows; row += kRows) {
    MultiplyHalfTile<kRows, kPanels>(weight, k, x + row * x_stride, x_stride, first,
                                     y + row * y_stride, y_stride, columns);
  }
  if constexpr (kRows > 1) {
    MultiplyHalfRows<kRows / 2, kPanels>(weight, k, x, x_stride, row, rows, first, y, y_stride,
                                         columns);
  }
}

// Widened once for many rows, a span of k at a time that the first-level cache holds.
template <TensorType kType, int kPanels>
void MultiplyManyHalfRows(const std::byte* panels, size_t panel_bytes, int32_t k, const float* x,
                          int64_t x_stride, int32_t rows, float* y, int64_t y_stride,
                          int32_t columns) {
  constexpr int32_t kSpan = 128;
  alignas(64) float wide[kSpan][kPanels][kPanelRows];
  for (int32_t begin = 0; begin < k; begin += kSpan) {
    const int32_t span = Least(kSpan, k - begin);
    for (int i = 0; i < kPanels; ++i) {
      const std::byte* at = panels + i * panel_bytes + begin * size_t{2 * kPanelRows};
      for (int32_t j = 0; j < span; ++j, at += 2 * kPanelRows) {
        Store(wide[j][i], LoadTwoBytes<kType>(at));
      }
    }
    const auto weight = [&wide](int i, int32_t at) __attribute__((always_inline)) {
      return Load(wide[at][i]);
    };
    MultiplyHalfRows<kHalfRows, kPanels>(weight, span, x + begin, x_stride, 0, rows, begin == 0, y,
                                         y_stride, columns);
  }
}

template <TensorType kType, int kRows, int kPanels>
void MultiplyHalfPanels(const std::byte* panels, size_t panel_bytes, int32_t k, const float* x,
                        int64_t x_stride, int32_t rows, float* y, int64_t y_stride,
                        int32_t columns) {
  constexpr int32_t kWidenRows = 32;
  if (rows >= kWidenRows) {
    return MultiplyManyHalfRows<kType, kPanels>(panels, panel_bytes, k, x, x_stride, rows, y,
                                                y_stride, columns);
  }
  const auto weight = [=](int i, int32_t at) __attribute__((always_inline)) {
    return LoadTwoBytes<kType>(panels + i * panel_bytes + at * size_t{2 * kPanelRows});
  };
  MultiplyHalfRows<kRows, kPanels>(weight, k, x, x_stride, 0, rows, true, y, y_stride, columns);
}

template <TensorType kType>
void MultiplyHalf(const PackedMatrix& w, const float* x, int32_t rows, int64_t x_stride,
                  int32_t panel, int32_t panel_end, float* y, int64_t y_stride) {
  const size_t panel_bytes = HalfPanelBytes(w.k);
  const auto take = [&](auto kernel_rows, auto panels) __attribute__((always_inline)) {
    for (; panel + panels <= panel_end; panel += panels) {
      const int32_t column = panel * kPanelRows;
      MultiplyHalfPanels<kType, kernel_rows, panels>(
          w.data + static_cast<size_t>(panel) * panel_bytes, panel_bytes, w.k, x, x_stride, rows,
          y + column, y_stride, w.n - column);
    }
  };
  if (rows == 1) take(Constant<1>{}, Constant<4>{});  // four sums: one has to wait for itself
  take(Constant<kHalfRows>{}, Constant<kHalfPanels>{});
  take(Constant<kHalfRows>{}, Constant<1>{});
}

void HalfMatmul(const PackedMatrix& w, const float* x, int32_t rows, int64_t x_stride,
                int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  if (w.type == TensorType::kF16) {
    MultiplyHalf<TensorType::kF16>(w, x, rows, x_stride, panel_begin, panel_end, y, y_stride);
  } else {
    MultiplyHalf<TensorType::kBf16>(w, x, rows, x_stride, panel_begin, panel_end, y, y_stride);
  }
}

}  // namespace
}  // namespace holdfast
