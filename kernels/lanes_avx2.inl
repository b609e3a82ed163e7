// F32x16 and I32x16 as two 256-bit vectors; meaning as in lanes_scalar.inl.
#include <immintrin.h>

#include "kernels/half.h"

namespace holdfast {
namespace {

struct F32x16 {
  __m256 low, high;
};
struct I32x16 {
  __m256i low, high;
};

#define HOLDFAST_INLINE [[gnu::always_inline]] inline

HOLDFAST_INLINE F32x16 Splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
HOLDFAST_INLINE F32x16 Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
HOLDFAST_INLINE F32x16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
HOLDFAST_INLINE void Store(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
HOLDFAST_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
HOLDFAST_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
HOLDFAST_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
HOLDFAST_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
HOLDFAST_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
HOLDFAST_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
HOLDFAST_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
HOLDFAST_INLINE F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 x, F32x16 y) {
  return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
HOLDFAST_INLINE F32x16 KeepLanes(F32x16 x, uint32_t kept, float fill) {
  const __m256i bits = _mm256_set1_epi32(static_cast<int32_t>(kept));
  const auto keep = [&](__m256 half, __m256i bit) {
    const __m256i is_set = _mm256_cmpeq_epi32(_mm256_and_si256(bits, bit), bit);
    return _mm256_blendv_ps(_mm256_set1_ps(fill), half, _mm256_castsi256_ps(is_set));
  };
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return {keep(x.low, bit), keep(x.high, _mm256_slli_epi32(bit, 8))};
}
HOLDFAST_INLINE F32x16 PowerOfTwo(F32x16 t) {
  const auto power = [](__m256 half) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(half), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f800000)));
  };
  return {power(t.low), power(t.high)};
}

HOLDFAST_INLINE F32x16 SplitExponent(F32x16 x, F32x16& e) {
  const auto exponent = [](__m256 half) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(half), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
  };
  const auto mantissa = [](__m256 half) {
    const __m256i bits = _mm256_and_si256(_mm256_castps_si256(half), _mm256_set1_epi32(0x007fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x3f800000)));
  };
  e = {exponent(x.low), exponent(x.high)};
  return {mantissa(x.low), mantissa(x.high)};
}

HOLDFAST_INLINE float SumLanes(F32x16 x) {
  const __m256 eight = _mm256_add_ps(x.low, x.high);
  __m128 v = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
HOLDFAST_INLINE float MaxLanes(F32x16 x) {
  const __m256 eight = _mm256_max_ps(x.low, x.high);
  __m128 v = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  v = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}

HOLDFAST_INLINE F32x16 LoadHalf(const void* p) {
  const auto* halves = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
HOLDFAST_INLINE void StoreHalf(void* p, F32x16 x) {
  auto* halves = static_cast<__m128i*>(p);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}
HOLDFAST_INLINE F32x16 LoadBf16(const void* p) {
  const auto* eights = static_cast<const __m128i*>(p);
  const auto widen = [](__m128i eight) __attribute__((always_inline)) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
  };
  return {widen(_mm_loadu_si128(eights)), widen(_mm_loadu_si128(eights + 1))};
}
HOLDFAST_INLINE void LoadBf16Pairs(const void* p, F32x16& first, F32x16& second) {
  const auto* pairs = static_cast<const __m256i*>(p);
  const __m256i low = _mm256_loadu_si256(pairs), high = _mm256_loadu_si256(pairs + 1);
  const __m256i upper = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u));
  first = {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)),
           _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
  second = {_mm256_castsi256_ps(_mm256_and_si256(low, upper)),
            _mm256_castsi256_ps(_mm256_and_si256(high, upper))};
}
HOLDFAST_INLINE void StoreBf16(void* p, F32x16 x) {
  const auto rounded = [](__m256 half) __attribute__((always_inline)) {
    const __m256i bits = _mm256_castps_si256(half), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i number = _mm256_srli_epi32(_mm256_add_epi32(bits, up), 16);
    const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(half, half, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(number, nan, is_nan);
  };
  const __m256i words = _mm256_packus_epi32(rounded(x.low), rounded(x.high));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xd8));
}
HOLDFAST_INLINE F32x16 LoadI8(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}

