#include "engine/linear.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

constexpr int32_t kRowsPerTask = 128;  // of a long prefill, when there are workers to feed
// With as many rows each worker computes its own, as it does the element-wise work between, and
// reads next what lies in its own caches. Each unpacks all weights for that, and yet prefill of 512
// rows on two cores became 11 % faster (Q4_1).
constexpr int32_t kRowsPerWorker = 128;
constexpr int32_t kPanelsPerTaskMax = 16;  // 256 outputs: their weights stay in a 1 MB L2 cache
constexpr int32_t kTasksPerWorker = 4;     // so that the last one to finish is not waited for long

absl::Status NoMemory(int32_t n, int32_t k) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for a matrix of ", n, " x ", k, " weights"));
}

const std::byte* RowOf(const WeightTensor& tensor, int32_t row) {
  return tensor.data + static_cast<size_t>(row) * RowBytes(tensor.type, tensor.cols);
}

bool CanPackTogether(const WeightTensor& a, const WeightTensor& b) {
  return IsQuantized(b.type) && a.type == b.type && a.rows % kPanelRows == 0;
}

}  // namespace

std::vector<float> FloatsOf(const WeightTensor& tensor) {
  const int64_t count = static_cast<int64_t>(tensor.rows) * tensor.cols;
  std::vector<float> floats(static_cast<size_t>(count));
  if (count > 0) DequantizeRow(tensor.type, tensor.data, count, floats.data());
  return floats;
}

absl::StatusOr<Linear> Linear::Create(std::span<const Source> sources, WeightsMode mode,
                                      const KernelTable& kernels, WorkerPool& pool,
                                      LargePages& memory) {
  CHECK(!sources.empty());
  Linear linear;
  linear.kernels_ = &kernels;
  linear.k_ = sources[0].weight.cols;
  bool has_bias = false;
  for (const Source& source : sources) has_bias |= static_cast<bool>(source.bias);
  for (size_t i = 0; i < sources.size();) {
    const WeightTensor& weight = sources[i].weight;
    CHECK(weight && weight.cols == linear.k_);
    size_t next = i + 1;
    if (mode == WeightsMode::kNative && IsQuantized(weight.type)) {
      while (next < sources.size() &&
             CanPackTogether(sources[next - 1].weight, sources[next].weight)) {
        ++next;
      }
      RETURN_IF_ERROR(linear.AddPacked(sources.subspan(i, next - i), pool, memory));
    } else {
      RETURN_IF_ERROR(linear.AddFloats(sources[i], mode, pool, memory));
    }
    i = next;
  }
  if (has_bias) {
    for (const Source& source : sources) {
      std::vector<float> bias = FloatsOf(source.bias);
      bias.resize(static_cast<size_t>(source.weight.rows));  // absent: zeros
      linear.bias_.insert(linear.bias_.end(), bias.begin(), bias.end());
    }
  }
  linear.FindPairs(sources, pool.num_workers());
  linear.CutTasks(pool.num_workers());
  linear.FindFirstReads(pool);
  return linear;
}

absl::Status Linear::AddPacked(std::span<const Source> sources, WorkerPool& pool,
                               LargePages& memory) {
  const TensorType type = sources[0].weight.type;
  Section section{.n_begin = n_};
  for (const Source& source : sources) section.n += source.weight.rows;
  const size_t bytes = PackedMatrixBytes(type, section.n, k_);
  std::byte* const packed = memory.Take(bytes);
  if (packed == nullptr) return NoMemory(section.n, k_);
  section.panel_bytes = bytes / static_cast<size_t>(section.num_panels());
  section.packed = {.type = type, .n = section.n, .k = k_, .data = packed};
  int32_t offset = 0;  // of the tensor's rows in the section
  for (const Source& source : sources) {
    constexpr int32_t kRows = 4 * kPanelRows;
    const WeightTensor& weight = source.weight;
    pool.ParallelFor((weight.rows + kRows - 1) / kRows, [&](int32_t index, int32_t) {
      const int32_t begin = index * kRows;
      const int32_t end = std::min(begin + kRows, weight.rows);
      PackRows(type, RowOf(weight, begin), section.n, k_, offset + begin, offset + end, packed);
    });
    offset += weight.rows;
  }
  n_ += section.n;
  reads_quantized_ = true;
  weight_bytes_ += bytes;
  sections_.push_back(std::move(section));
  return absl::OkStatus();
}

