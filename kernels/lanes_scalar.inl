// F32x16 and I32x16 in plain C++: the meaning of every operation that the vector paths must repeat
// bit for bit. Included by kernels_scalar.cc alone; lanes_avx2.inl and lanes_avx512.inl offer the
// same names.
#include "kernels/half.h"

namespace holdfast {
namespace {

struct F32x16 {
  float lane[16];
};
struct I32x16 {
  int32_t lane[16];
};

template <typename F>
inline F32x16 EachLane(F&& f) {
  F32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = f(i);
  return out;
}

inline F32x16 Splat(float x) {
  return EachLane([&](int) { return x; });
}
inline F32x16 Zero() { return Splat(0.0f); }
inline F32x16 Load(const float* p) {  // any alignment, as everywhere
  F32x16 out;
  __builtin_memcpy(out.lane, p, sizeof out.lane);
  return out;
}
inline void Store(float* p, F32x16 x) { __builtin_memcpy(p, x.lane, sizeof x.lane); }

inline F32x16 Add(F32x16 a, F32x16 b) {
  return EachLane([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline F32x16 Sub(F32x16 a, F32x16 b) {
  return EachLane([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline F32x16 Mul(F32x16 a, F32x16 b) {
  return EachLane([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline F32x16 Div(F32x16 a, F32x16 b) {
  return EachLane([&](int i) { return a.lane[i] / b.lane[i]; });
}
// a * b + c, rounded once.
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return EachLane([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
// The second operand where the two are equal or one is NaN.
inline F32x16 Max(F32x16 a, F32x16 b) {
  return EachLane([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F32x16 Min(F32x16 a, F32x16 b) {
  return EachLane([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// a < b ? x : y; y if a or b is NaN.
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 x, F32x16 y) {
  return EachLane([&](int i) { return a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i]; });
}
// The lanes of x whose bits are set, `fill` elsewhere.
inline F32x16 KeepLanes(F32x16 x, uint32_t kept, float fill) {
  return EachLane([&](int i) { return (kept >> i & 1) != 0 ? x.lane[i] : fill; });
}
// 2^n for t = n + 1.5 * 2^23 with n an integer in -126..127.
inline F32x16 PowerOfTwo(F32x16 t) {
  return EachLane([&](int i) { return FloatOfBits((BitsOfFloat(t.lane[i]) << 23) + 0x3f800000u); });
}
// x = m 2^e with 1 <= m < 2 for positive normal x; gives m and e.
inline F32x16 SplitExponent(F32x16 x, F32x16& e) {
  e = EachLane([&](int i) {
    return static_cast<float>(static_cast<int32_t>(BitsOfFloat(x.lane[i]) >> 23) - 127);
  });
  return EachLane(
      [&](int i) { return FloatOfBits((BitsOfFloat(x.lane[i]) & 0x007fffffu) | 0x3f800000u); });
}

// The tree: lane i with i + 8, then with i + 4, i + 2, i + 1.
inline float SumLanes(F32x16 x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x.lane[i] = x.lane[i] + x.lane[i + width];
  }
  return x.lane[0];
}
inline float MaxLanes(F32x16 x) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      x.lane[i] = x.lane[i] > x.lane[i + width] ? x.lane[i] : x.lane[i + width];
    }
  }
  return x.lane[0];
}

inline F32x16 LoadHalf(const void* p) {
  uint16_t half[16];
  __builtin_memcpy(half, p, sizeof half);
  return EachLane([&](int i) { return FloatOfHalf(half[i]); });
}
inline void StoreHalf(void* p, F32x16 x) {
  uint16_t half[16];
  for (int i = 0; i < 16; ++i) half[i] = HalfOfFloat(x.lane[i]);
  __builtin_memcpy(p, half, sizeof half);
}

inline F32x16 LoadBf16(const void* p) {
  uint16_t bf16[16];
  __builtin_memcpy(bf16, p, sizeof bf16);
  return EachLane([&](int i) { return FloatOfBits(uint32_t{bf16[i]} << 16); });
}
// 16 pairs of bf16 lying one after the other.
inline void LoadBf16Pairs(const void* p, F32x16& first, F32x16& second) {
  uint16_t bf16[32];
  __builtin_memcpy(bf16, p, sizeof bf16);
  first = EachLane([&](int i) { return FloatOfBits(uint32_t{bf16[2 * i]} << 16); });
  second = EachLane([&](int i) { return FloatOfBits(uint32_t{bf16[2 * i + 1]} << 16); });
}
// Rounds to nearest even; NaN becomes quiet.
inline void StoreBf16(void* p, F32x16 x) {
  uint16_t bf16[16];
  for (int i = 0; i < 16; ++i) {
    const uint32_t bits = BitsOfFloat(x.lane[i]), high = bits >> 16;
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    bf16[i] = static_cast<uint16_t>(nan ? high | 0x40u : (bits + 0x7fffu + (high & 1u)) >> 16);
  }
  __builtin_memcpy(p, bf16, sizeof bf16);
}

inline F32x16 LoadI8(const int8_t* p) {
  return EachLane([&](int i) { return static_cast<float>(p[i]); });
}

// 16 pairs lying one after the other, and back.
inline void LoadPairs(const float* p, F32x16& first, F32x16& second) {
  first = EachLane([&](int i) { return p[2 * i]; });
  second = EachLane([&](int i) { return p[2 * i + 1]; });
}
inline void StorePairs(float* p, F32x16 first, F32x16 second) {
  for (int i = 0; i < 16; ++i) {
    p[2 * i] = first.lane[i];
    p[2 * i + 1] = second.lane[i];
  }
}

// The largest of the 32 bit patterns without sign: orders magnitudes, infinity and NaN above all.
inline uint32_t MaxMagnitudeBits(F32x16 a, F32x16 b) {
  uint32_t most = 0;
  for (int i = 0; i < 16; ++i) {
    const uint32_t x = BitsOfFloat(a.lane[i]) & 0x7fffffffu;
    const uint32_t y = BitsOfFloat(b.lane[i]) & 0x7fffffffu;
    if (x > most) most = x;
    if (y > most) most = y;
  }
  return most;
}
// Rounds to the nearest integer, ties to even; |x| <= 127. Returns the sum.
inline int32_t StoreRoundedI8(int8_t* p, F32x16 x) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) {
    const float shifted = x.lane[i] + 0x1.8p23f;
    const auto rounded = static_cast<int32_t>(BitsOfFloat(shifted) - 0x4b400000u);
    p[i] = static_cast<int8_t>(rounded);
    sum += rounded;
  }
  return sum;
}

inline I32x16 SplatInt(int32_t x) {
  I32x16 out;
  for (int i = 0; i < 16; ++i) out.lane[i] = x;
  return out;
}
inline I32x16 AddInt(I32x16 a, I32x16 b) {
  for (int i = 0; i < 16; ++i) a.lane[i] += b.lane[i];
  return a;
}
template <int kBits>
inline I32x16 ShiftLeft(I32x16 x) {
  for (int i = 0; i < 16; ++i) x.lane[i] *= 1 << kBits;  // of negative numbers, too
  return x;
}
template <int kBits>
inline I32x16 ShiftRight(I32x16 x) {  // with its sign
  for (int i = 0; i < 16; ++i) x.lane[i] >>= kBits;
  return x;
}
inline F32x16 ToFloat(I32x16 x) {
  return EachLane([&](int i) { return static_cast<float>(x.lane[i]); });
}

// A packed block's codes a byte each: vector v of 64 has those of k = 4v + t.
template <int kCodeBits>
inline void UnpackCodes(const uint8_t* codes, uint8_t* out) {
  for (int i = 0; i < 64 * kCodeBits; ++i) {
    if constexpr (kCodeBits == 4) {
      out[i] = codes[i] & 15;
      out[256 + i] = codes[i] >> 4;
    } else {
      out[i] = codes[i];
    }
  }
}

// dot[r * kPanels + p].lane[j] += sum over vectors [kBegin, kEnd) and t < 4 of
// code(panel p, row j, vector, t) * x[r][..]; panel p's codes are at codes + p * panel_stride. See
// packed_layout.h; with 4-bit codes the range is all of the block, 0..4, and there is one panel.
template <CodeFormat kFormat, int kRows, int kPanels, int kBegin, int kEnd>
inline void DotCodes(const uint8_t* codes, int64_t panel_stride, const int8_t* x, int64_t x_stride,
                     I32x16 (&dot)[kRows * kPanels]) {
  constexpr bool kNibbles = kFormat.code_bits == 4;
  static_assert(kPanels == 1);
  static_cast<void>(panel_stride);
  for (int r = 0; r < kRows; ++r) {
    for (int v = kBegin; v < kEnd; ++v) {
      for (int j = 0; j < 16; ++j) {
        for (int t = 0; t < 4; ++t) {
          const int32_t code = codes[64 * v + 4 * j + t];
          const int8_t* at = x + r * x_stride + 4 * v + t;
          dot[r].lane[j] += kNibbles ? (code & 15) * at[0] + (code >> 4) * at[16] : code * at[0];
        }
      }
    }
  }
}

// True where DotCodes takes 8-bit codes (max_code 255) as code - 128, without a zero point in dot.
inline constexpr bool kSignedDotsOf8Bits = false;

// Dots of codes and activations in words where a path gains by them: this one doesn't.
template <int kMaxCode>
struct DotsOfWords {
  static constexpr bool kUsed = false;
};

// Rows that the products work on at once; queries that attention does, and vectors of K or V for so
// many queries.
inline constexpr int kMatmulRows = 1;
inline constexpr int kUnpackedRows = 1, kUnpackedPanels = 1;  // with weights unpacked to bytes
inline constexpr int kFloatRows = 4, kFloatVectors = 1;
inline constexpr int kBf16Rows = 4;
inline constexpr int kAttentionRows = 4;
constexpr int AttentionColumns(int /*rows*/) { return 1; }

}  // namespace
}  // namespace holdfast
