#include "engine/step_attention.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"
#include "engine/carver.h"

namespace holdfast {
namespace {

constexpr int32_t kTileRows = 16;  // query rows that share one reading of the keys
// Tasks that a step's attention is cut into at least, if contexts are long enough: the last one to
// finish is then not waited for long.
constexpr int32_t kTasksPerWorker = 8;
constexpr int32_t kSplitBlocks = kAttentionSplitTokens / kBlockTokens;
// Sharers that one task has at least, where there are more: with fewer, the common keys would be
// read too often.
constexpr int32_t kSharersLeast = 4;
constexpr int32_t kSharedTasksPerWorker = 2;

int32_t KeysOf(const StepAttention::Rows& rows) { return rows.first_position + rows.num_rows; }

// Splits that lie before the row's own, whole.
int32_t SplitsBefore(const StepAttention::Rows& rows) {
  return rows.first_position / kAttentionSplitTokens;
}

bool MayShare(const StepAttention::Rows& rows) {
  return rows.num_rows == 1 && rows.parts.empty() && rows.failed == nullptr &&
         SplitsBefore(rows) > 0;
}

// Whole splits, at most `most`, that both tables begin with.
int32_t CommonSplits(const int32_t* a, const int32_t* b, int32_t most) {
  const auto differ = std::mismatch(a, a + most * kSplitBlocks, b).first - a;
  return static_cast<int32_t>(differ) / kSplitBlocks;
}

}  // namespace

KvElement ElementOf(KvDtype dtype) {
  switch (dtype) {
    case KvDtype::kF16:
      return KvElement::kF16;
    case KvDtype::kF32:
      return KvElement::kF32;
    case KvDtype::kI8:
      return KvElement::kI8;
  }
  CHECK(false);  // no such dtype
}

// ---- Create -------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<StepAttention>> StepAttention::Create(const Options& options,
                                                                     const KernelTable& kernels,
                                                                     WorkerPool& pool) {
  std::unique_ptr<StepAttention> attention(new StepAttention(options, kernels, pool));
  RETURN_IF_ERROR(attention->TakeMemory());
  return attention;
}

StepAttention::StepAttention(const Options& options, const KernelTable& kernels, WorkerPool& pool)
    : options_(options),
      kernels_(kernels),
      pool_(pool),
      head_dim_(options.kv_layout.head_dim),
      num_kv_heads_(options.kv_layout.num_kv_heads),
      group_(options.num_heads / options.kv_layout.num_kv_heads),
      width_(int64_t{options.num_heads} * options.kv_layout.head_dim) {}

absl::Status StepAttention::TakeMemory() {
  const auto workers = static_cast<size_t>(pool_.num_workers());
  const auto rows = static_cast<size_t>(options_.rows_max);
  const auto heads = static_cast<size_t>(options_.num_heads);
  const auto group = static_cast<size_t>(group_);
  const auto workspace_floats =
      options_.host_kv.num_blocks > 0 ? PartialAttentionWorkspaceFloats : AttentionWorkspaceFloats;
  constexpr size_t kLineFloats = 16;  // no two workers on one cache line
  workspace_floats_ = workspace_floats(kTileRows, group_, head_dim_) + kLineFloats;
  constexpr int32_t kLongContexts = 4;  // of the longest; a step with more has enough tasks
  split_results_max_ = kLongContexts * ((options_.context_tokens - 1) / kAttentionSplitTokens + 1);
  const auto results = static_cast<size_t>(split_results_max_);
  const auto carve = [&](Carver carver) {
    workspace_ = carver.Take<float>(workers * workspace_floats_);
    gathered_ =
        carver.Take<float>(workers * 2 * kTileRows * group * static_cast<size_t>(head_dim_));
    gathered_lse_ = carver.Take<NaturalLse>(workers * kTileRows * group);
    lse_ = carver.Take<NaturalLse>(rows * heads);
    split_out_ = carver.Take<float>(results * static_cast<size_t>(width_));
    split_lse_ = carver.Take<NaturalLse>(results * heads);
    return carver.used();
  };
  const size_t bytes = carve(Carver(nullptr));
  std::optional<PageBuffer> memory = PageBuffer::Map(bytes);
  if (!memory.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for the attention of ", rows,
                                                     " rows (", bytes,
                                                     " bytes); lower step_tokens_max"));
  }
  memory_ = *std::move(memory);
  carve(Carver(memory_.data()));
  const auto kv_heads = static_cast<size_t>(num_kv_heads_);
  tiles_.reserve(rows);
  sharers_.reserve(rows);
  shared_tasks_.reserve(rows * kv_heads);
  tasks_.reserve((rows + results) * kv_heads);
  cut_tiles_.reserve(results);
  return absl::OkStatus();
}

