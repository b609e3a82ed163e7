// Plain C++, for any processor: what the compiler makes of the loops of the scalar path.
#include "kernels/peak_paths.h"
#include "kernels/unroll.inl"

namespace holdfast {
namespace {

// Compilers must take what lies at `p` for changed, and load it again.
[[gnu::always_inline]] inline void Touch(void* p) { asm volatile("" : : "r"(p) : "memory"); }

// Four at a time, as every compiler's baseline can add: loops over arrays of sums left them in
// memory (g++ 12).
double RunF32(int32_t rounds) {
  typedef float Four __attribute__((vector_size(16)));
  constexpr int kFours = 8;
  const Four one = {1.0f, 1.0f, 1.0f, 1.0f};
  Four x = one, w[kFours], sum[kFours];
  for (Four& four : w) four = one;
  ForEach<kFours>(HOLDFAST_EACH { sum[i] = Four{}; });
  for (int32_t round = 0; round < rounds; ++round) {
    Touch(&x);
    Touch(w);
    const Four now = x;
    ForEach<kFours>(HOLDFAST_EACH { sum[i] += now * w[i]; });
  }
  Four total = {};
  ForEach<kFours>(HOLDFAST_EACH { total += sum[i]; });
  return static_cast<double>(total[0] + total[1] + total[2] + total[3]);
}

constexpr int kDotLength = 256;

double RunInt8(int32_t rounds) {
  uint8_t w[kDotLength];
  int8_t x[kDotLength];
  __builtin_memset(w, 1, sizeof w);
  __builtin_memset(x, 1, sizeof x);
  int64_t total = 0;
  for (int32_t round = 0; round < rounds; ++round) {
    Touch(x);
    Touch(w);
    int32_t sum = 0;
    for (int i = 0; i < kDotLength; ++i) sum += int16_t{w[i]} * int16_t{x[i]};
    total += sum;
  }
  return static_cast<double>(total);
}

uint64_t Read(const std::byte* data, size_t bytes) {
  typedef uint64_t Two __attribute__((vector_size(16)));
  Two sum[8];
  ForEach<8>(HOLDFAST_EACH { sum[i] = Two{}; });
  for (size_t at = 0; at < bytes; at += kReadBytes) {
    const auto* vectors = reinterpret_cast<const Two*>(data + at);
    ForEach<kReadBytes / sizeof(Two)>(HOLDFAST_EACH {
      if (i % 4 == 0) __builtin_prefetch(data + at + kReadAheadBytes + 16 * i);
      sum[i % 8] ^= vectors[i];
    });
  }
  ForEach<7>(HOLDFAST_EACH { sum[0] ^= sum[i + 1]; });
  return sum[0][0] ^ sum[0][1];
}

}  // namespace

PeakKernels ScalarPeaks() {
  return {.isa = Isa::kScalar,
          .f32 = {RunF32, 8 * 4, "multiply, add"},
          .int8 = {RunInt8, kDotLength, "widen, multiply, add"},
          .read = Read};
}

}  // namespace holdfast