absl::Status Linear::AddFloats(const Source& source, WeightsMode mode, WorkerPool& pool,
                               LargePages& memory) {
  const WeightTensor& weight = source.weight;
  const TensorType type = mode == WeightsMode::kF32 ? TensorType::kF32 : weight.type;
  const size_t bytes = FloatMatrixBytes(type, weight.rows, k_);
  std::byte* const packed = memory.Take(bytes);
  if (packed == nullptr) return NoMemory(weight.rows, k_);
  Section section{.n_begin = n_, .n = weight.rows, .panel_outputs = kFloatPanelRows};
  section.panel_bytes = bytes / static_cast<size_t>(section.num_panels());
  section.floats = {.type = type, .n = weight.rows, .k = k_, .data = packed};
  pool.ParallelFor(section.floats.num_panels(), [&](int32_t panel, int32_t) {
    const int32_t begin = panel * kFloatPanelRows;
    const int32_t end = std::min(begin + kFloatPanelRows, weight.rows);
    const std::byte* rows = RowOf(weight, begin);
    std::vector<float> floats;
    if (type != weight.type) {
      const int64_t count = int64_t{end - begin} * k_;
      floats.resize(static_cast<size_t>(count));
      DequantizeRow(weight.type, rows, count, floats.data());
      rows = std::as_bytes(std::span(floats)).data();
    }
    PackFloatRows(type, rows, k_, begin, end, packed);
  });
  n_ += section.n;
  reads_rounded_ |= type == TensorType::kBf16;
  weight_bytes_ += bytes;
  sections_.push_back(std::move(section));
  return absl::OkStatus();
}

void Linear::FindPairs(std::span<const Source> sources, int32_t num_workers) {
  if (sources.size() != 2 || sources[0].weight.rows != sources[1].weight.rows) return;
  pairs_.columns = sources[0].weight.rows;
  if (sections_.size() == 1) {  // the first source ends with a panel then
    pairs_.first_panel[1] = pairs_.columns / kPanelRows;
  } else {
    pairs_.section[1] = 1;
  }
  const auto is_packed = [](const Section& section) { return section.packed.data != nullptr; };
  if (!std::all_of(sections_.begin(), sections_.end(), is_packed)) {
    pairs_.unit = kFloatPanelRows;
    static_assert(kFloatPanelRows % kPanelRows == 0);
    return;
  }
  // As much as the kernel takes at once, if that is enough units for everybody.
  pairs_.unit = kernels_->matmul_panels * kPanelRows;
  if (NumPairUnits() < num_workers * kTasksPerWorker) pairs_.unit = kPanelRows;
  CHECK(2 * pairs_.unit * kPairRows <= kPairFloats);
}

void Linear::CutTasks(int32_t num_workers) {
  int32_t num_panels = 0;
  for (const Section& section : sections_) num_panels += section.num_panels();
  const int32_t step =
      std::clamp(num_panels / (num_workers * kTasksPerWorker), 1, kPanelsPerTaskMax);
  const int32_t unit = reads_quantized_ ? std::min(kernels_->matmul_panels, step) : 1;
  for (size_t s = 0; s < sections_.size(); ++s) {
    const int32_t panels = sections_[s].num_panels(), units = std::max(panels / unit, 1);
    int32_t count = (panels + step - 1) / step;
    // As many for each worker, so that all are done at once.
    count = std::min((count + num_workers - 1) / num_workers * num_workers, units);
    for (int32_t i = 0; i < count; ++i) {
      tasks_.push_back({.section = static_cast<int32_t>(s),
                        .panel_begin = units * i / count * unit,
                        .panel_end = i + 1 == count ? panels : units * (i + 1) / count * unit});
    }
  }
}

int32_t Linear::NumPairTasks(int32_t num_workers) const {
  CHECK(pairs_.columns > 0);
  return std::min(num_workers * kTasksPerWorker, NumPairUnits());
}

Linear::Range Linear::PairColumns(int32_t index, int32_t num_tasks) const {
  const int32_t units = NumPairUnits();
  return {units * index / num_tasks * pairs_.unit,
          std::min(units * (index + 1) / num_tasks * pairs_.unit, pairs_.columns)};
}

Linear::Task Linear::PairTask(int side, int32_t begin, int32_t end) const {
  const int32_t outputs = sections_[pairs_.section[side]].panel_outputs;
  const int32_t first = pairs_.first_panel[side];
  return {.section = pairs_.section[side],
          .panel_begin = first + begin / outputs,
          .panel_end = first + (end + outputs - 1) / outputs};
}

Linear::PairTile Linear::RunPairTile(const LinearInput& input, int32_t row_begin, int32_t row_end,
                                     int32_t begin, int32_t end, float* tile) const {
  const int64_t second = (end - begin + kPanelRows - 1) / kPanelRows * kPanelRows;
  const int64_t stride = 2 * second;
  for (const int side : {0, 1}) {
    RunTask(PairTask(side, begin, end), input, row_begin, row_end,
            tile + side * second - row_begin * stride, stride);
  }
  return {.row_begin = row_begin,
          .row_end = row_end,
          .begin = begin,
          .end = end,
          .values = tile,
          .stride = stride,
          .second = second};
}

