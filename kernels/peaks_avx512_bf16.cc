// Compiled with -mavx512f -mavx512bf16; reached only on processors that have them.
#include <immintrin.h>

#include "kernels/peak_paths.h"
#include "kernels/unroll.inl"

namespace holdfast {
namespace {

constexpr int kSums = 16;

double RunBf16(int32_t rounds) {
  __m512 sum[kSums];
  ForEach<kSums>(HOLDFAST_EACH { sum[i] = _mm512_setzero_ps(); });
  __m512i x = _mm512_set1_epi16(0x3f80), w = x;  // ones
  for (int32_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+v"(x), "+v"(w));
    ForEach<kSums>(HOLDFAST_EACH { sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)x, (__m512bh)w); });
  }
  float lanes[kSums * 16];
  ForEach<kSums>(HOLDFAST_EACH { _mm512_storeu_ps(lanes + 16 * i, sum[i]); });
  double total = 0.0;
  for (const float lane : lanes) total += static_cast<double>(lane);
  return total;
}

}  // namespace

PeakKernel Avx512Bf16Peaks() { return {RunBf16, kSums * 32, "vdpbf16ps"}; }

}  // namespace holdfast
