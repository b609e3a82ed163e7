// The product with f32 and f16 weights, the latter widened in registers; packed as in
// packed_layout.h. Written once over the lanes of the including path.
//
// Each output is one sum over k in ascending order, every step a fused multiply-add in f32: 16
// outputs side by side in a vector, so that neither rows nor panels nor the path change a bit.

namespace holdfast {
namespace {

inline constexpr int kFloatPanelVectors = kFloatPanelRows / 16;
inline constexpr int64_t kFloatBytesAhead = 4096;

template <TensorType kType>
inline F32x16 LoadWeights(const std::byte* p) {
  if constexpr (kType == TensorType::kF32) return Load(reinterpret_cast<const float*>(p));
  if constexpr (kType == TensorType::kF16) return LoadHalf(p);
}

// kRows rows by kVectors vectors of outputs; `weights` at the first of those vectors in the panel.
template <TensorType kType, int kRows, int kVectors>
void MultiplyFloatTile(const std::byte* weights, int32_t k, const float* x, float* y,
                       int64_t y_stride, int32_t outputs) {
  constexpr int64_t kVectorBytes = int64_t{16} * FloatBytes(kType);
  F32x16 acc[kRows * kVectors];
  ForEach<kRows * kVectors>(HOLDFAST_EACH { acc[i] = Zero(); });
  for (int64_t at = 0; at < k; ++at) {
    F32x16 weight[kVectors];
    ForEach<kVectors>(
        HOLDFAST_EACH { weight[i] = LoadWeights<kType>(weights + i * kVectorBytes); });
    ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
      const F32x16 input = Splat(x[r * int64_t{k} + at]);
      ForEach<kVectors>(
          HOLDFAST_EACH { acc[r * kVectors + i] = Fma(weight[i], input, acc[r * kVectors + i]); });
    });
    // The next inputs' weights, also beyond a page's end, where the processor asks for none itself.
    __builtin_prefetch(weights + kFloatBytesAhead);
    if constexpr (kVectors * kVectorBytes > 64) __builtin_prefetch(weights + kFloatBytesAhead + 64);
    weights += kFloatPanelVectors * kVectorBytes;
  }
  ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
    ForEach<kVectors>(HOLDFAST_EACH {
      StoreUpTo(y + r * y_stride + 16 * i, outputs - 16 * i, acc[r * kVectors + i]);
    });
  });
}

// All rows of one panel, kVectors vectors at a time: its weights stay near while the rows go by.
template <TensorType kType, int kRows, int kVectors>
int32_t MultiplyFloatRows(const std::byte* panel, int32_t k, const float* x, int32_t row,
                          int32_t rows, float* y, int64_t y_stride, int32_t outputs) {
  for (; row + kRows <= rows; row += kRows) {
    for (int32_t v = 0; v < kFloatPanelVectors; v += kVectors) {
      MultiplyFloatTile<kType, kRows, kVectors>(panel + int64_t{16} * v * FloatBytes(kType), k,
                                                x + int64_t{row} * k, y + row * y_stride + 16 * v,
                                                y_stride, outputs - 16 * v);
    }
  }
  return row;
}

template <TensorType kType>
void MultiplyFloatPanels(const FloatMatrix& w, const float* x, int32_t rows, int32_t panel_begin,
                         int32_t panel_end, float* y, int64_t y_stride) {
  for (int32_t p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + static_cast<int64_t>(FloatPanelBytes(kType, w.k)) * p;
    const int32_t column = p * kFloatPanelRows;
    const int32_t outputs = Least(kFloatPanelRows, w.n - column);
    const auto multiply = [&](auto tile_rows, auto vectors, int32_t row) {
      return MultiplyFloatRows<kType, tile_rows, vectors>(panel, w.k, x, row, rows, y + column,
                                                          y_stride, outputs);
    };
    int32_t row = multiply(Constant<kFloatRows>{}, Constant<kFloatVectors>{}, 0);
    row = multiply(Constant<kFloatRows / 2>{}, Constant<kFloatVectors>{}, row);
    row = multiply(Constant<2>{}, Constant<kFloatVectors>{}, row);
    multiply(Constant<1>{}, Constant<kFloatPanelVectors>{}, row);
  }
}

void FloatMatmul(const FloatMatrix& w, const float* x, int32_t rows, int32_t panel_begin,
                 int32_t panel_end, float* y, int64_t y_stride) {
  const auto multiply = w.type == TensorType::kF32 ? MultiplyFloatPanels<TensorType::kF32>
                                                   : MultiplyFloatPanels<TensorType::kF16>;
  multiply(w, x, rows, panel_begin, panel_end, y, y_stride);
}

}  // namespace
}  // namespace holdfast
