// Compiled with -mavx2 -mfma -mf16c; reached only on processors that have them.
#include <immintrin.h>

#include "kernels/peak_paths.h"
#include "kernels/unroll.inl"

namespace holdfast {
namespace {

// `v`, which compilers must take for changed, and here. By value: g++ 12 kept in memory what was
// touched by reference, at half the speed.
[[gnu::always_inline]] inline __m256i Changed(__m256i v) {
  asm volatile("" : "+x"(v));
  return v;
}

double RunF32(int32_t rounds) {
  __m256 sum[12];
  ForEach<12>(HOLDFAST_EACH { sum[i] = _mm256_setzero_ps(); });
  __m256 x = _mm256_set1_ps(1.0f), w = x;
  for (int32_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+x"(x), "+x"(w));
    ForEach<12>(HOLDFAST_EACH { sum[i] = _mm256_fmadd_ps(x, w, sum[i]); });
  }
  float lanes[12 * 8];
  ForEach<12>(HOLDFAST_EACH { _mm256_storeu_ps(lanes + 8 * i, sum[i]); });
  double total = 0.0;
  for (const float lane : lanes) total += static_cast<double>(lane);
  return total;
}

// Eight products of 4-bit codes fit 16 bits; see lanes_avx2.inl.
double RunInt8(int32_t rounds) {
  constexpr int kSums = 4, kAddable = 8;
  __m256i sum[kSums], x[kSums];
  ForEach<kSums>(HOLDFAST_EACH {
    sum[i] = _mm256_setzero_si256();
    x[i] = Changed(_mm256_set1_epi8(1));  // so that they differ
  });
  __m256i w = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int32_t round = 0; round < rounds; ++round) {
    __m256i pairs[kSums];
    ForEach<kAddable>([&](auto product) __attribute__((always_inline)) {
      // What a kernel would load anew; without it all eight would be computed once.
      w = Changed(w);
      ForEach<kSums>(HOLDFAST_EACH {
        const __m256i two = _mm256_maddubs_epi16(w, x[i]);
        // Added now: products kept for later would fill the registers.
        pairs[i] = Changed(product == 0 ? two : _mm256_add_epi16(pairs[i], two));
      });
    });
    ForEach<kSums>(
        HOLDFAST_EACH { sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs[i], ones)); });
  }
  int32_t lanes[kSums * 8];
  ForEach<kSums>(
      HOLDFAST_EACH { _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes + 8 * i), sum[i]); });
  double total = 0.0;
  for (const int32_t lane : lanes) total += lane;
  return total;
}

uint64_t Read(const std::byte* data, size_t bytes) {
  __m256i sum[8];
  ForEach<8>(HOLDFAST_EACH { sum[i] = _mm256_setzero_si256(); });
  for (size_t at = 0; at < bytes; at += kReadBytes) {
    const auto* vectors = reinterpret_cast<const __m256i*>(data + at);
    ForEach<16>(HOLDFAST_EACH {
      if (i % 2 == 0) __builtin_prefetch(data + at + kReadAheadBytes + 32 * i);
      sum[i % 8] = _mm256_xor_si256(sum[i % 8], _mm256_load_si256(vectors + i));
    });
  }
  ForEach<7>(HOLDFAST_EACH { sum[0] = _mm256_xor_si256(sum[0], sum[i + 1]); });
  uint64_t words[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), sum[0]);
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}

}  // namespace

PeakKernels Avx2Peaks() {
  return {.isa = Isa::kAvx2,
          .f32 = {RunF32, 12 * 8, "vfmadd231ps"},
          .int8 = {RunInt8, int64_t{4} * 8 * 32, "vpmaddubsw"},
          .read = Read};
}

}  // namespace holdfast
