#include "kernels/cuda/gpu_kernels.cuh"
#include "kernels/cuda/numbers.cuh"

namespace holdfast {
namespace {

constexpr int32_t kThreads = 256;

// Threads along a row, blocks of them over rows.
template <typename T>
__global__ void __launch_bounds__(kThreads) GateTimesUp(const T* x, T* out, int32_t size) {
  using Numbers = Pack<T>;
  const int32_t num_packs = size / Numbers::kCount;
  const int32_t i = static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x);
  if (i >= num_packs) return;
  const auto* row = reinterpret_cast<const Numbers*>(x + int64_t{2} * blockIdx.x * size);
  const Numbers gate = row[i], up = row[num_packs + i];
  Numbers product;
  for (int32_t j = 0; j < Numbers::kCount; ++j) {
    const float g = ToFloat(gate.values[j]);
    product.values[j] = FromFloat<T>(g / (1.0f + expf(-g)) * ToFloat(up.values[j]));
  }
  reinterpret_cast<Numbers*>(out + int64_t{blockIdx.x} * size)[i] = product;
}

}  // namespace

int32_t Swiglu(cudaStream_t stream, const GpuSwiglu& call) {
  if (call.rows == 0) return kGpuOk;
  return WithType(call.dtype, "SwiGLU", [&]<typename T>(T) -> int32_t {
    if (call.size <= 0 || call.size % Pack<T>::kCount != 0 || !IsAligned(call.x) ||
        !IsAligned(call.out)) {
      return Fail(kGpuInvalid, "SwiGLU", "rows must be whole multiples of 16 bytes, and aligned");
    }
    const int32_t num_packs = call.size / Pack<T>::kCount;
    const dim3 grid(static_cast<uint32_t>(call.rows),
                    static_cast<uint32_t>((num_packs + kThreads - 1) / kThreads));
    GateTimesUp<<<grid, kThreads, 0, stream>>>(static_cast<const T*>(call.x),
                                               static_cast<T*>(call.out), call.size);
    return CheckLaunch("SwiGLU");
  });
}

}  // namespace holdfast