void Linear::FindFirstReads(const WorkerPool& pool) {
  const int32_t workers = pool.num_workers();
  const bool pairs = pairs_.columns > 0;
  const int32_t num_tasks = pairs ? NumPairTasks(workers) : static_cast<int32_t>(tasks_.size());
  first_reads_.resize(static_cast<size_t>(workers));
  for (int32_t worker = 0; worker < workers; ++worker) {
    const int32_t begin = pool.ShareBegin(num_tasks, worker);
    const int32_t end = pool.ShareBegin(num_tasks, worker + 1);
    if (begin == end) continue;
    Task first{};  // of the worker's share, and what lies behind it
    if (pairs) {
      first = PairTask(0, PairColumns(begin, num_tasks).begin, PairColumns(end - 1, num_tasks).end);
    } else {
      first = tasks_[begin];
      if (tasks_[end - 1].section == first.section) first.panel_end = tasks_[end - 1].panel_end;
    }
    const Section& section = sections_[first.section];
    first_reads_[worker] = {
        section.data() + static_cast<size_t>(first.panel_begin) * section.panel_bytes,
        static_cast<size_t>(first.panel_end - first.panel_begin) * section.panel_bytes};
  }
}

void Linear::Announce(WorkerPool& pool) const {
  for (int32_t worker = 0; worker < static_cast<int32_t>(first_reads_.size()); ++worker) {
    const std::span<const std::byte> first = first_reads_[worker];
    if (!first.empty()) pool.SetAhead(worker, first.data(), first.size());
  }
}

void Linear::PrepareRow(const float* x, int32_t row, ActivationBits bits,
                        const PreparedRows& out) const {
  if (reads_quantized_) kernels_->quantize_rows(x, row, row + 1, k_, bits, out.quantized);
  if (reads_rounded_) kernels_->round_rows(x, row, row + 1, k_, out.rounded);
}

int32_t Linear::RowsPerTask(int32_t rows, int32_t num_tasks, const WorkerPool& pool) {
  const int32_t workers = pool.num_workers();
  if (rows >= kRowsPerWorker * workers) {
    constexpr int32_t kGroup = RowBlocks::kGroup;
    return ((rows + workers - 1) / workers + kGroup - 1) / kGroup * kGroup;
  }
  return num_tasks < kTasksPerWorker * workers ? kRowsPerTask : rows;
}

void Linear::Run(const LinearInput& input, int32_t rows, float* y, int64_t y_stride,
                 WorkerPool& pool) const {
  const auto num_tasks = static_cast<int32_t>(tasks_.size());
  const int32_t rows_per_task = RowsPerTask(rows, num_tasks, pool);
  const int32_t row_parts = (rows + rows_per_task - 1) / std::max(rows_per_task, 1);
  pool.ParallelFor(num_tasks * row_parts, [&](int32_t index, int32_t) {
    const int32_t row_begin = index / num_tasks * rows_per_task;
    const Task& task = tasks_[index % num_tasks];
    const Section& section = sections_[task.section];
    RunTask(task, input, row_begin, std::min(row_begin + rows_per_task, rows),
            y + section.n_begin + task.panel_begin * section.panel_outputs, y_stride);
  });
}

void Linear::RunTask(const Task& task, const LinearInput& input, int32_t row_begin, int32_t row_end,
                     float* y, int64_t y_stride) const {
  const Section& section = sections_[task.section];
  const int32_t panels = task.panel_end - task.panel_begin;
  const int32_t begin = task.panel_begin * section.panel_outputs;
  // The task's panels as a matrix of their own.
  const std::byte* const data =
      section.data() + static_cast<size_t>(task.panel_begin) * section.panel_bytes;
  const int32_t n = std::min(section.n - begin, panels * section.panel_outputs);
  if (section.packed.data != nullptr) {
    const PackedMatrix w{.type = section.packed.type, .n = n, .k = k_, .data = data};
    kernels_->quantized_matmul(w, input.prepared.quantized, row_begin, row_end, 0, panels, y,
                               y_stride);
  } else {
    const FloatMatrix w{.type = section.floats.type, .n = n, .k = k_, .data = data};
    if (w.type == TensorType::kBf16) {
      kernels_->bf16_matmul(w, input.prepared.rounded, row_begin, row_end, 0, panels, y, y_stride);
    } else {
      const int64_t row = row_begin;
      kernels_->float_matmul(w, input.x + row * k_, row_end - row_begin, 0, panels,
                             y + row * y_stride, y_stride);
    }
  }
  if (bias_.empty()) return;
  const float* const bias = bias_.data() + section.n_begin + begin;
  for (int64_t r = row_begin; r < row_end; ++r) {
    for (int32_t column = 0; column < n; ++column) y[r * y_stride + column] += bias[column];
  }
}

}  // namespace holdfast
