// Compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c; reached only
// on processors that have them.
#include <immintrin.h>

#include "kernels/peak_paths.h"
#include "kernels/unroll.inl"

namespace holdfast {
namespace {

constexpr int kSums = 16;

double RunF32(int32_t rounds) {
  __m512 sum[kSums];
  ForEach<kSums>(HOLDFAST_EACH { sum[i] = _mm512_setzero_ps(); });
  __m512 x = _mm512_set1_ps(1.0f), w = x;
  for (int32_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(x), "+v"(w));
    ForEach<kSums>(HOLDFAST_EACH { sum[i] = _mm512_fmadd_ps(x, w, sum[i]); });
  }
  float lanes[kSums * 16];
  ForEach<kSums>(HOLDFAST_EACH { _mm512_storeu_ps(lanes + 16 * i, sum[i]); });
  double total = 0.0;
  for (const float lane : lanes) total += static_cast<double>(lane);
  return total;
}

double RunInt8(int32_t rounds) {
  __m512i sum[kSums];
  ForEach<kSums>(HOLDFAST_EACH { sum[i] = _mm512_setzero_si512(); });
  __m512i x = _mm512_set1_epi8(1), w = x;
  for (int32_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(x), "+v"(w));
    ForEach<kSums>(HOLDFAST_EACH { sum[i] = _mm512_dpbusd_epi32(sum[i], w, x); });
  }
  int32_t lanes[kSums * 16];
  ForEach<kSums>(HOLDFAST_EACH { _mm512_storeu_si512(lanes + 16 * i, sum[i]); });
  double total = 0.0;
  for (const int32_t lane : lanes) total += lane;
  return total;
}

uint64_t Read(const std::byte* data, size_t bytes) {
  __m512i sum[8];
  ForEach<8>(HOLDFAST_EACH { sum[i] = _mm512_setzero_si512(); });
  for (size_t at = 0; at < bytes; at += kReadBytes) {
    ForEach<8>(HOLDFAST_EACH {
      __builtin_prefetch(data + at + kReadAheadBytes + 64 * i);
      sum[i] = _mm512_xor_si512(sum[i], _mm512_load_si512(data + at + 64 * i));
    });
  }
  ForEach<7>(HOLDFAST_EACH { sum[0] = _mm512_xor_si512(sum[0], sum[i + 1]); });
  uint64_t words[8], total = 0;
  _mm512_storeu_si512(words, sum[0]);
  for (const uint64_t word : words) total ^= word;
  return total;
}

}  // namespace

PeakKernels Avx512VnniPeaks() {
  return {.isa = Isa::kAvx512Vnni,
          .f32 = {RunF32, kSums * 16, "vfmadd231ps"},
          .int8 = {RunInt8, kSums * 64, "vpdpbusd"},
          .read = Read};
}

}  // namespace holdfast
