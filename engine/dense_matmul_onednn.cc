#include "engine/dense_matmul_onednn.h"

#ifdef HOLDFAST_HAVE_ONEDNN

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <exception>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "config/base/check.h"
#include "config/base/page_buffer.h"

// OpenMP's own interface; Debian's oneDNN runs on it, and clang has no header for it here.
extern "C" void omp_set_num_threads(int num_threads);

namespace holdfast {
namespace {

using Tag = dnnl::memory::format_tag;
using dnnl::memory;

uint16_t Bf16Of(float value) {  // nearest even; NaN stays NaN
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

class OneDnnMatmul final : public DenseMatmul {
 public:
  // Throws what oneDNN throws, which Create catches; other failures leave ready() false.
  OneDnnMatmul(DenseType type, const std::byte* weights, int32_t n, int32_t k, WorkerPool& pool)
      : DenseMatmul((n + kPanelOutputs - 1) / kPanelOutputs),
        type_(type),
        n_(n),
        k_(k),
        engine_(dnnl::engine::kind::cpu, 0) {
    const auto data_type =
        type == DenseType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
    const memory::desc source({kTileRows, k}, data_type, Tag::ab);
    const memory::desc any_weights({k, kPanelOutputs}, data_type, Tag::any);
    const memory::desc result({kTileRows, kPanelOutputs}, memory::data_type::f32, Tag::ab);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, any_weights, result),
                                                   attributes, engine_);
    primitive_ = dnnl::matmul(description);
    scratchpad_bytes_ = description.scratchpad_desc().get_size();

    ready_ = ReorderWeights(weights, data_type, description.weights_desc(), pool);
    if (!ready_) return;
    for (int32_t worker = 0; worker < pool.num_workers(); ++worker) {
      WorkerMemory& m = workers_.emplace_back();
      m.scratchpad_bytes.resize(std::max<size_t>(scratchpad_bytes_, 1));
      m.source_tile.resize(description.src_desc().get_size());
      m.result_tile.resize(size_t{kTileRows} * kPanelOutputs);
      m.stream = dnnl::stream(engine_);
      m.source = memory(description.src_desc(), engine_, m.source_tile.data());
      m.result = memory(description.dst_desc(), engine_, m.result_tile.data());
      m.scratchpad = memory(description.scratchpad_desc(), engine_, m.scratchpad_bytes.data());
    }
  }

  bool ready() const { return ready_; }

  void Run(int32_t panel_begin, int32_t panel_end, const float* x, int32_t rows, float* y,
           int64_t y_stride, int32_t worker) override {
    omp_set_num_threads(1);
    WorkerMemory& m = workers_[worker];
    for (int32_t row = 0; row < rows; row += kTileRows) {
      const int32_t tile_rows = std::min(kTileRows, rows - row);
      LoadTile(x + static_cast<int64_t>(row) * k_, tile_rows, m);
      for (int32_t panel = panel_begin; panel < panel_end; ++panel) {
        Execute(m, panel);
        const int32_t column = panel * kPanelOutputs;
        const auto bytes = sizeof(float) * std::min(kPanelOutputs, n_ - column);
        for (int32_t r = 0; r < tile_rows; ++r) {
          std::memcpy(y + (row + r) * y_stride + column,
                      m.result_tile.data() + static_cast<size_t>(r) * kPanelOutputs, bytes);
        }
      }
    }
  }

 private:
  struct WorkerMemory {
    std::vector<std::byte> source_tile, scratchpad_bytes;
    std::vector<float> result_tile;
    dnnl::stream stream;
    memory source, result, scratchpad;
  };

  size_t element_bytes() const { return type_ == DenseType::kF32 ? 4 : 2; }

