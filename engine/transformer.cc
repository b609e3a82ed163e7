#include "engine/transformer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

constexpr int32_t kRowsPerTask = 4;         // element-wise work: about 10 us
constexpr int32_t kAttentionTileRows = 16;  // query rows that share one reading of the keys

// A row's attention is cut if it is more than a worker's share over this, so that nobody waits long
// for the last one.
constexpr int32_t kAttentionTasksPerWorker = 8;
constexpr int32_t kSplitBlocks = kAttentionSplitTokens / kBlockTokens;

constexpr int32_t kDeviceArena = 0, kHostArena = 1;

// Hands out parts of one buffer, each on its own cache lines; without a buffer it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  template <typename T>
  T* Take(size_t count) {
    std::byte* const part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(part);
  }
  size_t used() const { return used_; }

 private:
  std::byte* const base_;
  size_t used_ = 0;
};

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

int32_t WindowOf(const ModelConfig& config, int32_t layer) {
  const bool has_window = config.layer_has_window.empty() || config.layer_has_window[layer];
  return has_window ? config.sliding_window : 0;
}

}  // namespace

// ---- Create -------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const LoadedModel& model,
                                                                 const TransformerOptions& options,
                                                                 const KernelTable& kernels,
                                                                 WorkerPool& pool) {
  std::unique_ptr<Transformer> transformer(new Transformer(model, options, kernels, pool));
  RETURN_IF_ERROR(transformer->PrepareWeights(model.weights, options.weights_mode));
  // The prepared weights are copies; of the files only rows of the embedding are read from here on.
  for (const MappedFile* file : model.files) file->LetGoOfPages();
  RETURN_IF_ERROR(transformer->TakeMemory());
  return transformer;
}

Transformer::Transformer(const LoadedModel& model, const TransformerOptions& options,
                         const KernelTable& kernels, WorkerPool& pool)
    : config_(model.config),
      options_(options),
      kernels_(kernels),
      pool_(pool),
      mapping_(model.mapping),
      embedding_(model.weights.embedding),
      rope_(model.config.rope),
      kv_layout_(KvLayoutOf(config_, options.kv_dtype)),
      q_width_(config_.num_heads * config_.head_dim),
      kv_width_(config_.num_kv_heads * config_.head_dim),
      qkv_width_(q_width_ + 2 * kv_width_) {}

KvLayout Transformer::KvLayoutOf(const ModelConfig& config, KvDtype dtype) {
  return {.num_layers = config.num_layers,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .dtype = dtype};
}

absl::Status Transformer::PrepareWeights(const ModelWeights& weights, WeightsMode mode) {
  const auto prepare = [&](std::initializer_list<Linear::Source> sources, Linear& linear) {
    absl::StatusOr<Linear> made =
        Linear::Create(std::span(sources.begin(), sources.size()), mode, kernels_, pool_);
    if (!made.ok()) return made.status();
    linear = *std::move(made);
    weight_bytes_ += linear.weight_bytes();
    return absl::OkStatus();
  };
  CHECK(static_cast<int32_t>(weights.layers.size()) == config_.num_layers);
  layers_.resize(weights.layers.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerWeights& w = weights.layers[i];
    Layer& layer = layers_[i];
    layer.window = WindowOf(config_, static_cast<int32_t>(i));
    layer.attention_norm = FloatsOf(w.attention_norm);
    layer.mlp_norm = FloatsOf(w.mlp_norm);
    layer.q_norm = FloatsOf(w.q_norm);
    layer.k_norm = FloatsOf(w.k_norm);
    RETURN_IF_ERROR(prepare({{w.q, w.q_bias}, {w.k, w.k_bias}, {w.v, w.v_bias}}, layer.qkv));
    RETURN_IF_ERROR(prepare({{w.o, w.o_bias}}, layer.o));
    RETURN_IF_ERROR(prepare({{w.gate, w.gate_bias}, {w.up, w.up_bias}}, layer.gate_up));
    RETURN_IF_ERROR(prepare({{w.down, w.down_bias}}, layer.down));
    CHECK(layer.qkv.n() == qkv_width_ && layer.qkv.k() == config_.hidden);
    CHECK(layer.o.n() == config_.hidden && layer.o.k() == q_width_);
    CHECK(layer.gate_up.n() == 2 * config_.intermediate);
    CHECK(layer.down.n() == config_.hidden && layer.down.k() == config_.intermediate);
  }
  final_norm_ = FloatsOf(weights.final_norm);
  RETURN_IF_ERROR(prepare({{weights.head, {}}}, head_));
  CHECK(head_.n() == config_.vocab_size);
  return absl::OkStatus();
}