// ---- How a step is cut --------------------------------------------------------------------------

void StepAttention::Begin() { tiles_.clear(); }

void StepAttention::Add(const Rows& rows) {
  for (int32_t begin = 0; begin < rows.num_rows; begin += kTileRows) {
    Tile tile{.rows = rows};
    tile.rows.row_begin += begin;
    tile.rows.first_position += begin;
    tile.rows.num_rows = std::min(kTileRows, rows.num_rows - begin);
    tile.num_splits = (KeysOf(tile.rows) - 1) / kAttentionSplitTokens + 1;
    tiles_.push_back(tile);
  }
}

void StepAttention::Cut() {
  FindSharers();
  ListTasks();
}

void StepAttention::FindSharers() {
  sharers_.clear();
  shared_tasks_.clear();
  if (options_.has_window) return;
  for (size_t i = 0; i < tiles_.size(); ++i) {
    if (MayShare(tiles_[i].rows)) sharers_.push_back(static_cast<int32_t>(i));
  }
  const auto first_block = [this](int32_t tile) { return tiles_[tile].rows.blocks[0]; };
  std::sort(sharers_.begin(), sharers_.end(), [&](int32_t a, int32_t b) {
    return std::tuple(first_block(a), a) < std::tuple(first_block(b), b);
  });
  const auto count = static_cast<int32_t>(sharers_.size());
  for (int32_t begin = 0, end = 0; begin < count; begin = end) {
    while (end < count && first_block(sharers_[end]) == first_block(sharers_[begin])) ++end;
    if (end - begin > 1) ListShared(begin, end);
  }
}

void StepAttention::ListShared(int32_t begin, int32_t end) {
  const Rows& first = tiles_[sharers_[begin]].rows;
  int32_t splits = SplitsBefore(first);
  for (int32_t i = begin + 1; i < end; ++i) {
    const Rows& other = tiles_[sharers_[i]].rows;
    splits = CommonSplits(first.blocks, other.blocks, std::min(splits, SplitsBefore(other)));
  }
  if (splits == 0) return;
  const int32_t count = end - begin;
  const int32_t wanted = count * num_kv_heads_ / (pool_.num_workers() * kSharedTasksPerWorker);
  const int32_t rows_most = std::clamp(wanted, kSharersLeast, kTileRows);
  const int32_t chunks = (count + rows_most - 1) / rows_most;
  // With less to do at once than there are workers, each row's own way is cut finer.
  if (chunks * num_kv_heads_ < pool_.num_workers()) return;
  for (int32_t i = begin; i < end; ++i) tiles_[sharers_[i]].shared_splits = splits;
  for (int32_t chunk = 0; chunk < chunks; ++chunk) {
    const int32_t from = count * chunk / chunks, to = count * (chunk + 1) / chunks;
    for (int32_t kv_head = 0; kv_head < num_kv_heads_; ++kv_head) {
      shared_tasks_.push_back(
          {.begin = begin + from, .count = to - from, .kv_head = kv_head, .num_splits = splits});
    }
  }
}

