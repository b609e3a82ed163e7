// What every call of gpu_library.h is made of: handles, and errors as codes and texts.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gpu_library.h"

namespace holdfast {

struct GpuDevice {
  int32_t ordinal;
};

struct GpuStream {
  int32_t ordinal;
  cudaStream_t stream;
};

struct GpuEvent {
  int32_t ordinal;
  cudaEvent_t event;
};

// Puts what went wrong where error_text finds it.
int32_t Fail(GpuCode code, const char* what, const char* why);
int32_t Check(cudaError_t error, const char* what);
// Makes the device the thread's own.
int32_t Use(int32_t ordinal);
// Of the kernel that was queued last.
inline int32_t CheckLaunch(const char* what) { return Check(cudaGetLastError(), what); }

const char* ErrorText();

}  // namespace holdfast