absl::Status Transformer::TakeMemory() {
  const auto rows =
      static_cast<size_t>(std::max(options_.step_tokens_max, options_.logit_rows_max));
  const auto hidden = static_cast<size_t>(config_.hidden);
  const auto intermediate = static_cast<size_t>(config_.intermediate);
  const auto k_max =
      static_cast<size_t>(std::max({config_.hidden, q_width_, config_.intermediate}));
  const auto workspace_floats =
      options_.host_kv.num_blocks > 0 ? PartialAttentionWorkspaceFloats : AttentionWorkspaceFloats;
  attention_workspace_floats_ =
      workspace_floats(kAttentionTileRows, config_.num_heads / config_.num_kv_heads,
                       config_.head_dim) +
      16;                               // no two workers on one cache line
  constexpr int32_t kLongContexts = 4;  // of the longest; a step with more has enough tasks
  split_results_max_ = kLongContexts * ((config_.context_tokens - 1) / kAttentionSplitTokens + 1);
  const auto carve = [&](Carver carver) {
    residual_ = carver.Take<float>(rows * hidden);
    normed_ = carver.Take<float>(rows * hidden);
    qkv_ = carver.Take<float>(rows * static_cast<size_t>(qkv_width_));
    attended_ = carver.Take<float>(rows * static_cast<size_t>(q_width_));
    gate_up_ = carver.Take<float>(rows * 2 * intermediate);
    activated_ = carver.Take<float>(rows * intermediate);
    projected_ = carver.Take<float>(rows * hidden);
    cos_sin_ = carver.Take<float>(rows * 2 * static_cast<size_t>(rope_.num_pairs()));
    const size_t blocks = RowBlocks::Count(static_cast<int32_t>(rows), static_cast<int32_t>(k_max));
    prepared_.quantized.high = carver.Take<int8_t>(32 * blocks);
    prepared_.quantized.low = carver.Take<int8_t>(32 * blocks);
    prepared_.quantized.scale = carver.Take<float>(blocks);
    prepared_.quantized.negative_sum = carver.Take<int32_t>(2 * blocks);
    prepared_.quantized.scaled_sum = carver.Take<float>(blocks);
    prepared_.quantized.wide = carver.Take<uint8_t>(blocks);
    prepared_.rounded.values = carver.Take<uint16_t>(32 * blocks);
    attention_workspace_ =
        carver.Take<float>(attention_workspace_floats_ * static_cast<size_t>(pool_.num_workers()));
    const auto results = static_cast<size_t>(split_results_max_);
    split_out_ = carver.Take<float>(results * static_cast<size_t>(q_width_));
    split_lse_ = carver.Take<NaturalLse>(results * static_cast<size_t>(config_.num_heads));
    return carver.used();
  };
  const size_t bytes = carve(Carver(nullptr));
  std::optional<PageBuffer> memory = PageBuffer::Map(bytes);
  if (!memory.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for the activations of ", rows,
                                                     " rows (", bytes,
                                                     " bytes); lower step_tokens_max"));
  }
  memory_ = *std::move(memory);
  carve(Carver(memory_.data()));
  rows_.reserve(rows);
  tiles_.reserve(rows);
  tasks_.reserve(rows * static_cast<size_t>(config_.num_kv_heads) +
                 static_cast<size_t>(split_results_max_ * config_.num_kv_heads));
  cut_tiles_.reserve(static_cast<size_t>(split_results_max_));
  gated_.reserve(rows);
  gate_failed_.reserve(rows);
  block_numbers_.reserve(static_cast<size_t>(options_.step_blocks_max));
  if (options_.host_kv.num_blocks > 0) {
    parts_.reserve(static_cast<size_t>(options_.step_blocks_max));  // a run has a block at least
  }
  return absl::OkStatus();
}

