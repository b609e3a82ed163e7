// What an instruction path can do at most: kernels that do one thing only, beside those that
// compute (kernel_table.h). `holdfast bench machine` times them, and `bench engine` holds the
// engine against them. Arithmetic on registers and reading of memory; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_table.h"

namespace holdfast {

struct PeakKernel {
  // Multiplies ones with ones and adds them up, in as many independent sums as hide the
  // instruction's latency; returns the total, which is the number of its multiply-adds as long as
  // it fits the sums (f32: up to 2^24 a lane). Null: the path has no such instruction.
  double (*run)(int32_t rounds) = nullptr;
  int64_t multiply_adds_per_round = 0;
  const char* instruction = nullptr;
};

struct PeakKernels {
  Isa isa = Isa::kScalar;
  PeakKernel f32;   // f32 * f32 + f32
  PeakKernel bf16;  // pairs of bf16 * bf16, summed in f32
  // 8-bit dot products as the path's quantised product may use them at best: with codes of 4 bits,
  // which AVX2 may add up in 16 bits before it widens. Codes of 8 bits are slower there.
  PeakKernel int8;
  // The exclusive or of `bytes` bytes at `data` as 64-bit words; aligned to 64, a multiple of
  // kReadBytes.
  uint64_t (*read)(const std::byte* data, size_t bytes) = nullptr;
};
inline constexpr size_t kReadBytes = 512;
// How far ahead of the reading lines are asked for: of 96 MiB in the last cache one core read 25.9
// GB/s without, 29.0 with it; the processor's own prefetching does not cross a page.
inline constexpr size_t kReadAheadBytes = 4096;

// isa must be supported.
PeakKernels PeakKernelsOf(Isa isa);

}  // namespace holdfast
