// Stored numbers, 16 bytes at a time, to f32 and back; and the choice of a kernel by dtype.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/gpu_call.cuh"

namespace holdfast {

// What 16 aligned bytes hold.
template <typename T>
struct alignas(16) Pack {
  static constexpr int32_t kCount = 16 / sizeof(T);
  T values[kCount];
};

__device__ inline float ToFloat(float x) { return x; }
__device__ inline float ToFloat(__half x) { return __half2float(x); }
__device__ inline float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline __half FromFloat<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// run(T{}) with the type that `dtype` names.
template <typename Run>
int32_t WithType(GpuDtype dtype, const char* what, const Run& run) {
  switch (dtype) {
    case kGpuF32:
      return run(float{});
    case kGpuF16:
      return run(__half{});
    case kGpuBf16:
      return run(__nv_bfloat16{});
  }
  return Fail(kGpuInvalid, what, "no such dtype");
}

inline bool IsAligned(const void* memory) { return reinterpret_cast<uintptr_t>(memory) % 16 == 0; }

}  // namespace holdfast
