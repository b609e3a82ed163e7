// Speed of the kernels on one thread, by instruction path:
//
//   bench_kernels --benchmark_filter='Matmul/avx512' --benchmark_repetitions=3
//
// Matmul/<path>/<type>/m/k/n    GOP/s, two operations a weight and row, over weights that rotate
//                               through more memory than the caches hold where a model's would
// Attention/<path>/<kv type>/rows/context  GFLOP/s, 3 query heads of 64 on one KV head
// The rest: GB/s read and written.
//
// With HOLDFAST_COUNT_INSTRUCTIONS=1 in the environment also `instructions`, of one call (products
// of matrices: of 96 outputs), where it has at most a million products.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "config/base/page_buffer.h"
#include "kernels/half.h"
#include "kernels/kernel_table.h"
#include "tests/bench/instruction_count.h"
#include "tests/parity/activations.h"

namespace holdfast {
namespace {

constexpr double kGiga = 1e9;

std::vector<float> RandomFloats(size_t count) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& x : out) x = normal(rng);
  return out;
}

constexpr double kProductsMax = 1e6;

bool CountsInstructions() { return std::getenv("HOLDFAST_COUNT_INSTRUCTIONS") != nullptr; }

template <typename Call>
void CountInstructions(benchmark::State& state, double products, const Call& call) {
  if (!CountsInstructions() || products > kProductsMax) return;
  const auto count = static_cast<double>(InstructionsOf(call));
  state.counters["instructions"] = count;
  if (products > 0) state.counters["products_per_instruction"] = products / count;
}