void StepAttention::ListTasks() {
  tasks_.clear();
  cut_tiles_.clear();
  const auto keys_of = [](const Tile& tile) {
    return KeysOf(tile.rows) - tile.shared_splits * kAttentionSplitTokens;
  };
  int64_t all = 0;  // products of a query and a key, for one head
  for (const Tile& tile : tiles_) all += int64_t{keys_of(tile)} * tile.rows.num_rows;
  all *= num_kv_heads_;
  const int32_t parts = pool_.num_workers() * kTasksPerWorker;
  const int32_t keys_each = static_cast<int32_t>(all / parts) + 1;
  const int32_t splits_each = (keys_each - 1) / kAttentionSplitTokens + 1;
  int32_t num_results = 0;
  for (Tile& tile : tiles_) {
    const auto index = static_cast<int32_t>(&tile - tiles_.data());
    const int32_t own_splits = tile.num_splits - tile.shared_splits;
    const bool cut = pool_.num_workers() > 1 && tile.rows.num_rows == 1 &&
                     tile.rows.parts.empty() && own_splits > splits_each &&
                     num_results + own_splits <= split_results_max_;
    if (cut) {
      tile.split_results = num_results;
      num_results += own_splits;
      cut_tiles_.push_back(index);
    }
    const int32_t step = cut ? splits_each : tile.num_splits;
    for (int32_t kv_head = 0; kv_head < num_kv_heads_; ++kv_head) {
      for (int32_t begin = tile.shared_splits; begin < tile.num_splits; begin += step) {
        tasks_.push_back({.tile = index,
                          .kv_head = kv_head,
                          .split_begin = begin,
                          .split_end = std::min(begin + step, tile.num_splits)});
      }
    }
  }
}

// ---- A layer ------------------------------------------------------------------------------------

void StepAttention::Run(const Layer& layer) {
  const auto size = [](const auto& list) { return static_cast<int32_t>(list.size()); };
  pool_.ParallelFor(size(shared_tasks_), [&](int32_t index, int32_t worker) {
    RunShared(layer, shared_tasks_[index], worker);
  });
  pool_.ParallelFor(size(tasks_),
                    [&](int32_t index, int32_t worker) { RunTask(layer, tasks_[index], worker); });
  pool_.ParallelFor(size(cut_tiles_),
                    [&](int32_t index, int32_t) { MergeSplits(layer, tiles_[cut_tiles_[index]]); });
}

AttentionTile StepAttention::TileOf(const Layer& layer, const Rows& rows, int32_t kv_head,
                                    int32_t worker) const {
  const int64_t row = rows.row_begin;
  const int64_t first_query = int64_t{kv_head} * group_ * head_dim_;
  const auto head_index = static_cast<size_t>(layer.index * num_kv_heads_ + kv_head);
  return {.q = layer.q + row * layer.q_stride + first_query,
          .q_row_stride = layer.q_stride,
          .num_rows = rows.num_rows,
          .num_heads = group_,
          .head_dim = head_dim_,
          .first_position = rows.first_position,
          .window = layer.window,
          .scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)),
          .kv_base = layer.kv_arena + head_index * options_.kv_layout.head_bytes(),
          .kv_block_stride = options_.kv_layout.block_bytes(),
          .block_table = rows.blocks,
          .kv_element = ElementOf(options_.kv_layout.dtype),
          .out = layer.out + row * width_ + first_query,
          .out_row_stride = width_,
          .lse = nullptr,
          .workspace = workspace_ + workspace_floats_ * static_cast<size_t>(worker)};
}

void StepAttention::RunTask(const Layer& layer, const Task& task, int32_t worker) {
  const Tile& tile = tiles_[task.tile];
  const Rows& rows = tile.rows;
  AttentionTile attention = TileOf(layer, rows, task.kv_head, worker);
  if (rows.failed != nullptr && *rows.failed) {
    for (int32_t i = 0; i < rows.num_rows; ++i) {
      std::fill_n(attention.out + i * width_, group_ * head_dim_, 0.0f);
    }
    return;
  }
  if (tile.split_results != kNotCut) return RunSplits(attention, task);
  if (tile.shared_splits > 0) {
    const int32_t first_block = tile.shared_splits * kSplitBlocks;
    attention.block_table += first_block;
    attention.lse = lse_ + int64_t{rows.row_begin} * options_.num_heads + task.kv_head * group_;
    return kernels_.attention_part(
        {.tile = attention,
         .first_block = first_block,
         .num_blocks = (KeysOf(rows) - 1) / kBlockTokens + 1 - first_block,
         .continues = true});
  }
  if (rows.parts.empty()) return kernels_.attention(attention);
  const KvArena arenas[] = {{.data = layer.kv_arena,
                             .block_stride = options_.kv_layout.block_bytes(),
                             .num_blocks = options_.num_device_blocks},
                            options_.host_kv};
  static_assert(kDeviceArena == 0 && kHostArena == 1);
  AttendParts(kernels_, attention, rows.parts, arenas,
              static_cast<size_t>(attention.kv_base - layer.kv_arena));
}

