// One linear layer, y = x W^T + b, prepared for this device: its weights may come from several
// tensors whose outputs stand side by side (q, k, v; gate and up), each in the type it has in the
// file.
//
//   quantised types ─► PackedMatrix ─► KernelTable::quantized_matmul   x quantised by PrepareRow
//   f32, f16        ─► FloatMatrix  ─► KernelTable::float_matmul       x in f32
//   bf16            ─► FloatMatrix  ─► KernelTable::bf16_matmul        x rounded by PrepareRow
//   any, in mode kF32 ─► dequantised to a FloatMatrix of f32           the reference arithmetic
//
// The work is cut into tasks of whole panels and runs of rows; each output is one fixed sequence of
// operations, so how it is cut changes no bit (promise 1).
//
// Thread: Run from the pool's caller.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/large_pages.h"
#include "engine/weights.h"
#include "engine/worker_pool.h"
#include "kernels/kernel_table.h"

namespace holdfast {

enum class WeightsMode : uint8_t {
  kNative,  // as stored: quantised products on quantised activations, bf16 on bf16
  kF32      // everything dequantised to f32: the oracle's arithmetic, slow and large
};

// Activations in the forms that some weights take instead of f32.
struct PreparedRows {
  QuantizedRows quantized;
  Bf16Rows rounded;
};

struct LinearInput {
  const float* x = nullptr;  // [rows][k]
  PreparedRows prepared;     // the same rows, after PrepareRow of each
};

class Linear final {
 public:
  struct Source {
    WeightTensor weight;
    WeightTensor bias;  // may be absent; cols = weight.rows
  };

  // Sources have equal cols and are copied to `memory`, which outlives the layer.
  // kResourceExhausted: no room for them.
  static absl::StatusOr<Linear> Create(std::span<const Source> sources, WeightsMode mode,
                                       const KernelTable& kernels, WorkerPool& pool,
                                       LargePages& memory);

  int32_t n() const { return n_; }
  int32_t k() const { return k_; }
  size_t weight_bytes() const { return weight_bytes_; }

  // Row `row` of `out` from its values x [k()], in the forms that Run reads: none where all weights
  // are f32 or f16. `bits` of products with quantised weights.
  void PrepareRow(const float* x, int32_t row, ActivationBits bits, const PreparedRows& out) const;
  // y: row r at y + r * y_stride, n() columns.
  void Run(const LinearInput& input, int32_t rows, float* y, int64_t y_stride,
           WorkerPool& pool) const;

  // Outputs of both sources of a layer with two: of gate and up.
  struct PairTile {
    int32_t row_begin, row_end;
    int32_t begin, end;  // columns of a source
    // Row r's of the first source from (r - row_begin) * stride on, of the second `second` after.
    const float* values;
    int64_t stride, second;
  };
  static constexpr int32_t kPairRows = 512;
  static constexpr int64_t kPairFloats = int64_t{kPairRows} * 2 * 64;  // a unit of pairs and more
  // As Run, of a layer with two sources of equal heights, for who takes their outputs pair by pair:
  // calls done(tile) from the workers, until every row's columns were in one. A tile lies in the
  // worker's part of `scratch`, [workers][kPairFloats], small enough for a second-level cache; all
  // outputs of hundreds of rows would go to the last one and back.
  template <typename Done>
  void RunPairs(const LinearInput& input, int32_t rows, float* scratch, WorkerPool& pool,
                const Done& done) const {
    const int32_t num_tasks = NumPairTasks(pool.num_workers());
    const int32_t rows_each = std::clamp(RowsPerTask(rows, num_tasks, pool), 1, kPairRows);
    const int32_t row_parts = (rows + rows_each - 1) / rows_each;
    pool.ParallelFor(num_tasks * row_parts, [&](int32_t index, int32_t worker) {
      const int32_t row = index / num_tasks * rows_each;
      const int32_t row_end = std::min(row + rows_each, rows);
      const Range task = PairColumns(index % num_tasks, num_tasks);
      const int32_t step = PairStep(row_end - row);
      for (int32_t begin = task.begin; begin < task.end; begin += step) {
        const int32_t end = std::min(begin + step, task.end);
        done(RunPairTile(input, row, row_end, begin, end, scratch + worker * kPairFloats));
      }
    });
  }

  // Tells the workers what each will read first in the next Run of few rows (RunPairs of a
  // layer with two sources), so that they ask memory for it while they wait.
  void Announce(WorkerPool& pool) const;

 private:
  // Neighbouring sources of one kind, outputs [n_begin, n_begin + n).
  struct Section {
    int32_t n_begin = 0;
    int32_t n = 0;
    int32_t panel_outputs = kPanelRows;
    size_t panel_bytes = 0;
    PackedMatrix packed;  // data set: quantised weights
    FloatMatrix floats;   // data set: float weights

    int32_t num_panels() const { return (n + panel_outputs - 1) / panel_outputs; }
    const std::byte* data() const { return packed.data != nullptr ? packed.data : floats.data; }
  };
  struct Task {
    int32_t section;
    int32_t panel_begin, panel_end;
  };
  struct Range {
    int32_t begin, end;
  };
  // Of two sources of equal heights: where each begins.
  struct Pairs {
    int32_t section[2] = {};
    int32_t first_panel[2] = {};
    int32_t columns = 0;  // of each; 0: they are no pairs
    int32_t unit = 0;     // columns that are cut by, whole panels of both
  };

  absl::Status AddPacked(std::span<const Source> sources, WorkerPool& pool, LargePages& memory);
  absl::Status AddFloats(const Source& source, WeightsMode mode, WorkerPool& pool,
                         LargePages& memory);
  void FindPairs(std::span<const Source> sources, int32_t num_workers);
  void CutTasks(int32_t num_workers);
  void FindFirstReads(const WorkerPool& pool);
  // Of a run of `rows` that has so many tasks besides.
  static int32_t RowsPerTask(int32_t rows, int32_t num_tasks, const WorkerPool& pool);
  int32_t NumPairUnits() const { return (pairs_.columns + pairs_.unit - 1) / pairs_.unit; }
  int32_t NumPairTasks(int32_t num_workers) const;
  Range PairColumns(int32_t index, int32_t num_tasks) const;
  // Columns of a tile of so many rows.
  int32_t PairStep(int32_t rows) const {
    return static_cast<int32_t>(kPairFloats / (2 * pairs_.unit * rows)) * pairs_.unit;
  }
  PairTile RunPairTile(const LinearInput& input, int32_t row_begin, int32_t row_end, int32_t begin,
                       int32_t end, float* tile) const;
  // The columns [begin, end) of one source, as a task.
  Task PairTask(int side, int32_t begin, int32_t end) const;
  // y: of row 0 and the task's first output.
  void RunTask(const Task& task, const LinearInput& input, int32_t row_begin, int32_t row_end,
               float* y, int64_t y_stride) const;

  const KernelTable* kernels_ = nullptr;
  int32_t n_ = 0, k_ = 0;
  bool reads_quantized_ = false, reads_rounded_ = false;
  size_t weight_bytes_ = 0;
  std::vector<Section> sections_;
  std::vector<Task> tasks_;
  std::vector<std::span<const std::byte>> first_reads_;  // by worker, of a run of few rows
  Pairs pairs_;
  std::vector<float> bias_;  // [n], empty: none
};

// A small tensor (norm weights, biases) as f32.
std::vector<float> FloatsOf(const WeightTensor& tensor);

}  // namespace holdfast