// Eight pairs from two vectors of four pairs each: evens and odds within each 128-bit half, then
// the halves in order.
HOLDFAST_INLINE __m256 InOrder(__m256 x) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
}
HOLDFAST_INLINE void LoadPairs(const float* p, F32x16& first, F32x16& second) {
  const __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + 8);
  const __m256 c = _mm256_loadu_ps(p + 16), d = _mm256_loadu_ps(p + 24);
  first = {InOrder(_mm256_shuffle_ps(a, b, 0x88)), InOrder(_mm256_shuffle_ps(c, d, 0x88))};
  second = {InOrder(_mm256_shuffle_ps(a, b, 0xdd)), InOrder(_mm256_shuffle_ps(c, d, 0xdd))};
}
HOLDFAST_INLINE void StorePairs(float* p, F32x16 first, F32x16 second) {
  const auto store = [](float* at, __m256 x, __m256 y) {
    const __m256 a = _mm256_unpacklo_ps(x, y), b = _mm256_unpackhi_ps(x, y);
    _mm256_storeu_ps(at, _mm256_permute2f128_ps(a, b, 0x20));
    _mm256_storeu_ps(at + 8, _mm256_permute2f128_ps(a, b, 0x31));
  };
  store(p, first.low, second.low);
  store(p + 16, first.high, second.high);
}

HOLDFAST_INLINE uint32_t MaxMagnitudeBits(F32x16 a, F32x16 b) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  const auto magnitude = [&](__m256 x) { return _mm256_and_si256(_mm256_castps_si256(x), mask); };
  const __m256i eight = _mm256_max_epu32(_mm256_max_epu32(magnitude(a.low), magnitude(a.high)),
                                         _mm256_max_epu32(magnitude(b.low), magnitude(b.high)));
  __m128i v = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  v = _mm_max_epu32(v, _mm_shuffle_epi32(v, 0x4e));
  v = _mm_max_epu32(v, _mm_shuffle_epi32(v, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(v));
}
HOLDFAST_INLINE int32_t StoreRoundedI8(int8_t* p, F32x16 x) {
  const __m256i low = _mm256_cvtps_epi32(x.low), high = _mm256_cvtps_epi32(x.high);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  const __m256i eight = _mm256_add_epi32(low, high);
  __m128i v = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
  v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1));
  return _mm_cvtsi128_si32(v);
}

HOLDFAST_INLINE I32x16 SplatInt(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
HOLDFAST_INLINE I32x16 AddInt(I32x16 a, I32x16 b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
template <int kBits>
HOLDFAST_INLINE I32x16 ShiftLeft(I32x16 x) {
  return {_mm256_slli_epi32(x.low, kBits), _mm256_slli_epi32(x.high, kBits)};
}
template <int kBits>
HOLDFAST_INLINE I32x16 ShiftRight(I32x16 x) {
  return {_mm256_srai_epi32(x.low, kBits), _mm256_srai_epi32(x.high, kBits)};
}
HOLDFAST_INLINE F32x16 ToFloat(I32x16 x) {
  return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}

template <int kCodeBits>
HOLDFAST_INLINE void UnpackCodes(const uint8_t* codes, uint8_t* out) {
  const auto store = [](uint8_t * at, __m256i bytes) __attribute__((always_inline)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), bytes);
  };
  ForEach<2 * kCodeBits>([&](auto v) __attribute__((always_inline)) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * v));
    if constexpr (kCodeBits == 4) {
      const __m256i nibble = _mm256_set1_epi8(15);
      store(out + 32 * v, _mm256_and_si256(bytes, nibble));
      store(out + 256 + 32 * v, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
    } else {
      store(out + 32 * v, bytes);
    }
  });
}