struct AlignedBytes {
  explicit AlignedBytes(size_t size) : data(new (std::align_val_t{64}) std::byte[size]) {}
  ~AlignedBytes() { operator delete[](data, std::align_val_t{64}); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  std::byte* data;
};

void BenchMatmul(benchmark::State& state, const KernelTable& kernels, TensorType type, int32_t m,
                 int32_t k, int32_t n) {
  const size_t packed_bytes = PackedMatrixBytes(type, n, k);
  // As many copies as a model has layers: 30, so that no cache keeps them.
  const size_t copies = packed_bytes > (size_t{8} << 20) ? 2 : 30;
  const AlignedBytes packed(packed_bytes * copies);
  std::mt19937 rng(2);
  for (size_t i = 0; i < packed_bytes; i += 4) {
    const auto word = static_cast<uint32_t>(rng()) & 0x3fff3fffu;  // finite as f16 and as f32
    std::memcpy(packed.data + i, &word, 4);
  }
  for (size_t i = 1; i < copies; ++i) {
    std::memcpy(packed.data + i * packed_bytes, packed.data, packed_bytes);
  }
  const auto x = RandomFloats(static_cast<size_t>(m) * k);
  std::vector<float> y(static_cast<size_t>(m) * n);
  const Activations rows(kernels, x, m, k);
  const auto multiply = [&](size_t copy, int32_t num_panels) {
    const PackedMatrix w{type, n, k, packed.data + copy * packed_bytes};
    kernels.quantized_matmul(w, rows.view(), 0, m, 0, num_panels, y.data(), n);
    benchmark::ClobberMemory();
  };
  size_t copy = 0;
  for (auto _ : state) {
    multiply(copy, n / kPanelRows);
    copy = (copy + 1) % copies;
  }
  constexpr int32_t kCounted = 6;  // panels
  CountInstructions(state, double{kCounted} * kPanelRows * m * k, [&] { multiply(0, kCounted); });
  const double iterations = static_cast<double>(state.iterations());
  state.counters["GOP/s"] =
      benchmark::Counter(2.0 * m * k * n * iterations / kGiga, benchmark::Counter::kIsRate);
  state.counters["weights_GB/s"] = benchmark::Counter(
      static_cast<double>(packed_bytes) * iterations / kGiga, benchmark::Counter::kIsRate);
}

void BenchFloatMatmul(benchmark::State& state, const KernelTable& kernels, TensorType type,
                      int32_t m, int32_t k, int32_t n) {
  const std::vector<std::byte> rows(RowBytes(type, k) * static_cast<size_t>(n));
  PageBuffer packed = *PageBuffer::Map(FloatMatrixBytes(type, n, k));
  PackFloatRows(type, rows.data(), k, 0, n, packed.data());
  const FloatMatrix w{type, n, k, packed.data()};
  const auto x = RandomFloats(static_cast<size_t>(m) * k);
  std::vector<float> y(static_cast<size_t>(m) * n);
  const RoundedActivations rounded(kernels, x, m, k);
  const auto multiply = [&](int32_t num_panels) {
    if (type == TensorType::kBf16) {
      kernels.bf16_matmul(w, rounded.view(), 0, m, 0, num_panels, y.data(), n);
    } else {
      kernels.float_matmul(w, x.data(), m, 0, num_panels, y.data(), n);
    }
    benchmark::ClobberMemory();
  };
  for (auto _ : state) multiply(w.num_panels());
  constexpr int32_t kCounted = 2;  // panels
  CountInstructions(state, double{kCounted} * kFloatPanelRows * m * k, [&] { multiply(kCounted); });
  state.counters["GFLOP/s"] =
      benchmark::Counter(2.0 * m * k * n * static_cast<double>(state.iterations()) / kGiga,
                         benchmark::Counter::kIsRate);
}

const char* ElementName(KvElement element) {
  return element == KvElement::kF32 ? "f32" : element == KvElement::kF16 ? "f16" : "i8";
}

// One head's part of a block (kvstore/kv_layout.h).
size_t HeadBytes(KvElement element, int32_t head_dim) {
  const size_t numbers = size_t{2} * 16 * static_cast<size_t>(head_dim);
  if (element == KvElement::kI8) return numbers + 2 * 16 * sizeof(float);
  return numbers * (element == KvElement::kF32 ? 4 : 2);
}

void BenchAttention(benchmark::State& state, const KernelTable& kernels, KvElement element,
                    int32_t rows, int32_t context) {
  constexpr int32_t kHeads = 3, kDim = 64, kPlaces = 16;
  const int32_t blocks = (context + kPlaces - 1) / kPlaces;
  const size_t stride = HeadBytes(element, kDim);
  std::vector<std::byte> arena(static_cast<size_t>(blocks) * stride);
  const auto kv = RandomFloats(size_t{2} * kPlaces * kDim);
  for (int32_t t = 0; t < blocks * kPlaces; ++t) {
    const float* key = kv.data() + size_t{2} * (t % kPlaces) * kDim;
    kernels.write_kv(key, key + kDim, kDim, element, t % kPlaces,
                     arena.data() + static_cast<size_t>(t / kPlaces) * stride);
  }
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (int32_t b = 0; b < blocks; ++b) table[static_cast<size_t>(b)] = b;
  const auto q = RandomFloats(static_cast<size_t>(rows) * kHeads * kDim);
  std::vector<float> out(q.size()), workspace(AttentionWorkspaceFloats(rows, kHeads, kDim));
  const AttentionTile tile{.q = q.data(),
                           .q_row_stride = kHeads * kDim,
                           .num_rows = rows,
                           .num_heads = kHeads,
                           .head_dim = kDim,
                           .first_position = context - rows,
                           .scale = 0.125f,
                           .kv_base = arena.data(),
                           .kv_block_stride = stride,
                           .block_table = table.data(),
                           .kv_element = element,
                           .out = out.data(),
                           .out_row_stride = kHeads * kDim,
                           .workspace = workspace.data()};
  const auto attend = [&] {
    kernels.attention(tile);
    benchmark::ClobberMemory();
  };
  for (auto _ : state) attend();
  double keys = 0;
  for (int32_t r = 0; r < rows; ++r) keys += context - rows + r + 1;
  CountInstructions(state, 2.0 * kDim * kHeads * keys, attend);
  state.counters["GFLOP/s"] = benchmark::Counter(
      4.0 * kDim * kHeads * keys * static_cast<double>(state.iterations()) / kGiga,
      benchmark::Counter::kIsRate);
}

void BenchQuantizeRows(benchmark::State& state, const KernelTable& kernels) {
  constexpr int32_t kRows = 16, kInputs = 1536;
  const auto x = RandomFloats(size_t{kRows} * kInputs);
  const Activations rows(kernels, x, kRows, kInputs);
  const auto call = [&] {
    kernels.quantize_rows(x.data(), 0, kRows, kInputs, ActivationBits::kMixed, rows.view());
    benchmark::ClobberMemory();
  };
  for (auto _ : state) call();
  CountInstructions(state, 0, call);
  state.SetBytesProcessed(state.iterations() * kRows * kInputs * 6);
}

void BenchSwiglu(benchmark::State& state, const KernelTable& kernels) {
  constexpr int32_t kCount = 1536;
  const auto gate = RandomFloats(kCount);
  std::vector<float> out(kCount);
  const auto call = [&] {
    kernels.swiglu(gate.data(), gate.data(), kCount, out.data());
    benchmark::ClobberMemory();
  };
  for (auto _ : state) call();
  CountInstructions(state, 0, call);
  state.SetBytesProcessed(state.iterations() * kCount * 12);
}

void BenchRmsNorm(benchmark::State& state, const KernelTable& kernels) {
  constexpr int32_t kHidden = 576;
  const auto x = RandomFloats(kHidden);
  std::vector<float> out(kHidden);
  const auto call = [&] {
    kernels.rms_norm(x.data(), kHidden, x.data(), 1, kHidden, 1e-5f, out.data(), kHidden);
    benchmark::ClobberMemory();
  };
  for (auto _ : state) call();
  CountInstructions(state, 0, call);
  state.SetBytesProcessed(state.iterations() * kHidden * 8);
}

void BenchRope(benchmark::State& state, const KernelTable& kernels, RopePairing pairing) {
  constexpr int32_t kHeads = 12, kDim = 64;
  auto heads = RandomFloats(kHeads * kDim);
  const std::vector<float> cos_sin(kDim, 0.70710678f);
  const auto call = [&] {
    kernels.rope(heads.data(), kHeads, kDim, kDim, pairing, cos_sin.data());
    benchmark::ClobberMemory();
  };
  for (auto _ : state) call();
  CountInstructions(state, 0, call);
  state.SetBytesProcessed(state.iterations() * kHeads * kDim * 8);
}

void BenchLogSumExp(benchmark::State& state, const KernelTable& kernels) {
  constexpr int32_t kVocabulary = 49152;
  const auto logits = RandomFloats(kVocabulary);
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernels.log_sum_exp(logits.data(), kVocabulary));
  }
  state.SetBytesProcessed(state.iterations() * kVocabulary * 4);
}

