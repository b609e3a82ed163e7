// Quantised product, written once; DotCodes and the lanes come from the path's own file.
//
// For each output and block of 32 (or 16, Q6_K) along k, ascending:
//   y = fma(offset, x_scale * sum_x, y)                        if the type has offsets
//   y = fma(scale * x_scale, sum (code - zero_point) * x, y)
// An activation is 254 * high + low, two signed bytes, so that the same dot product of bytes serves
// both: dot = 254 * dot(high) + dot(low). The sums are exact in int32 (32 * 255 * 32384), each
// other operation rounds once; so neither the path nor the number of rows at once can change a bit.

namespace holdfast {
namespace {

inline I32x16 Times254(I32x16 x) { return SubInt(ShiftLeft<8>(x), ShiftLeft<1>(x)); }

template <bool kHalf>
inline F32x16 LoadScales(const std::byte* p) {
  if constexpr (kHalf) {
    return LoadHalf(p);
  } else {
    return Load(reinterpret_cast<const float*>(p));
  }
}

// Rows first_row .. first_row + kRows of y for one panel.
template <TensorType kType, int kRows>
void MultiplyPanel(const std::byte* panel, const QuantizedRows& x, int32_t k, int32_t first_row,
                   float* y, int64_t y_stride, int32_t columns) {
  constexpr CodeFormat kFormat = FormatOf(kType);
  constexpr size_t kCodeBytes = CodeBytesPerBlock(kFormat);
  constexpr size_t kScaleBytes = ScaleBytes(kFormat);
  constexpr int kVectors = static_cast<int>(kCodeBytes / 64);
  constexpr int kParts = 32 / kFormat.scale_block;  // of a block, each with its own scales
  constexpr bool kSignedDots = kSignedDotsOf8Bits && kFormat.max_code == 255;
  const int32_t blocks = k / 32;
  const auto* codes = reinterpret_cast<const uint8_t*>(panel);
  const std::byte* scales = panel + static_cast<size_t>(blocks) * kCodeBytes;
  const int8_t* q_high = x.high + int64_t{first_row} * k;
  const int8_t* q_low = x.low + int64_t{first_row} * k;
  const float* x_scale = x.scale + int64_t{first_row} * blocks;
  const int32_t* x_sum = x.sum + int64_t{first_row} * 2 * blocks;

  F32x16 acc[kRows];
  ForEach<kRows>(HOLDFAST_EACH { acc[i] = Zero(); });
  for (int32_t b = 0; b < blocks; ++b) {
    if constexpr (kFormat.has_offset) {
      const F32x16 offset =
          LoadScales<kFormat.half_scales>(scales + static_cast<size_t>(kParts) * kScaleBytes);
      ForEach<kRows>(HOLDFAST_EACH {
        const int32_t* sum = x_sum + int64_t{i} * 2 * blocks + 2 * b;
        const float scaled = x_scale[int64_t{i} * blocks + b] * static_cast<float>(sum[0] + sum[1]);
        acc[i] = Fma(offset, Splat(scaled), acc[i]);
      });
    }
    ForEach<kParts>([&](auto part) __attribute__((always_inline)) {
      constexpr int kBegin = kVectors / kParts * part;
      constexpr int kEnd = kBegin + kVectors / kParts;
      I32x16 dot[kRows];
      ForEach<kRows>(HOLDFAST_EACH { dot[i] = SplatInt(0); });
      DotCodes<kType, kRows, kBegin, kEnd>(codes, q_high + 32 * b, k, dot);
      ForEach<kRows>(HOLDFAST_EACH {
        dot[i] = Times254(dot[i]);
        if constexpr (kFormat.zero_point != 0 && !kSignedDots) {
          const int32_t* sum = x_sum + int64_t{i} * 2 * blocks + 2 * b;
          const int32_t part_sum = kParts == 1 ? sum[0] + sum[1] : sum[part];
          dot[i] = AddInt(dot[i], SplatInt(-kFormat.zero_point * part_sum));
        }
      });
      DotCodes<kType, kRows, kBegin, kEnd>(codes, q_low + 32 * b, k, dot);
      const F32x16 scale = LoadScales<kFormat.half_scales>(scales + part * kScaleBytes);
      ForEach<kRows>(HOLDFAST_EACH {
        const F32x16 both = Mul(scale, Splat(x_scale[int64_t{i} * blocks + b]));
        acc[i] = Fma(both, ToFloat(dot[i]), acc[i]);
      });
    });
    codes += kCodeBytes;
    scales += ScaleBytesPerBlock(kFormat);
  }
  float* out = y + first_row * y_stride;
  if (columns == kPanelRows) {
    ForEach<kRows>(HOLDFAST_EACH { Store(out + i * y_stride, acc[i]); });
  } else {
    ForEach<kRows>(HOLDFAST_EACH { StorePartial(out + i * y_stride, columns, acc[i]); });
  }
}

// The rows that are left, by halves of the largest group.
template <TensorType kType, int kRows>
void MultiplyRows(const std::byte* panel, const QuantizedRows& x, int32_t k, int32_t first_row,
                  int32_t rows, float* y, int64_t y_stride, int32_t columns) {
  for (; rows - first_row >= kRows; first_row += kRows) {
    MultiplyPanel<kType, kRows>(panel, x, k, first_row, y, y_stride, columns);
  }
  if constexpr (kRows > 1) {
    MultiplyRows<kType, kRows / 2>(panel, x, k, first_row, rows, y, y_stride, columns);
  }
}

template <TensorType kType>
void MultiplyPanels(const PackedMatrix& w, const QuantizedRows& x, int32_t rows,
                    int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  const size_t panel_bytes = PanelBytes(FormatOf(kType), w.k);
  // Rows are cut so that their codes stay in the second-level cache from panel to panel.
  constexpr int32_t kRowsPerPass = 128;
  for (int32_t row = 0; row < rows; row += kRowsPerPass) {
    const int32_t row_end = Least(rows, row + kRowsPerPass);
    for (int32_t panel = panel_begin; panel < panel_end; ++panel) {
      const int32_t column = panel * kPanelRows;
      MultiplyRows<kType, kMatmulRows>(w.data + static_cast<size_t>(panel) * panel_bytes, x, w.k,
                                       row, row_end, y + column, y_stride,
                                       Least(kPanelRows, w.n - column));
    }
  }
}

void QuantizedMatmul(const PackedMatrix& w, const QuantizedRows& x, int32_t rows,
                     int32_t panel_begin, int32_t panel_end, float* y, int64_t y_stride) {
  switch (w.type) {
#define HOLDFAST_CASE(type) \
  case type:                \
    return MultiplyPanels<type>(w, x, rows, panel_begin, panel_end, y, y_stride)
    HOLDFAST_CASE(TensorType::kQ4_0);
    HOLDFAST_CASE(TensorType::kQ4_1);
    HOLDFAST_CASE(TensorType::kQ5_0);
    HOLDFAST_CASE(TensorType::kQ5_1);
    HOLDFAST_CASE(TensorType::kQ8_0);
    HOLDFAST_CASE(TensorType::kQ4_K);
    HOLDFAST_CASE(TensorType::kQ5_K);
    HOLDFAST_CASE(TensorType::kQ6_K);
#undef HOLDFAST_CASE
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBf16:
      break;
  }
}

inline constexpr float kMostQuantized = 127.0f * 254.0f + 126.0f;

// Rounds x, |x| <= kMostQuantized, to 254 * high + low with both in [-127, 127]; returns their sum.
inline int32_t StoreTwoBytes(const QuantizedRows& out, int64_t at, F32x16 x) {
  const F32x16 magic = Splat(0x1.8p23f);  // adding it rounds to an integer, ties to even
  const F32x16 whole = Sub(Add(x, magic), magic);
  const F32x16 high = Sub(Fma(whole, Splat(1.0f / 254.0f), magic), magic);
  const F32x16 low = Fma(high, Splat(-254.0f), whole);
  return 254 * StoreRoundedI8(out.high + at, high) + StoreRoundedI8(out.low + at, low);
}

void QuantizeRows(const float* x, int32_t rows, int32_t k, const QuantizedRows& out) {
  // Below this the reciprocal of the scale leaves the range of f32: taken for zero.
  constexpr uint32_t kLeastMagnitudeBits = (127u - 100u) << 23;  // 2^-100
  const int64_t blocks = int64_t{rows} * (k / 32);
  for (int64_t b = 0; b < blocks; ++b) {
    const F32x16 low = Load(x + 32 * b), high = Load(x + 32 * b + 16);
    const uint32_t bits = MaxMagnitudeBits(low, high);
    const float most = FloatOfBits(bits);
    float scale = most / kMostQuantized, inverse = kMostQuantized / most;
    if (bits < kLeastMagnitudeBits || bits >= 0x7f800000u) {
      // A row that is not finite must not look finite: its scale is NaN.
      scale = bits < kLeastMagnitudeBits ? 0.0f : FloatOfBits(0x7fc00000u);
      inverse = 0.0f;
    }
    const bool empty = inverse == 0.0f;
    const F32x16 factor = Splat(inverse);
    out.scale[b] = scale;
    out.sum[2 * b] = StoreTwoBytes(out, 32 * b, empty ? Zero() : Mul(low, factor));
    out.sum[2 * b + 1] = StoreTwoBytes(out, 32 * b + 16, empty ? Zero() : Mul(high, factor));
  }
}

}  // namespace
}  // namespace holdfast
