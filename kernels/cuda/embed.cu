#include "kernels/cuda/gpu_kernels.cuh"
#include "kernels/cuda/numbers.cuh"

namespace holdfast {
namespace {

constexpr int32_t kThreads = 128;

__global__ void __launch_bounds__(kThreads) Gather(const uint4* table, const int32_t* tokens,
                                                   uint4* out, int32_t row_packs, int32_t vocab) {
  const int32_t token = tokens[blockIdx.x];
  const bool is_known = token >= 0 && token < vocab;
  const uint4* from = table + (is_known ? int64_t{token} * row_packs : 0);
  uint4* to = out + int64_t{blockIdx.x} * row_packs;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < row_packs; i += kThreads) {
    to[i] = is_known ? from[i] : uint4{};
  }
}

}  // namespace

int32_t Embed(cudaStream_t stream, const GpuEmbed& call) {
  if (call.rows == 0) return kGpuOk;
  return WithType(call.dtype, "the embedding", [&]<typename T>(T) -> int32_t {
    const int32_t row_packs = call.hidden / Pack<T>::kCount;
    if (call.hidden <= 0 || call.hidden % Pack<T>::kCount != 0 || !IsAligned(call.table) ||
        !IsAligned(call.out)) {
      return Fail(kGpuInvalid, "the embedding",
                  "rows must be whole multiples of 16 bytes, and aligned");
    }
    Gather<<<call.rows, kThreads, 0, stream>>>(static_cast<const uint4*>(call.table), call.tokens,
                                               static_cast<uint4*>(call.out), row_packs,
                                               call.vocab);
    return CheckLaunch("the embedding");
  });
}

}  // namespace holdfast