// ---- Forward ------------------------------------------------------------------------------------

template <typename Body>
void Transformer::ForRows(const Body& body) {
  const auto num_rows = static_cast<int32_t>(rows_.size());
  // Whole groups where there are enough of them: the scales of a group's quantised rows lie on one
  // cache line, for which two workers would fight (that made quantising four times as dear).
  constexpr int32_t kGroup = RowBlocks::kGroup;
  const bool by_groups = num_rows >= 2 * kGroup * pool_.num_workers();
  const int32_t rows_per_task = by_groups ? kGroup : kRowsPerTask;
  pool_.ParallelFor((num_rows + rows_per_task - 1) / rows_per_task, [&](int32_t index, int32_t) {
    const int32_t end = std::min((index + 1) * rows_per_task, num_rows);
    for (int32_t row = index * rows_per_task; row < end; ++row) body(row);
  });
}

void Transformer::ListParts(int32_t blocks_begin) {
  const int32_t num_device = options_.num_device_blocks;
  const auto in_host = [&](int32_t number) { return number >= num_device; };
  const std::span<int32_t> numbers = std::span(block_numbers_).subspan(blocks_begin);
  if (options_.host_kv.num_blocks == 0 || std::none_of(numbers.begin(), numbers.end(), in_host)) {
    return;
  }
  const auto num_blocks = static_cast<int32_t>(numbers.size());
  for (int32_t begin = 0; begin < num_blocks;) {
    const bool host = in_host(numbers[begin]);
    int32_t end = begin;
    for (; end < num_blocks && in_host(numbers[end]) == host; ++end) {
      if (host) numbers[end] -= num_device;
    }
    parts_.push_back({.arena = host ? kHostArena : kDeviceArena,
                      .first_block = begin,
                      .num_blocks = end - begin,
                      .blocks = &numbers[begin]});
    begin = end;
  }
}

void Transformer::ListRows(const StepPlan& plan) {
  rows_.clear();
  tiles_.clear();
  block_numbers_.clear();
  parts_.clear();
  gated_.clear();
  gate_failed_.clear();
  for (const PlanSequence& sequence : plan.sequences) {
    if (sequence.gate != nullptr) {
      gated_.push_back({.gate = sequence.gate,
                        .sequence = static_cast<int32_t>(&sequence - plan.sequences.data())});
    }
    const auto blocks_begin = static_cast<int32_t>(block_numbers_.size());
    for (BlockId block : plan.BlocksOf(sequence)) block_numbers_.push_back(Number(block));
    const auto parts_begin = static_cast<int32_t>(parts_.size());
    ListParts(blocks_begin);
    const auto first_row = static_cast<int32_t>(rows_.size());
    for (TokenId token : plan.TokensOf(sequence)) {
      const int32_t position =
          sequence.first_position + static_cast<int32_t>(rows_.size()) - first_row;
      rows_.push_back({.token = token, .position = position, .blocks_begin = blocks_begin});
    }
    for (int32_t begin = 0; begin < sequence.num_tokens; begin += kAttentionTileRows) {
      tiles_.push_back({.row_begin = first_row + begin,
                        .num_rows = std::min(kAttentionTileRows, sequence.num_tokens - begin),
                        .parts_begin = parts_begin,
                        .num_parts = static_cast<int32_t>(parts_.size()) - parts_begin,
                        .gated = sequence.gate == nullptr
                                     ? kNotGated
                                     : static_cast<int32_t>(gated_.size()) - 1});
    }
  }
  ListAttentionTasks();
  CHECK(static_cast<int32_t>(rows_.size()) <= options_.step_tokens_max);
  CHECK(static_cast<int64_t>(block_numbers_.size()) <= options_.step_blocks_max);
}

void Transformer::EmbedRow(int32_t row) {
  const Row& r = rows_[row];
  const std::byte* weights =
      embedding_.data + static_cast<size_t>(r.token) * RowBytes(embedding_.type, embedding_.cols);
  DequantizeRow(embedding_.type, weights, config_.hidden,
                residual_ + static_cast<int64_t>(row) * config_.hidden);
  rope_.Fill(r.position, cos_sin_ + static_cast<int64_t>(row) * 2 * rope_.num_pairs());
}