HOLDFAST_INLINE __m256i BroadcastFour(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

// vpmaddubsw saturates at 16 bits. Two products of a code and an activation (|x| <= 127) sum to at
// most 2 * max_code * 127, so this many may be added in 16 bits before they are widened: 8 for
// 4-bit codes, 4 for 5-bit, 2 for 6-bit. 8-bit codes are made signed, w = code - 128, and the sign
// of w goes to x, so that 2 * 128 * 127 just fits; their dots need no zero point any more.
inline constexpr bool kSignedDotsOf8Bits = true;

template <int kMaxCode>
inline constexpr int kAddableProducts = 32767 / (2 * 127 * kMaxCode);

// A sum that the compiler may not regroup: g++ 12 makes trees of integer additions, whose many
// products then wait in memory.
HOLDFAST_INLINE __m256i InThisOrder(__m256i sum) {
  asm("" : "+x"(sum));
  return sum;
}

// A broadcast of four activations serves both halves of the outputs at once: half by half, g++ 12
// kept the broadcasts of a whole block for the second half, in memory.
template <CodeFormat kFormat, int kRows, int kPanels, int kBegin, int kEnd>
HOLDFAST_INLINE void DotCodes(const uint8_t* codes, int64_t panel_stride, const int8_t* x,
                              int64_t x_stride, I32x16 (&dot)[kRows * kPanels]) {
  static_assert(kPanels == 1);
  static_cast<void>(panel_stride);
  constexpr int kVectors = kEnd - kBegin;
  const __m256i ones = _mm256_set1_epi16(1);
  const auto load = [codes](int v, int half) __attribute__((always_inline)) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 64 * v + 32 * half));
  };
  if constexpr (kFormat.max_code == 255) {
    const __m256i top = _mm256_set1_epi8(-128);
    ForEach<kVectors>([&](auto step) __attribute__((always_inline)) {
      const int v = kBegin + step;
      const __m256i low = _mm256_xor_si256(load(v, 0), top);
      const __m256i high = _mm256_xor_si256(load(v, 1), top);
      const __m256i low_size = _mm256_abs_epi8(low), high_size = _mm256_abs_epi8(high);
      ForEach<kRows>([&](auto i) __attribute__((always_inline)) {
        const __m256i four = BroadcastFour(x + i * x_stride + 4 * v);
        const __m256i a = _mm256_maddubs_epi16(low_size, _mm256_sign_epi8(four, low));
        const __m256i b = _mm256_maddubs_epi16(high_size, _mm256_sign_epi8(four, high));
        dot[i].low = _mm256_add_epi32(dot[i].low, _mm256_madd_epi16(a, ones));
        dot[i].high = _mm256_add_epi32(dot[i].high, _mm256_madd_epi16(b, ones));
      });
    });
  } else {
    constexpr int kCodesPerByte = kFormat.code_bits == 4 ? 2 : 1;
    constexpr int kAddable = kAddableProducts<kFormat.max_code> / kCodesPerByte;
    constexpr int kGroup = kAddable < kVectors ? kAddable : kVectors;
    static_assert(kGroup >= 1 && kVectors % kGroup == 0);
    const __m256i nibble = _mm256_set1_epi8(15);
    ForEach<kVectors / kGroup>([&](auto group) __attribute__((always_inline)) {
      I32x16 pairs[kRows];  // 32 sums in 16 bits
      const auto add = [&](auto first, __m256i low, __m256i high, const int8_t* at)
          __attribute__((always_inline)) {
        ForEach<kRows>([&](auto i) __attribute__((always_inline)) {
          const __m256i four = BroadcastFour(at + i * x_stride);
          const __m256i a = _mm256_maddubs_epi16(low, four);
          const __m256i b = _mm256_maddubs_epi16(high, four);
          pairs[i].low = first == 0 ? a : InThisOrder(_mm256_add_epi16(pairs[i].low, a));
          pairs[i].high = first == 0 ? b : InThisOrder(_mm256_add_epi16(pairs[i].high, b));
        });
      };
      ForEach<kGroup>([&](auto g) __attribute__((always_inline)) {
        const int v = kBegin + group * kGroup + g;
        const __m256i low = load(v, 0), high = load(v, 1);
        const int8_t* at = x + 4 * v;
        if constexpr (kCodesPerByte == 2) {
          add(g, _mm256_and_si256(low, nibble), _mm256_and_si256(high, nibble), at);
          add(Constant<1>{}, _mm256_and_si256(_mm256_srli_epi16(low, 4), nibble),
              _mm256_and_si256(_mm256_srli_epi16(high, 4), nibble), at + 16);
        } else {
          add(g, low, high, at);
        }
      });
      ForEach<kRows>([&](auto i) __attribute__((always_inline)) {
        dot[i].low = _mm256_add_epi32(dot[i].low, _mm256_madd_epi16(pairs[i].low, ones));
        dot[i].high = _mm256_add_epi32(dot[i].high, _mm256_madd_epi16(pairs[i].high, ones));
      });
    });
  }
}

