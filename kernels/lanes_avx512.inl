// F32x16 and I32x16 as one 512-bit vector; meaning as in lanes_scalar.inl.
#include <immintrin.h>

#include "kernels/half.h"

namespace holdfast {
namespace {

struct F32x16 {
  __m512 v;
};
struct I32x16 {
  __m512i v;
};

#define HOLDFAST_INLINE [[gnu::always_inline]] inline

HOLDFAST_INLINE F32x16 Splat(float x) { return {_mm512_set1_ps(x)}; }
HOLDFAST_INLINE F32x16 Zero() { return {_mm512_setzero_ps()}; }
HOLDFAST_INLINE F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
HOLDFAST_INLINE void Store(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
HOLDFAST_INLINE F32x16 Add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
HOLDFAST_INLINE F32x16 Sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
HOLDFAST_INLINE F32x16 Mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
HOLDFAST_INLINE F32x16 Div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
HOLDFAST_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
HOLDFAST_INLINE F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
HOLDFAST_INLINE F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
HOLDFAST_INLINE F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 x, F32x16 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
HOLDFAST_INLINE F32x16 KeepLanes(F32x16 x, uint32_t kept, float fill) {
  return {_mm512_mask_blend_ps(static_cast<__mmask16>(kept), _mm512_set1_ps(fill), x.v)};
}
HOLDFAST_INLINE F32x16 PowerOfTwo(F32x16 t) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f800000)))};
}

HOLDFAST_INLINE F32x16 SplitExponent(F32x16 x, F32x16& e) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i exponent = _mm512_sub_epi32(_mm512_srli_epi32(bits, 23), _mm512_set1_epi32(127));
  e = {_mm512_cvtepi32_ps(exponent)};
  const __m512i mantissa = _mm512_and_si512(bits, _mm512_set1_epi32(0x007fffff));
  return {_mm512_castsi512_ps(_mm512_or_si512(mantissa, _mm512_set1_epi32(0x3f800000)))};
}

HOLDFAST_INLINE float SumLanes(F32x16 x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  __m128 v = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
HOLDFAST_INLINE float MaxLanes(F32x16 x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  __m128 v = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}

HOLDFAST_INLINE F32x16 LoadHalf(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
HOLDFAST_INLINE void StoreHalf(void* p, F32x16 x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
}
HOLDFAST_INLINE F32x16 LoadBf16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
HOLDFAST_INLINE void LoadBf16Pairs(const void* p, F32x16& first, F32x16& second) {
  const __m512i pairs = _mm512_loadu_si512(p);
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  first = {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))};
  second = {_mm512_castsi512_ps(_mm512_and_si512(pairs, upper))};
}
HOLDFAST_INLINE void StoreBf16(void* p, F32x16 x) {
  const __m512i bits = _mm512_castps_si512(x.v), high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i number = _mm512_srli_epi32(_mm512_add_epi32(bits, up), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i rounded = _mm512_mask_or_epi32(number, is_nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
HOLDFAST_INLINE F32x16 LoadI8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}

HOLDFAST_INLINE void LoadPairs(const float* p, F32x16& first, F32x16& second) {
  const __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + 16);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  first = {_mm512_permutex2var_ps(a, even, b)};
  second = {_mm512_permutex2var_ps(a, odd, b)};
}
HOLDFAST_INLINE void StorePairs(float* p, F32x16 first, F32x16 second) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(first.v, low, second.v));
  _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(first.v, high, second.v));
}

HOLDFAST_INLINE uint32_t MaxMagnitudeBits(F32x16 a, F32x16 b) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  const __m512i x = _mm512_and_si512(_mm512_castps_si512(a.v), mask);
  const __m512i y = _mm512_and_si512(_mm512_castps_si512(b.v), mask);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(x, y));
}
HOLDFAST_INLINE int32_t StoreRoundedI8(int8_t* p, F32x16 x) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  // Summed as x + 128, which vpsadbw takes.
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
  return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128;
}