void Transformer::PrepareRow(const float* x, int32_t row, const Linear& reader) {
  reader.PrepareRow(x, row, options_.activations, prepared_);
}

void Transformer::NormRow(int32_t row, const std::vector<float>& weight, const Linear& reader) {
  const int64_t offset = static_cast<int64_t>(row) * config_.hidden;
  kernels_.rms_norm(residual_ + offset, config_.hidden, weight.data(), 1, config_.hidden,
                    config_.rms_norm_eps, normed_ + offset, config_.hidden);
  PrepareRow(normed_ + offset, row, reader);
}

// From the projections of one row to what attention reads: normed and rotated q, and KV in place.
void Transformer::PlaceRow(const Layer& layer, int32_t layer_index, int32_t row,
                           std::byte* kv_arena) {
  const int32_t head_dim = config_.head_dim;
  float* const q = qkv_ + static_cast<int64_t>(row) * qkv_width_;
  float* const k = q + q_width_;
  const float* const v = k + kv_width_;
  if (!layer.q_norm.empty()) {
    kernels_.rms_norm(q, head_dim, layer.q_norm.data(), config_.num_heads, head_dim,
                      config_.rms_norm_eps, q, head_dim);
  }
  if (!layer.k_norm.empty()) {
    kernels_.rms_norm(k, head_dim, layer.k_norm.data(), config_.num_kv_heads, head_dim,
                      config_.rms_norm_eps, k, head_dim);
  }
  const float* const cos_sin = cos_sin_ + static_cast<int64_t>(row) * 2 * rope_.num_pairs();
  // q and k heads lie side by side.
  kernels_.rope(q, config_.num_heads + config_.num_kv_heads, head_dim, config_.rope.dim,
                config_.rope.pairing, cos_sin);

  const Row& r = rows_[row];
  const int32_t block = block_numbers_[r.blocks_begin + r.position / kBlockTokens];
  std::byte* head = kv_arena + static_cast<size_t>(block) * kv_layout_.block_bytes() +
                    static_cast<size_t>(layer_index) * static_cast<size_t>(config_.num_kv_heads) *
                        kv_layout_.head_bytes();
  for (int32_t h = 0; h < config_.num_kv_heads; ++h) {
    kernels_.write_kv(k + h * head_dim, v + h * head_dim, head_dim, ElementOf(kv_layout_.dtype),
                      r.position % kBlockTokens, head);
    head += kv_layout_.head_bytes();
  }
}

void Transformer::WaitForLayer(int32_t layer_index) {
  for (Gated& gated : gated_) {
    if (gated.failed || gated.gate->Wait(layer_index + 1)) continue;
    gated.failed = true;
    gate_failed_.push_back(gated.sequence);
  }
}

void Transformer::ListAttentionTasks() {
  tasks_.clear();
  cut_tiles_.clear();
  const auto keys_of = [this](const Tile& tile) {
    return rows_[tile.row_begin].position + tile.num_rows;
  };
  int64_t all = 0;  // products of a query and a key, for one head
  for (const Tile& tile : tiles_) all += int64_t{keys_of(tile)} * tile.num_rows;
  all *= config_.num_kv_heads;
  const int32_t parts = pool_.num_workers() * kAttentionTasksPerWorker;
  const int32_t keys_each = static_cast<int32_t>(all / parts) + 1;
  const int32_t splits_each = (keys_each - 1) / kAttentionSplitTokens + 1;
  int32_t num_results = 0;
  for (Tile& tile : tiles_) {
    const auto index = static_cast<int32_t>(&tile - tiles_.data());
    tile.num_splits = (keys_of(tile) - 1) / kAttentionSplitTokens + 1;
    const bool cut = pool_.num_workers() > 1 && tile.num_rows == 1 && tile.num_parts == 0 &&
                     tile.num_splits > splits_each &&
                     num_results + tile.num_splits <= split_results_max_;
    if (cut) {
      tile.split_results = num_results;
      num_results += tile.num_splits;
      cut_tiles_.push_back(index);
    }
    const int32_t step = cut ? splits_each : tile.num_splits;
    for (int32_t kv_head = 0; kv_head < config_.num_kv_heads; ++kv_head) {
      for (int32_t begin = 0; begin < tile.num_splits; begin += step) {
        tasks_.push_back({.tile = index,
                          .kv_head = kv_head,
                          .split_begin = begin,
                          .split_end = std::min(begin + step, tile.num_splits)});
      }
    }
  }
}

