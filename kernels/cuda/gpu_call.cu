#include <cstdio>

#include "kernels/cuda/gpu_call.cuh"

namespace holdfast {
namespace {

thread_local char error_text[256] = "";

GpuCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return kGpuOk;
    case cudaErrorMemoryAllocation:
      return kGpuOutOfMemory;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorInitializationError:
      return kGpuNoDevice;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
      return kGpuInvalid;
    default:
      return kGpuDeviceLost;
  }
}

}  // namespace

const char* ErrorText() { return error_text; }

int32_t Fail(GpuCode code, const char* what, const char* why) {
  std::snprintf(error_text, sizeof error_text, "%s: %s", what, why);
  return code;
}

int32_t Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return kGpuOk;
  // What is not for good would else come back from the next call, which has nothing to do with it.
  static_cast<void>(cudaGetLastError());
  return Fail(CodeOf(error), what, cudaGetErrorString(error));
}

int32_t Use(int32_t ordinal) { return Check(cudaSetDevice(ordinal), "choosing the GPU"); }

}  // namespace holdfast
