// The kernels behind gpu_library.h, each in the file of its name. They queue their work and return
// a GpuCode; what each computes is said in gpu_library.h.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gpu_library.h"

namespace holdfast {

int32_t RmsNorm(cudaStream_t stream, const GpuRmsNorm& call);
int32_t Embed(cudaStream_t stream, const GpuEmbed& call);
int32_t Swiglu(cudaStream_t stream, const GpuSwiglu& call);
int32_t RopeWriteKv(cudaStream_t stream, const GpuRopeWriteKv& call);

}  // namespace holdfast
