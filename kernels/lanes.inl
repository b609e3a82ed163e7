// What all paths share on top of F32x16: partial loads, exp and log. Included after a
// lanes_<path>.inl, which gives F32x16 its meaning; everything is local to the including file.

namespace holdfast {
namespace {

template <typename T>
inline T Least(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
inline T Most(T a, T b) {
  return a < b ? b : a;
}

// For KeepLanes: [begin, end) of 16 lanes.
inline uint32_t LanesOf(int32_t begin, int32_t end) { return (1u << end) - (1u << begin); }

// `count` of 16 lanes, the others zero.
inline F32x16 LoadPartial(const float* p, int64_t count) {
  float lane[16] = {};
  __builtin_memcpy(lane, p, static_cast<size_t>(count) * sizeof(float));
  return Load(lane);
}
inline void StorePartial(float* p, int64_t count, F32x16 x) {
  float lane[16];
  Store(lane, x);
  __builtin_memcpy(p, lane, static_cast<size_t>(count) * sizeof(float));
}

// The first `count` lanes: all of them from 16 on, none below 1.
inline void StoreUpTo(float* p, int64_t count, F32x16 x) {
  if (count >= 16) {
    Store(p, x);
  } else if (count > 0) {
    StorePartial(p, count, x);
  }
}

inline constexpr float kInfinity = __builtin_inff();

// e^x with a relative error below 2e-7 for -87 <= x <= 88; 0 below, infinity above, NaN for NaN.
// x = n ln 2 + r, |r| <= ln 2 / 2; e^r by its Taylor series, whose rest after r^7 / 7! is 5e-9.
[[gnu::always_inline]] inline F32x16 ExpInRange(F32x16 clamped) {
  const F32x16 magic = Splat(0x1.8p23f);  // adding it rounds to an integer
  const F32x16 t = Fma(clamped, Splat(1.44269504f), magic);
  const F32x16 n = Sub(t, magic);
  // ln 2 in two parts; n times the first is exact.
  F32x16 r = Fma(n, Splat(-0.693359375f), clamped);
  r = Fma(n, Splat(2.12194440e-4f), r);
  F32x16 p = Splat(1.0f / 5040);
  p = Fma(p, r, Splat(1.0f / 720));
  p = Fma(p, r, Splat(1.0f / 120));
  p = Fma(p, r, Splat(1.0f / 24));
  p = Fma(p, r, Splat(1.0f / 6));
  p = Fma(p, r, Splat(0.5f));
  p = Fma(p, r, Splat(1.0f));
  p = Fma(p, r, Splat(1.0f));
  return Mul(p, PowerOfTwo(t));
}
inline F32x16 Exp(F32x16 x) {
  const F32x16 low = Splat(-87.0f), high = Splat(88.0f);
  const F32x16 y = ExpInRange(Min(high, Max(low, x)));  // in this order NaN passes
  return SelectLess(x, low, Zero(), SelectLess(high, x, Splat(kInfinity), y));
}
// The same bits for x that are at most 0, or NaN.
inline F32x16 ExpOfMinus(F32x16 x) {
  const F32x16 low = Splat(-87.0f);
  return SelectLess(x, low, Zero(), ExpInRange(Max(low, x)));
}

// Natural logarithm of a positive finite normal x, else x, to about 2e-7 relative. x = m 2^e with m
// in [sqrt(1/2), sqrt(2)), ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.1716; the rest of the
// series after s^9 is below 2e-9 of it.
inline F32x16 Log(F32x16 x) {
  F32x16 e;
  F32x16 m = SplitExponent(x, e);
  const F32x16 one = Splat(1.0f), root = Splat(1.41421356f);
  e = Add(e, SelectLess(m, root, Zero(), one));
  m = Mul(m, SelectLess(m, root, one, Splat(0.5f)));
  const F32x16 s = Div(Sub(m, one), Add(m, one));
  const F32x16 s2 = Mul(s, s);
  F32x16 series = Splat(1.0f / 9);
  series = Fma(series, s2, Splat(1.0f / 7));
  series = Fma(series, s2, Splat(1.0f / 5));
  series = Fma(series, s2, Splat(1.0f / 3));
  series = Fma(series, s2, one);
  // ln 2 in two parts; e times the first is exact.
  F32x16 y = Fma(e, Splat(-2.12194440e-4f), Mul(Add(s, s), series));
  y = Fma(e, Splat(0.693359375f), y);
  return SelectLess(x, Splat(1.17549435e-38f), x, SelectLess(x, Splat(kInfinity), y, x));
}

// The same of one number, in double: the rest of the series after s^13 is below 1e-12. Our own, so
// that it's the same on every machine's libm.
inline float LogOne(float x) {
  const uint32_t bits = BitsOfFloat(x);
  if (bits < 0x00800000u || bits >= 0x7f800000u) return x;
  auto e = static_cast<int32_t>(bits >> 23) - 127;
  double m = static_cast<double>(FloatOfBits((bits & 0x007fffffu) | 0x3f800000u));
  if (m >= 1.4142135623730951) {
    m *= 0.5;
    e += 1;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double series = 1.0 / 13;
  series = series * s2 + 1.0 / 11;
  series = series * s2 + 1.0 / 9;
  series = series * s2 + 1.0 / 7;
  series = series * s2 + 1.0 / 5;
  series = series * s2 + 1.0 / 3;
  series = series * s2 + 1.0;
  return static_cast<float>(2.0 * s * series + static_cast<double>(e) * 0.6931471805599453);
}

}  // namespace
}  // namespace holdfast
