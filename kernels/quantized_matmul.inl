// Quantised product, written once; DotCodes and the lanes come from the path's own file.
//
// For each output and block of 32 (or 16, Q6_K) along k, ascending:
//   y = fma(offset, x_scale * sum_x, y)                        if the type has offsets
//   y = fma(scale * x_scale, sum (code - zero_point) * x, y)
// An activation is 256 * high + low, two signed bytes, so that the same dot product of bytes serves
// both: dot = 256 * dot(high) + dot(low). Where low is zero in all rows at hand that dot is left
// out, and the 256 goes to the scale instead: a power of two, so no bit is changed by it (scales
// are never so small that this would lose bits, see kLeastMagnitudeBits). The sums are exact in
// int32 (32 * 255 * 32639), each other operation rounds once; so neither the path nor the number
// of rows at once can change a bit.

namespace holdfast {
namespace {

template <bool kHalf>
inline F32x16 LoadScales(const std::byte* p) {
  if constexpr (kHalf) {
    return LoadHalf(p);
  } else {
    return Load(reinterpret_cast<const float*>(p));
  }
}

template <int kRows>
inline bool AnyOf(const uint8_t* flags) {
  static_assert(kRows <= 8);
  uint64_t all = 0;
  __builtin_memcpy(&all, flags, kRows);
  return all != 0;
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
  static_assert(QuantizedRows::kGroup % kRows == 0);
  constexpr int64_t kStride = QuantizedRows::kGroup;  // of blocks
  const int64_t at = QuantizedRows::BlockAt(first_row, 0, k);
  const int8_t *high = x.high + 32 * at, *low = x.low + 32 * at;
  const float *x_scale = x.scale + at, *x_scaled_sum = x.scaled_sum + at;
  const int32_t* x_sum = x.sum + 2 * at;
  const uint8_t* x_wide = x.wide + at;

  F32x16 acc[kRows];
  ForEach<kRows>(HOLDFAST_EACH { acc[i] = Zero(); });
  for (int32_t b = 0; b < blocks; ++b) {
    if constexpr (kFormat.has_offset) {
      const F32x16 offset =
          LoadScales<kFormat.half_scales>(scales + static_cast<size_t>(kParts) * kScaleBytes);
      ForEach<kRows>(HOLDFAST_EACH { acc[i] = Fma(offset, Splat(x_scaled_sum[i]), acc[i]); });
    }
    const auto multiply = [&](auto is_wide) __attribute__((always_inline)) {
      ForEach<kParts>([&](auto part) __attribute__((always_inline)) {
        constexpr int kBegin = kVectors / kParts * part;
        constexpr int kEnd = kBegin + kVectors / kParts;
        I32x16 dot[kRows];
        ForEach<kRows>(HOLDFAST_EACH { dot[i] = SplatInt(0); });
        DotCodes<kType, kRows, kBegin, kEnd>(codes, high, 32, dot);
        if constexpr (is_wide) {
          ForEach<kRows>(HOLDFAST_EACH { dot[i] = ShiftLeft<8>(dot[i]); });
          DotCodes<kType, kRows, kBegin, kEnd>(codes, low, 32, dot);
        }
        if constexpr (kFormat.zero_point != 0 && !kSignedDots) {
          ForEach<kRows>(HOLDFAST_EACH {
            const int32_t* sum = x_sum + 2 * i;
            const int32_t part_sum = kParts == 1 ? sum[0] + sum[1] : sum[part];
            // Of bytes the sum is a multiple of 256.
            const int32_t taken = kFormat.zero_point * (is_wide ? part_sum : part_sum / 256);
            dot[i] = AddInt(dot[i], SplatInt(-taken));
          });
        }
        F32x16 scale = LoadScales<kFormat.half_scales>(scales + part * kScaleBytes);
        if constexpr (!is_wide) scale = Mul(scale, Splat(256.0f));
        ForEach<kRows>(HOLDFAST_EACH {
          const F32x16 both = Mul(scale, Splat(x_scale[i]));
          acc[i] = Fma(both, ToFloat(dot[i]), acc[i]);
        });
      });
    };
    if (AnyOf<kRows>(x_wide)) {
      multiply(Constant<1>{});
    } else {
      multiply(Constant<0>{});
    }
    codes += kCodeBytes;
    scales += ScaleBytesPerBlock(kFormat);
    high += 32 * kStride;
    low += 32 * kStride;
    x_scale += kStride;
    x_scaled_sum += kStride;
    x_sum += 2 * kStride;
    x_wide += kStride;
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
void MultiplyPanels(const PackedMatrix& w, const QuantizedRows& x, int32_t row_begin,
                    int32_t row_end, int32_t panel_begin, int32_t panel_end, float* y,
                    int64_t y_stride) {
  const size_t panel_bytes = PanelBytes(FormatOf(kType), w.k);
  // Rows are cut so that their codes stay in the second-level cache from panel to panel.
  constexpr int32_t kRowsPerPass = 128;
  for (int32_t row = row_begin; row < row_end; row += kRowsPerPass) {
    const int32_t end = Least(row_end, row + kRowsPerPass);
    for (int32_t panel = panel_begin; panel < panel_end; ++panel) {
      const int32_t column = panel * kPanelRows;
      MultiplyRows<kType, kMatmulRows>(w.data + static_cast<size_t>(panel) * panel_bytes, x, w.k,
                                       row, end, y + column, y_stride,
                                       Least(kPanelRows, w.n - column));
    }
  }
}

void QuantizedMatmul(const PackedMatrix& w, const QuantizedRows& x, int32_t row_begin,
                     int32_t row_end, int32_t panel_begin, int32_t panel_end, float* y,
                     int64_t y_stride) {
  switch (w.type) {
#define HOLDFAST_CASE(type) \
  case type:                \
    return MultiplyPanels<type>(w, x, row_begin, row_end, panel_begin, panel_end, y, y_stride)
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

inline constexpr float kMostQuantized = 127.0f * 256.0f + 127.0f;

// Below this a block counts as zero: products of scales stay in the range of normal numbers.
inline constexpr uint32_t kLeastMagnitudeBits = (127u - 60u) << 23;  // 2^-60

// Rounds x, |x| <= kMostQuantized, to 256 * high + low with both in [-127, 127], and one less where
// low would have to be 128; returns their sum.
inline int32_t StoreTwoBytes(int8_t* high_out, int8_t* low_out, F32x16 x) {
  const F32x16 magic = Splat(0x1.8p23f);  // adding it rounds to an integer, ties to even
  const F32x16 whole = Sub(Add(x, magic), magic);
  const F32x16 high = Sub(Fma(whole, Splat(1.0f / 256.0f), magic), magic);
  const F32x16 low = Fma(high, Splat(-256.0f), whole);
  const F32x16 fits = Max(Min(low, Splat(127.0f)), Splat(-127.0f));
  return 256 * StoreRoundedI8(high_out, high) + StoreRoundedI8(low_out, fits);
}

inline int32_t StoreOneByte(int8_t* high_out, int8_t* low_out, F32x16 x) {
  __builtin_memset(low_out, 0, 16);
  return 256 * StoreRoundedI8(high_out, x);
}

// `at`: the block's in `out`.
inline void QuantizeBlock(const float* x, float most, bool wide, const QuantizedRows& out,
                          int64_t at) {
  const float steps = wide ? kMostQuantized : 127.0f;
  float scale = most / (wide ? kMostQuantized : 127.0f * 256.0f), inverse = steps / most;
  const uint32_t bits = BitsOfFloat(most);
  if (bits < kLeastMagnitudeBits || bits >= 0x7f800000u) {
    // A row that is not finite must not look finite: its scale is NaN.
    scale = bits < kLeastMagnitudeBits ? 0.0f : FloatOfBits(0x7fc00000u);
    inverse = 0.0f;
  }
  const bool empty = inverse == 0.0f;
  int32_t* const sum = out.sum + 2 * at;
  for (int half = 0; half < 2; ++half) {
    int8_t *const high = out.high + 32 * at + 16 * half, *const low = out.low + 32 * at + 16 * half;
    const F32x16 scaled = empty ? Zero() : Mul(Load(x + 16 * half), Splat(inverse));
    sum[half] = wide ? StoreTwoBytes(high, low, scaled) : StoreOneByte(high, low, scaled);
  }
  out.scale[at] = scale;
  out.scaled_sum[at] = scale * static_cast<float>(sum[0] + sum[1]);
  out.wide[at] = wide ? 1 : 0;
}

void QuantizeRows(const float* x, int32_t row_begin, int32_t row_end, int32_t k,
                  ActivationBits bits, const QuantizedRows& out) {
  const int32_t blocks = k / 32;
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float* row = x + (r - row_begin) * k;
    float energy = 0.0f;
    for (int32_t b = 0; b < blocks; ++b) {
      const float most = FloatOfBits(MaxMagnitudeBits(Load(row + 32 * b), Load(row + 32 * b + 16)));
      out.scale[QuantizedRows::BlockAt(r, b, k)] = most;  // until the scale is known
      energy += most * most;
    }
    const float threshold = energy * (kWideEnergy / static_cast<float>(blocks));
    for (int32_t b = 0; b < blocks; ++b) {
      const int64_t at = QuantizedRows::BlockAt(r, b, k);
      const float most = out.scale[at];
      const bool wide = bits == ActivationBits::k16 || most * most > threshold;
      QuantizeBlock(row + 32 * b, most, wide, out, at);
    }
  }
}

}  // namespace
}  // namespace holdfast