HOLDFAST_INLINE I32x16 SplatInt(int32_t x) { return {_mm512_set1_epi32(x)}; }
HOLDFAST_INLINE I32x16 AddInt(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
template <int kBits>
HOLDFAST_INLINE I32x16 ShiftLeft(I32x16 x) {
  return {_mm512_slli_epi32(x.v, kBits)};
}
template <int kBits>
HOLDFAST_INLINE I32x16 ShiftRight(I32x16 x) {
  return {_mm512_srai_epi32(x.v, kBits)};
}
HOLDFAST_INLINE F32x16 ToFloat(I32x16 x) { return {_mm512_cvtepi32_ps(x.v)}; }

template <int kCodeBits>
HOLDFAST_INLINE void UnpackCodes(const uint8_t* codes, uint8_t* out) {
  ForEach<kCodeBits>([&](auto v) __attribute__((always_inline)) {
    const __m512i bytes = _mm512_loadu_si512(codes + 64 * v);
    if constexpr (kCodeBits == 4) {
      const __m512i nibble = _mm512_set1_epi8(15);
      _mm512_storeu_si512(out + 64 * v, _mm512_and_si512(bytes, nibble));
      _mm512_storeu_si512(out + 256 + 64 * v,
                          _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble));
    } else {
      _mm512_storeu_si512(out + 64 * v, bytes);
    }
  });
}

inline constexpr bool kSignedDotsOf8Bits = false;

// vpdpbusd: four products of an unsigned and a signed byte added to each 32-bit lane, exactly.
template <CodeFormat kFormat, int kRows, int kPanels, int kBegin, int kEnd>
HOLDFAST_INLINE void DotCodes(const uint8_t* codes, int64_t panel_stride, const int8_t* x,
                              int64_t x_stride, I32x16 (&dot)[kRows * kPanels]) {
  const auto broadcast = [](const int8_t* p) __attribute__((always_inline)) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  };
  ForEach<kEnd - kBegin>([&](auto step) __attribute__((always_inline)) {
    const int v = kBegin + step;
    if constexpr (kFormat.code_bits == 4) {
      static_assert(kPanels == 1);
      const __m512i bytes = _mm512_loadu_si512(codes + 64 * v);
      const __m512i nibble = _mm512_set1_epi8(15);
      const __m512i low = _mm512_and_si512(bytes, nibble);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
      ForEach<kRows>([&](auto i) __attribute__((always_inline)) {
        const int8_t* at = x + i * x_stride + 4 * v;
        dot[i].v = _mm512_dpbusd_epi32(dot[i].v, low, broadcast(at));
        dot[i].v = _mm512_dpbusd_epi32(dot[i].v, high, broadcast(at + 16));
      });
    } else {
      __m512i bytes[kPanels];
      ForEach<kPanels>(
          HOLDFAST_EACH { bytes[i] = _mm512_loadu_si512(codes + i * panel_stride + 64 * v); });
      ForEach<kRows>([&](auto r) __attribute__((always_inline)) {
        const __m512i four = broadcast(x + r * x_stride + 4 * v);
        ForEach<kPanels>(HOLDFAST_EACH {
          constexpr int kSum = r * kPanels + i;
          dot[kSum].v = _mm512_dpbusd_epi32(dot[kSum].v, bytes[i], four);
        });
      });
    }
  });
}

// Dots of codes and activations in words where a path gains by them: this one doesn't.
template <int kMaxCode>
struct DotsOfWords {
  static constexpr bool kUsed = false;
};

// 32 registers: 8 rows of sums and of dots leave half for codes and scales.
inline constexpr int kMatmulRows = 8;
// Three panels share a broadcast: with one, a dot product waits for two loads where there is room
// for one.
inline constexpr int kUnpackedRows = 4, kUnpackedPanels = 3;
inline constexpr int kFloatRows = 8, kFloatVectors = 3;  // 24 registers of sums
inline constexpr int kBf16Rows = 8;                      // 16 registers of sums
inline constexpr int kAttentionRows = 6;                 // by four vectors: 24 sums
constexpr int AttentionColumns(int /*rows*/) { return 4; }

}  // namespace
}  // namespace holdfast