template <typename Bench>
void Register(const char* name, const Bench& bench) {
  auto* const registered = benchmark::RegisterBenchmark(name, bench);
  if (CountsInstructions()) registered->Iterations(1);  // else it is called until its time is long
}

void RegisterPath(const KernelTable& kernels) {
  const std::string path = kernels.name;
  const auto name = [](std::initializer_list<std::string> parts) {
    std::string out;
    for (const std::string& part : parts) out += (out.empty() ? "" : "/") + part;
    return out;
  };
  const auto number = [](int32_t x) { return std::to_string(x); };
  const auto matmul = [&](TensorType type, int32_t m, int32_t k, int32_t n) {
    Register(
        name({"Matmul", path, TraitsOf(type).name, number(m), number(k), number(n)}).c_str(),
        [&kernels, type, m, k, n](benchmark::State& s) { BenchMatmul(s, kernels, type, m, k, n); });
  };
  struct Shape {
    int32_t k, n;
  };
  // The default model's: attention output, fused q k v, fused gate and up, down, head.
  for (const Shape shape :
       {Shape{576, 576}, Shape{576, 960}, Shape{576, 3072}, Shape{1536, 576}, Shape{576, 49152}}) {
    for (const int32_t m : {1, 4, 16, 64, 512}) {
      if (m == 512 && shape.n > 4096) continue;
      matmul(TensorType::kQ4_1, m, shape.k, shape.n);
    }
  }
  for (const TensorType type :
       {TensorType::kQ4_0, TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0,
        TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K}) {
    for (const int32_t m : {1, 64}) matmul(type, m, 1536, 576);
  }
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBf16}) {
    for (const int32_t m : {1, 16, 128}) {
      Register(name({"FloatMatmul", path, TraitsOf(type).name, number(m), "576", "576"}).c_str(),
               [&kernels, type, m](benchmark::State& s) {
                 BenchFloatMatmul(s, kernels, type, m, 576, 576);
               });
    }
  }
  for (const Shape shape :
       {Shape{1, 100}, Shape{1, 1000}, Shape{1, 8000}, Shape{64, 64}, Shape{64, 1000}}) {
    for (const KvElement element : {KvElement::kF16, KvElement::kF32, KvElement::kI8}) {
      Register(
          name({"Attention", path, ElementName(element), number(shape.k), number(shape.n)}).c_str(),
          [&kernels, element, shape](benchmark::State& s) {
            BenchAttention(s, kernels, element, shape.k, shape.n);
          });
    }
  }
  const auto row = [&](const char* what, void (*bench)(benchmark::State&, const KernelTable&)) {
    Register(name({what, path}).c_str(),
             [&kernels, bench](benchmark::State& s) { bench(s, kernels); });
  };
  row("QuantizeRows", BenchQuantizeRows);
  row("Swiglu", BenchSwiglu);
  row("RmsNorm", BenchRmsNorm);
  row("LogSumExp", BenchLogSumExp);
  for (const RopePairing pairing : {RopePairing::kInterleaved, RopePairing::kHalves}) {
    Register(
        name({"Rope", path, pairing == RopePairing::kHalves ? "halves" : "interleaved"}).c_str(),
        [&kernels, pairing](benchmark::State& s) { BenchRope(s, kernels, pairing); });
  }
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  for (const holdfast::Isa isa : holdfast::kIsas) {
    if (holdfast::IsaSupported(isa)) holdfast::RegisterPath(holdfast::KernelsOf(isa));
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
