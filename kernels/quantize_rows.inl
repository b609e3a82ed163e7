// Activations to integers with a scale a block; kernel_table.h says what is made.

namespace holdfast {
namespace {

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
  int32_t sum[2];
  for (int half = 0; half < 2; ++half) {
    int8_t *const high = out.high + 32 * at + 16 * half, *const low = out.low + 32 * at + 16 * half;
    const F32x16 scaled = empty ? Zero() : Mul(Load(x + 16 * half), Splat(inverse));
    sum[half] = wide ? StoreTwoBytes(high, low, scaled) : StoreOneByte(high, low, scaled);
  }
  const int32_t whole = sum[0] + sum[1];
  out.scale[at] = scale;
  out.negative_sum[2 * at] = -whole;
  out.negative_sum[2 * at + 1] = -sum[0];
  out.scaled_sum[at] = scale * static_cast<float>(whole);
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
      out.scale[RowBlocks::At(r, b, k)] = most;  // until the scale is known
      energy += most * most;
    }
    const float threshold = energy * (kWideEnergy / static_cast<float>(blocks));
    for (int32_t b = 0; b < blocks; ++b) {
      const int64_t at = RowBlocks::At(r, b, k);
      const float most = out.scale[at];
      const bool wide = bits == ActivationBits::k16 || most * most > threshold;
      QuantizeBlock(row + 32 * b, most, wide, out, at);
    }
  }
}

}  // namespace
}  // namespace holdfast
