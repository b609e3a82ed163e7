#include "kernels/cuda/gpu_kernels.cuh"
#include "kernels/cuda/numbers.cuh"

namespace holdfast {
namespace {

constexpr int32_t kBlockTokens = 16;
constexpr int32_t kThreads = 128;

// One head of one row a block of threads. All of a head is read before any of it is written, for
// queries are rotated in place.
template <typename T>
__global__ void __launch_bounds__(kThreads) Rotate(const GpuRopeWriteKv call) {
  extern __shared__ float head[];
  const int64_t row = blockIdx.x;
  const int32_t h = static_cast<int32_t>(blockIdx.y);
  const int32_t num_heads_all = call.num_heads + 2 * call.num_kv_heads;
  T* numbers = static_cast<T*>(call.qkv) + (row * num_heads_all + h) * call.head_dim;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < call.head_dim; i += kThreads) {
    head[i] = ToFloat(numbers[i]);
  }
  __syncthreads();

  const bool is_query = h < call.num_heads;
  const bool is_value = h >= call.num_heads + call.num_kv_heads;
  T* to = numbers;
  if (!is_query) {
    const int64_t slot = call.slots[row];
    if (slot < 0) return;
    const int32_t kv_head = h - call.num_heads - (is_value ? call.num_kv_heads : 0);
    T* block =
        reinterpret_cast<T*>(static_cast<char*>(call.kv) + slot / kBlockTokens * call.block_bytes);
    const int32_t part = 2 * kv_head + (is_value ? 1 : 0);
    to = block + (int64_t{part} * kBlockTokens + slot % kBlockTokens) * call.head_dim;
  }
  const int32_t rope_dim = is_value ? 0 : call.rope_dim;
  const float* cos_sin = call.cos_sin + int64_t{call.positions[row]} * call.rope_dim;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < call.head_dim; i += kThreads) {
    float number = head[i];
    if (i < rope_dim) {
      const int32_t half = rope_dim / 2;
      const int32_t pair = call.halves != 0 ? i % half : i / 2;
      const bool is_first = call.halves != 0 ? i < half : i % 2 == 0;
      const float other = head[call.halves != 0 ? (is_first ? i + half : i - half) : i ^ 1];
      const float cosine = cos_sin[2 * pair], sine = cos_sin[2 * pair + 1];
      number = is_first ? number * cosine - other * sine : number * cosine + other * sine;
    }
    to[i] = FromFloat<T>(number);
  }
}

}  // namespace

int32_t RopeWriteKv(cudaStream_t stream, const GpuRopeWriteKv& call) {
  if (call.rows == 0) return kGpuOk;
  if (call.head_dim <= 0 || call.rope_dim < 0 || call.rope_dim > call.head_dim ||
      call.rope_dim % 2 != 0 || call.num_heads < 0 || call.num_kv_heads < 0) {
    return Fail(kGpuInvalid, "RoPE", "rope_dim must be even, and no more than head_dim");
  }
  return WithType(call.dtype, "RoPE", [&]<typename T>(T) -> int32_t {
    const dim3 grid(static_cast<uint32_t>(call.rows),
                    static_cast<uint32_t>(call.num_heads + 2 * call.num_kv_heads));
    const auto shared_bytes = static_cast<size_t>(call.head_dim) * sizeof(float);
    Rotate<T><<<grid, kThreads, shared_bytes, stream>>>(call);
    return CheckLaunch("RoPE");
  });
}

}  // namespace holdfast
