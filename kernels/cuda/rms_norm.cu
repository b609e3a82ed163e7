#include "kernels/cuda/gpu_kernels.cuh"
#include "kernels/cuda/numbers.cuh"

namespace holdfast {
namespace {

constexpr int32_t kThreads = 256;

// The sum over the block of threads, to each of them: lanes by a butterfly, then warps in order, so
// that a row's sum is one fixed sequence of additions whatever the other rows.
__device__ float BlockSum(float value) {
  __shared__ float warps[kThreads / 32];
  for (int32_t distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(~0U, value, distance);
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
  for (const float warp : warps) sum += warp;
  return sum;
}

// A row a block of threads. The sum is over what is stored: rounded, where a residual was added.
template <typename T>
__global__ void __launch_bounds__(kThreads) Norm(const GpuRmsNorm call) {
  using Numbers = Pack<T>;
  const int64_t row_begin = int64_t{blockIdx.x} * call.hidden;
  const auto* x = reinterpret_cast<const Numbers*>(static_cast<const T*>(call.x) + row_begin);
  auto* residual = call.residual == nullptr
                       ? nullptr
                       : reinterpret_cast<Numbers*>(static_cast<T*>(call.residual) + row_begin);
  const auto* weight = static_cast<const Numbers*>(call.weight);
  auto* out = reinterpret_cast<Numbers*>(static_cast<T*>(call.out) + row_begin);
  const int32_t num_packs = call.hidden / Numbers::kCount;

  float square_sum = 0.0f;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < num_packs; i += kThreads) {
    Numbers pack = x[i];
    if (residual != nullptr) {
      const Numbers before = residual[i];
      for (int32_t j = 0; j < Numbers::kCount; ++j) {
        pack.values[j] = FromFloat<T>(ToFloat(pack.values[j]) + ToFloat(before.values[j]));
      }
      residual[i] = pack;
    }
    for (int32_t j = 0; j < Numbers::kCount; ++j) {
      const float number = ToFloat(pack.values[j]);
      square_sum = fmaf(number, number, square_sum);
    }
  }
  const float scale = rsqrtf(BlockSum(square_sum) / static_cast<float>(call.hidden) + call.eps);
  const Numbers* summed = residual != nullptr ? residual : x;  // each thread its own packs
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < num_packs; i += kThreads) {
    Numbers pack = summed[i];
    const Numbers by = weight[i];
    for (int32_t j = 0; j < Numbers::kCount; ++j) {
      pack.values[j] = FromFloat<T>(ToFloat(pack.values[j]) * scale * ToFloat(by.values[j]));
    }
    out[i] = pack;
  }
}

}  // namespace

int32_t RmsNorm(cudaStream_t stream, const GpuRmsNorm& call) {
  if (call.rows == 0) return kGpuOk;
  return WithType(call.dtype, "the norm", [&]<typename T>(T) -> int32_t {
    if (call.hidden <= 0 || call.hidden % Pack<T>::kCount != 0 || !IsAligned(call.x) ||
        !IsAligned(call.residual) || !IsAligned(call.weight) || !IsAligned(call.out)) {
      return Fail(kGpuInvalid, "the norm", "rows must be whole multiples of 16 bytes, and aligned");
    }
    Norm<T><<<call.rows, kThreads, 0, stream>>>(call);
    return CheckLaunch("the norm");
  });
}

}  // namespace holdfast