void Transformer::Attend(const Layer& layer, int32_t layer_index, const AttentionTask& task,
                         const std::byte* kv_arena, int32_t worker) {
  const Tile& tile = tiles_[task.tile];
  const int32_t group = config_.num_heads / config_.num_kv_heads;
  const int32_t head_dim = config_.head_dim;
  const int64_t row = tile.row_begin;
  const int64_t first_query = static_cast<int64_t>(task.kv_head) * group * head_dim;
  float* const out = attended_ + row * q_width_ + first_query;
  if (tile.gated != kNotGated && gated_[tile.gated].failed) {
    for (int32_t i = 0; i < tile.num_rows; ++i) {
      std::fill_n(out + static_cast<int64_t>(i) * q_width_, group * head_dim, 0.0f);
    }
    return;
  }
  const auto head_index =
      static_cast<size_t>(layer_index) * static_cast<size_t>(config_.num_kv_heads) +
      static_cast<size_t>(task.kv_head);
  const size_t head_offset = head_index * kv_layout_.head_bytes();
  const AttentionTile attention{
      .q = qkv_ + row * qkv_width_ + first_query,
      .q_row_stride = qkv_width_,
      .num_rows = tile.num_rows,
      .num_heads = group,
      .head_dim = head_dim,
      .first_position = rows_[row].position,
      .window = layer.window,
      .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
      .kv_base = kv_arena + head_offset,
      .kv_block_stride = kv_layout_.block_bytes(),
      .block_table = block_numbers_.data() + rows_[row].blocks_begin,
      .kv_element = ElementOf(kv_layout_.dtype),
      .out = out,
      .out_row_stride = q_width_,
      .lse = nullptr,
      .workspace =
          attention_workspace_ + attention_workspace_floats_ * static_cast<size_t>(worker)};
  if (tile.split_results != kNotCut) return AttendSplits(attention, task);
  if (tile.num_parts == 0) return kernels_.attention(attention);
  const KvArena arenas[] = {{.data = kv_arena,
                             .block_stride = kv_layout_.block_bytes(),
                             .num_blocks = options_.num_device_blocks},
                            options_.host_kv};
  static_assert(kDeviceArena == 0 && kHostArena == 1);
  AttendParts(kernels_, attention, std::span(parts_).subspan(tile.parts_begin, tile.num_parts),
              arenas, head_offset);
}

void Transformer::AttendSplits(const AttentionTile& tile, const AttentionTask& task) {
  const int64_t first_result = tiles_[task.tile].split_results;
  const int32_t num_blocks = tile.first_position / kBlockTokens + 1;
  const int32_t end_block = std::min(task.split_end * kSplitBlocks, num_blocks);
  for (int32_t split = task.split_begin; split < task.split_end; ++split) {
    const int32_t begin = split * kSplitBlocks, end = std::min(begin + kSplitBlocks, end_block);
    AttentionPart part{.tile = tile,
                       .first_block = begin,
                       .num_blocks = end - begin,
                       .num_blocks_next = end_block - end};
    part.tile.block_table += begin;
    part.tile.out = split_out_ + (first_result + split) * q_width_ +
                    int64_t{task.kv_head} * tile.num_heads * tile.head_dim;
    part.tile.lse = split_lse_ + (first_result + split) * config_.num_heads +
                    int64_t{task.kv_head} * tile.num_heads;
    kernels_.attention_part(part);
  }
}

// In the order in which KernelTable::attention merges them, so that no bit tells whether a tile was
// cut.
void Transformer::MergeSplits(const Tile& tile) {
  if (tile.gated != kNotGated && gated_[tile.gated].failed) return;
  float* const out = attended_ + static_cast<int64_t>(tile.row_begin) * q_width_;
  const int64_t first = tile.split_results;
  std::copy_n(split_out_ + first * q_width_, q_width_, out);
  for (int64_t split = first + 1; split < first + tile.num_splits; ++split) {
    kernels_.merge_attention({.num_rows = 1,
                              .num_heads = config_.num_heads,
                              .head_dim = config_.head_dim,
                              .out = out,
                              .out_row_stride = q_width_,
                              .lse = split_lse_ + first * config_.num_heads,
                              .part_out = split_out_ + split * q_width_,
                              .part_row_stride = q_width_,
                              .part_lse = split_lse_ + split * config_.num_heads});
  }
}