  bool ReorderWeights(const std::byte* weights, memory::data_type data_type,
                      const memory::desc& panel_desc, WorkerPool& pool) {
    const size_t panel_bytes = (panel_desc.get_size() + 63) / 64 * 64;
    std::optional<PageBuffer> buffer = PageBuffer::Map(panel_bytes * num_panels());
    if (!buffer.has_value()) return false;
    buffer_ = *std::move(buffer);
    const size_t row_bytes = static_cast<size_t>(k_) * element_bytes();
    const memory::desc plain({k_, kPanelOutputs}, data_type, Tag::ba);
    panels_.resize(num_panels());
    std::atomic<bool> failed = false;
    pool.ParallelFor(num_panels(), [&](int32_t panel, int32_t) {
      omp_set_num_threads(1);
      const int32_t first = panel * kPanelOutputs;
      std::vector<std::byte> rows(row_bytes * kPanelOutputs);  // the last panel ends in zeros
      std::memcpy(rows.data(), weights + static_cast<size_t>(first) * row_bytes,
                  row_bytes * static_cast<size_t>(std::min(kPanelOutputs, n_ - first)));
      try {
        memory from(plain, engine_, rows.data());
        memory to(panel_desc, engine_, buffer_.data() + panel_bytes * static_cast<size_t>(panel));
        dnnl::stream stream(engine_);
        dnnl::reorder(from, to).execute(stream, from, to);
        stream.wait();
        panels_[panel] = std::move(to);
      } catch (const std::exception&) {
        failed = true;
      }
    });
    return !failed;
  }

  // Rows of x as the primitive's source: in place if a whole f32 tile is there.
  void LoadTile(const float* x, int32_t tile_rows, WorkerMemory& m) {
    if (type_ == DenseType::kF32 && tile_rows == kTileRows) {
      SetHandle(m.source, const_cast<float*>(x));  // oneDNN only reads a source
      return;
    }
    const size_t count = static_cast<size_t>(tile_rows) * static_cast<size_t>(k_);
    if (type_ == DenseType::kF32) {
      std::memcpy(m.source_tile.data(), x, count * sizeof(float));
    } else {
      auto* out = reinterpret_cast<uint16_t*>(m.source_tile.data());
      for (size_t i = 0; i < count; ++i) out[i] = Bf16Of(x[i]);
    }
    std::memset(m.source_tile.data() + count * element_bytes(), 0,
                m.source_tile.size() - count * element_bytes());
    SetHandle(m.source, m.source_tile.data());
  }

  static void SetHandle(memory& memory, void* handle) {
    CHECK(dnnl_memory_set_data_handle(memory.get(), handle) == dnnl_success);
  }

  void Execute(WorkerMemory& m, int32_t panel) {
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, m.source.get()},
                                         {DNNL_ARG_WEIGHTS, panels_[panel].get()},
                                         {DNNL_ARG_DST, m.result.get()},
                                         {DNNL_ARG_SCRATCHPAD, m.scratchpad.get()}};
    CHECK(dnnl_primitive_execute(primitive_.get(), m.stream.get(), 4, arguments) == dnnl_success);
  }

  const DenseType type_;
  const int32_t n_, k_;
  dnnl::engine engine_;
  dnnl::matmul primitive_;
  size_t scratchpad_bytes_ = 0;
  bool ready_ = false;
  PageBuffer buffer_;
  std::vector<memory> panels_;
  std::vector<WorkerMemory> workers_;
};

}  // namespace

bool DenseMatmul::Available() { return true; }

bool DenseMatmul::HasNativeBf16() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
}

std::string DenseMatmul::InstructionsName() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "baseline";
  }
}

absl::StatusOr<std::unique_ptr<DenseMatmul>> DenseMatmul::Create(DenseType type,
                                                                 const void* weights, int32_t n,
                                                                 int32_t k, WorkerPool& pool) {
  CHECK(n > 0 && k > 0);
  try {
    auto matmul =
        std::make_unique<OneDnnMatmul>(type, static_cast<const std::byte*>(weights), n, k, pool);
    if (!matmul->ready()) {
      return absl::ResourceExhaustedError("no memory for a matrix of " + std::to_string(n) + " x " +
                                          std::to_string(k) + " weights");
    }
    return matmul;
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("oneDNN refused a matrix product: ") + error.what());
  }
}

}  // namespace holdfast

#else  // no oneDNN in this build

namespace holdfast {

bool DenseMatmul::Available() { return false; }
bool DenseMatmul::HasNativeBf16() { return false; }
std::string DenseMatmul::InstructionsName() { return "none"; }
absl::StatusOr<std::unique_ptr<DenseMatmul>> DenseMatmul::Create(DenseType, const void*, int32_t,
                                                                 int32_t, WorkerPool&) {
  return absl::UnimplementedError("this build has no oneDNN");
}

}  // namespace holdfast

#endif
