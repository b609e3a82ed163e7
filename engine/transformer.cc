#include "engine/transformer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"
#include "engine/carver.h"

namespace holdfast {
namespace {

constexpr int32_t kRowsPerTask = 4;              // element-wise work: about 10 us
constexpr int32_t kFewRows = RowBlocks::kGroup;  // so few wait for weights

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
    absl::StatusOr<Linear> made = Linear::Create(std::span(sources.begin(), sources.size()), mode,
                                                 kernels_, pool_, weight_memory_);
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
  const auto carve = [&](Carver carver) {
    residual_ = carver.Take<float>(rows * hidden);
    normed_ = carver.Take<float>(rows * hidden);
    qkv_ = carver.Take<float>(rows * static_cast<size_t>(qkv_width_));
    attended_ = carver.Take<float>(rows * static_cast<size_t>(q_width_));
    gate_up_ = carver.Take<float>(static_cast<size_t>(pool_.num_workers() * Linear::kPairFloats));
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
  asked_.reserve(rows);
  asked_place_.reserve(rows);
  gated_.reserve(rows);
  gate_failed_.reserve(rows);
  block_numbers_.reserve(static_cast<size_t>(options_.step_blocks_max));
  if (options_.host_kv.num_blocks > 0) {
    parts_.reserve(static_cast<size_t>(options_.step_blocks_max));  // a run has a block at least
  }
  bool has_window = false;
  for (const Layer& layer : layers_) has_window |= layer.window > 0;
  ASSIGN_OR_RETURN(attention_,
                   StepAttention::Create({.num_heads = config_.num_heads,
                                          .context_tokens = config_.context_tokens,
                                          .rows_max = static_cast<int32_t>(rows),
                                          .has_window = has_window,
                                          .kv_layout = kv_layout_,
                                          .num_device_blocks = options_.num_device_blocks,
                                          .host_kv = options_.host_kv},
                                         kernels_, pool_));
  return absl::OkStatus();
}

// ---- Forward ------------------------------------------------------------------------------------

template <typename Body>
void Transformer::ForRows(const Body& body) {
  const int32_t num_rows = num_rows_;
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
  block_numbers_.clear();
  parts_.clear();
  gated_.clear();
  gate_failed_.clear();
  asked_.clear();
  asked_place_.clear();
  num_asked_ = 0;
  attention_->Begin();
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
    const StepAttention::Rows rows{
        .row_begin = first_row,
        .num_rows = sequence.num_tokens,
        .first_position = sequence.first_position,
        .blocks = block_numbers_.data() + blocks_begin,
        .parts = std::span(parts_).subspan(static_cast<size_t>(parts_begin)),
        .failed = sequence.gate == nullptr ? nullptr : &gated_.back().failed};
    attention_->Add(rows);
    ListAsked(sequence, rows);
  }
  attention_->Cut();
  num_rows_ = static_cast<int32_t>(rows_.size());
  CHECK(static_cast<int32_t>(rows_.size()) <= options_.step_tokens_max);
  CHECK(static_cast<int64_t>(block_numbers_.size()) <= options_.step_blocks_max);
}

void Transformer::ListAsked(const PlanSequence& sequence, const StepAttention::Rows& rows) {
  const int32_t first = sequence.FirstAskedRow();
  for (int32_t i = 0; i < rows.num_rows; ++i) {
    asked_place_.push_back(i < first ? kNotAsked : num_asked_++);
  }
  if (first == rows.num_rows) return;
  StepAttention::Rows asked = rows;
  asked.row_begin += first;
  asked.first_position += first;
  asked.num_rows -= first;
  asked_.push_back(asked);
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

void Transformer::Announce(const Linear& linear) {
  if (num_rows_ <= kFewRows) linear.Announce(pool_);
}

void Transformer::RunGateUp(const Layer& layer) {
  const int64_t intermediate = config_.intermediate;
  layer.gate_up.RunPairs({.x = normed_, .prepared = prepared_}, num_rows_, gate_up_, pool_,
                         [&](const Linear::PairTile& tile) {
                           const float* gate = tile.values;
                           for (int64_t row = tile.row_begin; row < tile.row_end; ++row) {
                             kernels_.swiglu(gate, gate + tile.second, tile.end - tile.begin,
                                             activated_ + row * intermediate + tile.begin);
                             gate += tile.stride;
                           }
                         });
  ForRows([&](int32_t row) { PrepareRow(activated_ + row * intermediate, row, layer.down); });
}

void Transformer::RunAttention(int32_t layer_index, const std::byte* kv_arena, bool of_asked) {
  if (of_asked) {
    attention_->Begin();
    for (const StepAttention::Rows& rows : asked_) attention_->Add(rows);
    attention_->Cut();
  }
  attention_->Run({.index = layer_index,
                   .window = layers_[layer_index].window,
                   .kv_arena = kv_arena,
                   .q = qkv_,
                   .q_stride = qkv_width_,
                   .out = attended_});
  if (of_asked) KeepAskedRows();
}

void Transformer::KeepAskedRows() {
  const auto move_up = [](float* rows, int64_t width, int32_t from, int32_t to) {
    if (from != to) std::copy_n(rows + from * width, width, rows + to * width);
  };
  for (int32_t row = 0; row < num_rows_; ++row) {
    const int32_t place = asked_place_[row];
    if (place == kNotAsked) continue;
    move_up(residual_, config_.hidden, row, place);
    move_up(attended_, q_width_, row, place);
  }
  num_rows_ = num_asked_;
}

// On entry normed_ (and its prepared form) is the layer's input after attention_norm; on return it
// is the next layer's.
void Transformer::RunLayer(int32_t layer_index, std::byte* kv_arena) {
  const Layer& layer = layers_[layer_index];
  const int32_t hidden = config_.hidden;

  Announce(layer.o);
  layer.qkv.Run({.x = normed_, .prepared = prepared_}, num_rows_, qkv_, qkv_width_, pool_);
  ForRows([&](int32_t row) { PlaceRow(layer, layer_index, row, kv_arena); });
  WaitForLayer(layer_index);
  const bool last = layer_index + 1 == config_.num_layers;
  const bool keeps_some = last && num_asked_ < num_rows_;
  if (keeps_some && num_asked_ == 0) return;
  RunAttention(layer_index, kv_arena, keeps_some);
  ForRows([&](int32_t row) {
    PrepareRow(attended_ + static_cast<int64_t>(row) * q_width_, row, layer.o);
  });
  Announce(layer.gate_up);
  layer.o.Run({.x = attended_, .prepared = prepared_}, num_rows_, projected_, hidden, pool_);
  ForRows([&](int32_t row) {
    const int64_t offset = static_cast<int64_t>(row) * hidden;
    kernels_.add(projected_ + offset, hidden, residual_ + offset);
    NormRow(row, layer.mlp_norm, layer.gate_up);
  });

  Announce(layer.down);
  RunGateUp(layer);
  Announce(last ? head_ : layers_[layer_index + 1].qkv);
  layer.down.Run({.x = activated_, .prepared = prepared_}, num_rows_, projected_, hidden, pool_);
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

void Transformer::FinalState(int32_t row, float* state) const {
  CHECK(row >= 0 && row < static_cast<int32_t>(rows_.size()));
  const int64_t place = asked_place_[row];
  CHECK(place != kNotAsked);
  const int32_t hidden = config_.hidden;
  kernels_.rms_norm(residual_ + place * hidden, hidden, final_norm_.data(), 1, hidden,
                    config_.rms_norm_eps, state, hidden);
}

void Transformer::Logits(std::span<const int32_t> rows, float* logits) {
  const auto num_rows = static_cast<int32_t>(rows.size());
  CHECK(num_rows <= options_.logit_rows_max);
  const int32_t hidden = config_.hidden;
  for (int32_t i = 0; i < num_rows; ++i) {
    float* const normed = normed_ + static_cast<int64_t>(i) * hidden;
    FinalState(rows[i], normed);
    PrepareRow(normed, i, head_);
  }
  Announce(layers_[0].qkv);  // of the next step
  head_.Run({.x = normed_, .prepared = prepared_}, num_rows, logits, config_.vocab_size, pool_);
}

}  // namespace holdfast