// The tile's splits of the task, each for itself.
void StepAttention::RunSplits(const AttentionTile& tile, const Task& task) {
  const int64_t first_result = tiles_[task.tile].split_results - tiles_[task.tile].shared_splits;
  const int32_t num_blocks = tile.first_position / kBlockTokens + 1;
  const int32_t end_block = std::min(task.split_end * kSplitBlocks, num_blocks);
  for (int32_t split = task.split_begin; split < task.split_end; ++split) {
    const int32_t begin = split * kSplitBlocks, end = std::min(begin + kSplitBlocks, end_block);
    AttentionPart part{.tile = tile,
                       .first_block = begin,
                       .num_blocks = end - begin,
                       .num_blocks_next = end_block - end};
    const int64_t first_head = int64_t{task.kv_head} * group_;
    part.tile.block_table += begin;
    part.tile.out = split_out_ + (first_result + split) * width_ + first_head * head_dim_;
    part.tile.lse = split_lse_ + (first_result + split) * options_.num_heads + first_head;
    kernels_.attention_part(part);
  }
}

// The sharers' queries side by side, as rows of one sequence that all see every common key.
void StepAttention::RunShared(const Layer& layer, const SharedTask& task, int32_t worker) {
  const std::span<const int32_t> sharers =
      std::span(sharers_).subspan(static_cast<size_t>(task.begin), static_cast<size_t>(task.count));
  const int64_t row_floats = int64_t{group_} * head_dim_;
  float* const q = gathered_ + int64_t{worker} * 2 * kTileRows * row_floats;
  float* const out = q + kTileRows * row_floats;
  NaturalLse* const lse = gathered_lse_ + int64_t{worker} * kTileRows * group_;
  const auto tile_of = [&](int32_t sharer) {
    return TileOf(layer, tiles_[sharer].rows, task.kv_head, worker);
  };
  float* to = q;
  for (const int32_t sharer : sharers) to = std::copy_n(tile_of(sharer).q, row_floats, to);

  AttentionPart part{
      .tile = tile_of(sharers[0]), .first_block = 0, .num_blocks = task.num_splits * kSplitBlocks};
  part.tile.q = q;
  part.tile.q_row_stride = row_floats;
  part.tile.num_rows = task.count;
  part.tile.first_position = task.num_splits * kAttentionSplitTokens;
  part.tile.out = out;
  part.tile.out_row_stride = row_floats;
  part.tile.lse = lse;
  kernels_.attention_part(part);

  for (int32_t i = 0; i < task.count; ++i) {
    const int64_t row = tiles_[sharers[static_cast<size_t>(i)]].rows.row_begin;
    std::copy_n(out + i * row_floats, row_floats, tile_of(sharers[static_cast<size_t>(i)]).out);
    std::copy_n(lse + int64_t{i} * group_, group_,
                lse_ + row * options_.num_heads + task.kv_head * group_);
  }
}

// In the order in which KernelTable::attention merges them, so that no bit tells whether a tile was
// cut.
void StepAttention::MergeSplits(const Layer& layer, const Tile& tile) {
  if (tile.rows.failed != nullptr && *tile.rows.failed) return;
  float* const out = layer.out + int64_t{tile.rows.row_begin} * width_;
  const int64_t first = tile.split_results, end = first + tile.num_splits - tile.shared_splits;
  const bool shares = tile.shared_splits > 0;  // then out and its lse are those of the common keys
  NaturalLse* const lse = shares ? lse_ + int64_t{tile.rows.row_begin} * options_.num_heads
                                 : split_lse_ + first * options_.num_heads;
  if (!shares) std::copy_n(split_out_ + first * width_, width_, out);
  for (int64_t split = shares ? first : first + 1; split < end; ++split) {
    kernels_.merge_attention({.num_rows = 1,
                              .num_heads = options_.num_heads,
                              .head_dim = head_dim_,
                              .out = out,
                              .out_row_stride = width_,
                              .lse = lse,
                              .part_out = split_out_ + split * width_,
                              .part_row_stride = width_,
                              .part_lse = split_lse_ + split * options_.num_heads});
  }
}

}  // namespace holdfast