// Products of words: of 8-bit codes two bytes' products do not fit in 16 bits, so that bytes save
// no instruction, and a second byte of activations costs nothing here. Codes are made signed. Of
// each four of a row, words 0 and 2 lie in one vector and 1 and 3 in the next, which shifts alone
// do.
template <int kMaxCode>
struct DotsOfWords {
  static constexpr bool kUsed = kMaxCode == 255;

  HOLDFAST_INLINE static __m256i Evens(__m256i bytes) {
    return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
  }
  HOLDFAST_INLINE static __m256i Odds(__m256i bytes) { return _mm256_srai_epi16(bytes, 8); }

  HOLDFAST_INLINE static void UnpackCodes(const uint8_t* codes, uint8_t* out) {
    const __m256i top = _mm256_set1_epi8(-128);
    ForEach<16>([&](auto i) __attribute__((always_inline)) {
      const auto* at = reinterpret_cast<const __m256i*>(codes + 32 * i);
      const __m256i bytes = _mm256_xor_si256(_mm256_loadu_si256(at), top);
      auto* words = reinterpret_cast<__m256i*>(out + 128 * (i / 2) + 32 * (i % 2));
      _mm256_storeu_si256(words, Evens(bytes));
      _mm256_storeu_si256(words + 2, Odds(bytes));
    });
  }
  // A row's 32 q = 256 * high + low.
  HOLDFAST_INLINE static void Widen(const int8_t* high, const int8_t* low, int16_t* words) {
    const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high));
    const __m256i l = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
    const __m256i odd_high = _mm256_and_si256(h, _mm256_set1_epi16(-256));
    auto* out = reinterpret_cast<__m256i*>(words);
    _mm256_storeu_si256(out, _mm256_add_epi16(_mm256_slli_epi16(h, 8), Evens(l)));
    _mm256_storeu_si256(out + 1, _mm256_add_epi16(odd_high, Odds(l)));
  }
  // dot[r] += the products of a block; words: [kRows][32].
  template <int kRows, int kPanels>
  HOLDFAST_INLINE static void Add(const uint8_t* codes, int64_t panel_stride, const int16_t* words,
                                  I32x16 (&dot)[kRows * kPanels]) {
    static_assert(kPanels == 1);
    static_cast<void>(panel_stride);
    ForEach<16>([&](auto v) __attribute__((always_inline)) {
      const auto* at = reinterpret_cast<const __m256i*>(codes + 64 * v);
      const __m256i low = _mm256_loadu_si256(at), high = _mm256_loadu_si256(at + 1);
      ForEach<kRows>([&](auto i) __attribute__((always_inline)) {
        const int16_t* pair = words + 32 * i + 16 * (v % 2) + v / 2 * 2;
        const __m256i two = BroadcastFour(reinterpret_cast<const int8_t*>(pair));
        dot[i].low = InThisOrder(_mm256_add_epi32(dot[i].low, _mm256_madd_epi16(low, two)));
        dot[i].high = InThisOrder(_mm256_add_epi32(dot[i].high, _mm256_madd_epi16(high, two)));
      });
    });
  }
};

inline constexpr int kMatmulRows = 4;  // of 16 registers 8 are for 16-bit sums
inline constexpr int kUnpackedRows = 4, kUnpackedPanels = 1;
inline constexpr int kFloatRows = 6, kFloatVectors = 1;  // 12 registers of sums
inline constexpr int kBf16Rows = 3;                      // likewise
inline constexpr int kAttentionRows = 6;                 // 12 registers of sums
constexpr int AttentionColumns(int rows) { return rows <= 2 ? 2 : 1; }

}  // namespace
}  // namespace holdfast