// On entry normed_ (and its prepared form) is the layer's input after attention_norm; on return it
// is the next layer's.
void Transformer::RunLayer(int32_t layer_index, std::byte* kv_arena) {
  const Layer& layer = layers_[layer_index];
  const auto rows = static_cast<int32_t>(rows_.size());
  const int32_t hidden = config_.hidden, intermediate = config_.intermediate;

  layer.qkv.Run({.x = normed_, .prepared = prepared_}, rows, qkv_, qkv_width_, pool_);
  ForRows([&](int32_t row) { PlaceRow(layer, layer_index, row, kv_arena); });
  WaitForLayer(layer_index);
  pool_.ParallelFor(static_cast<int32_t>(tasks_.size()), [&](int32_t index, int32_t worker) {
    Attend(layer, layer_index, tasks_[index], kv_arena, worker);
  });
  pool_.ParallelFor(static_cast<int32_t>(cut_tiles_.size()),
                    [&](int32_t index, int32_t) { MergeSplits(tiles_[cut_tiles_[index]]); });
  ForRows([&](int32_t row) {
    PrepareRow(attended_ + static_cast<int64_t>(row) * q_width_, row, layer.o);
  });
  layer.o.Run({.x = attended_, .prepared = prepared_}, rows, projected_, hidden, pool_);
  ForRows([&](int32_t row) {
    const int64_t offset = static_cast<int64_t>(row) * hidden;
    kernels_.add(projected_ + offset, hidden, residual_ + offset);
    NormRow(row, layer.mlp_norm, layer.gate_up);
  });

  layer.gate_up.Run({.x = normed_, .prepared = prepared_}, rows, gate_up_, 2 * intermediate, pool_);
  ForRows([&](int32_t row) {
    const float* gate = gate_up_ + static_cast<int64_t>(row) * 2 * intermediate;
    float* out = activated_ + static_cast<int64_t>(row) * intermediate;
    kernels_.swiglu(gate, gate + intermediate, intermediate, out);
    PrepareRow(out, row, layer.down);
  });
  layer.down.Run({.x = activated_, .prepared = prepared_}, rows, projected_, hidden, pool_);
  const bool last = layer_index + 1 == config_.num_layers;
  ForRows([&](int32_t row) {
    const int64_t offset = static_cast<int64_t>(row) * hidden;
    kernels_.add(projected_ + offset, hidden, residual_ + offset);
    if (last) return;  // Logits norms the rows it is asked for
    const Layer& next = layers_[layer_index + 1];
    NormRow(row, next.attention_norm, next.qkv);
  });
}

void Transformer::Forward(const StepPlan& plan, std::byte* kv_arena) {
  ListRows(plan);
  ForRows([&](int32_t row) {
    EmbedRow(row);
    NormRow(row, layers_[0].attention_norm, layers_[0].qkv);
  });
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) RunLayer(layer, kv_arena);
  std::sort(gate_failed_.begin(), gate_failed_.end());
}

void Transformer::Logits(std::span<const int32_t> rows, float* logits) {
  const auto num_rows = static_cast<int32_t>(rows.size());
  CHECK(num_rows <= options_.logit_rows_max);
  const int32_t hidden = config_.hidden;
  for (int32_t i = 0; i < num_rows; ++i) {
    CHECK(rows[i] >= 0 && rows[i] < static_cast<int32_t>(rows_.size()));
    float* const normed = normed_ + static_cast<int64_t>(i) * hidden;
    kernels_.rms_norm(residual_ + static_cast<int64_t>(rows[i]) * hidden, hidden,
                      final_norm_.data(), 1, hidden, config_.rms_norm_eps, normed, hidden);
    PrepareRow(normed, i, head_);
  }
  head_.Run({.x = normed_, .prepared = prepared_}, num_rows, logits, config_.vocab_size, pool_);
}

}  // namespace holdfast
