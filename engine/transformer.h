// One forward pass of a decoder-only transformer, for all rows of a step at once: prefill chunks
// and decodes side by side. Which model it is follows from ModelConfig's table of differences.
//
//   token ─► embedding ─┬─► norm ─► q,k,v ─► [q,k norm] ─► RoPE ─► KV ─► attention ─► o ─► + ─┐
//                       │                                                                    │
//                       └──────────── num_layers times ◄── + ◄── down ◄── swiglu ◄── gate,up ◄──
//                       norm
//   rows that are asked for ─► final norm ─┬─► head ─► logits
//                                          └─► pooled: embeddings
//
// Behind the last layer's KV only the rows that are asked for go on (PlanSequence::FirstAskedRow):
// of a prompt its last.
//
// Between two matrix products, a row's element-wise work is one task; a product is cut by panels
// (linear.h), attention by rows, KV heads and splits (step_attention.h). No result depends on how
// it is cut or on which rows share the step (promise 1).
//
// A sequence whose blocks are still coming back (PlanSequence::gate) is waited for before each
// layer's attention. If its gate fails its rows attend to nothing from there on: they are finite,
// mean nothing, and touch nobody else's, as rows never do.
//
// Thread: one, the pool's caller. Memory: weights and one set of activations for step_tokens_max
// rows, taken at Create; a forward pass allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/large_pages.h"
#include "config/base/page_buffer.h"
#include "engine/linear.h"
#include "engine/rope_table.h"
#include "engine/step_attention.h"
#include "engine/step_plan.h"
#include "engine/weights.h"
#include "engine/worker_pool.h"
#include "kernels/kernel_table.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

struct TransformerOptions {
  WeightsMode weights_mode = WeightsMode::kNative;
  ActivationBits activations = ActivationBits::kMixed;  // of products with quantised weights
  KvDtype kv_dtype = KvDtype::kF16;
  int32_t step_tokens_max = 512;
  int32_t step_blocks_max = 0;  // entries of all block tables of a step
  int32_t logit_rows_max = 64;  // rows of one Logits call
  // Where plans may name HostBlocks: how many blocks the device's arena has, and the host's arena,
  // which outlives the transformer. Empty: plans name device blocks alone.
  int32_t num_device_blocks = 0;
  KvArena host_kv;
};

class Transformer final {
 public:
  // `kernels` and `pool` outlive it; the model's mapping is kept for the embedding's rows.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const LoadedModel& model,
                                                             const TransformerOptions& options,
                                                             const KernelTable& kernels,
                                                             WorkerPool& pool);

  // The shape of a model's KV blocks, known before it is loaded.
  static KvLayout KvLayoutOf(const ModelConfig& config, KvDtype dtype);

  int32_t vocab_size() const { return config_.vocab_size; }
  size_t weight_bytes() const { return weight_bytes_; }  // as prepared, without the mapped file

  // Computes the plan's rows, in the order of its sequences, and writes their KV into the blocks of
  // `kv_arena`. The plan keeps its contract (step_plan.h); ids were checked by the caller.
  void Forward(const StepPlan& plan, std::byte* kv_arena);

  // Of the last Forward: sequences whose gate failed, ascending.
  std::span<const int32_t> gate_failed() const { return gate_failed_; }

  // Logits of rows of the last Forward that its plan asked for, logits[i] = row rows[i] of the
  // step, [rows][vocab_size]. At most logit_rows_max rows.
  void Logits(std::span<const int32_t> rows, float* logits);

  // The hidden state after the final norm of a row of the last Forward that its plan asked for,
  // [hidden]. Any thread.
  void FinalState(int32_t row, float* state) const;

 private:
  struct Layer {
    std::vector<float> attention_norm, mlp_norm, q_norm, k_norm;
    Linear qkv, o, gate_up, down;
    int32_t window = 0;
  };
  struct Row {
    TokenId token;
    int32_t position;
    int32_t blocks_begin;  // of its sequence, into block_numbers_; numbers within their arena
  };
  static constexpr int32_t kNotAsked = -1;
  struct Gated {
    const LayerGate* gate;
    int32_t sequence;  // into the plan's
    bool failed = false;
  };

  Transformer(const LoadedModel& model, const TransformerOptions& options,
              const KernelTable& kernels, WorkerPool& pool);
  absl::Status PrepareWeights(const ModelWeights& weights, WeightsMode mode);
  absl::Status TakeMemory();

  void ListRows(const StepPlan& plan);
  // Cuts the sequence's blocks, block_numbers_ from blocks_begin on, into runs of one arena and
  // makes the numbers their arena's; lists no part where all are the device's.
  void ListParts(int32_t blocks_begin);
  // Which of the sequence's rows the last layer keeps.
  void ListAsked(const PlanSequence& sequence, const StepAttention::Rows& rows);
  void EmbedRow(int32_t row);
  // Norm of residual row into normed_, prepared for `reader`.
  void NormRow(int32_t row, const std::vector<float>& weight, const Linear& reader);
  void PrepareRow(const float* x, int32_t row, const Linear& reader);
  void PlaceRow(const Layer& layer, int32_t layer_index, int32_t row, std::byte* kv_arena);
  // Waits until the layer of every gated sequence is there, or will not come.
  void WaitForLayer(int32_t layer_index);
  void RunLayer(int32_t layer_index, std::byte* kv_arena);
  // `of_asked`: of the rows that are asked for, and from here on they alone are at work.
  void RunAttention(int32_t layer_index, const std::byte* kv_arena, bool of_asked);
  void KeepAskedRows();  // side by side
  // gate, up and SwiGLU: from normed_ to activated_, prepared for `layer.down`.
  void RunGateUp(const Layer& layer);
  // What will be run after the product that begins next.
  void Announce(const Linear& linear);
  template <typename Body>
  void ForRows(const Body& body);  // body(row), in runs, over the pool

  const ModelConfig config_;
  const TransformerOptions options_;
  const KernelTable& kernels_;
  WorkerPool& pool_;
  const std::shared_ptr<const void> mapping_;
  const WeightTensor embedding_;
  const RopeTable rope_;
  const KvLayout kv_layout_;
  const int32_t q_width_, kv_width_, qkv_width_;

  LargePages weight_memory_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;
  Linear head_;
  size_t weight_bytes_ = 0;

  // Activations, [step_tokens_max][...], parts of one buffer.
  PageBuffer memory_;
  float* residual_ = nullptr;   // [hidden]
  float* normed_ = nullptr;     // [hidden]
  float* qkv_ = nullptr;        // [qkv_width_]
  float* attended_ = nullptr;   // [q_width_]
  float* gate_up_ = nullptr;    // not by row: Linear::RunPairs' scratch
  float* activated_ = nullptr;  // [intermediate]
  float* projected_ = nullptr;  // [hidden]
  float* cos_sin_ = nullptr;    // [2 * rope pairs]
  PreparedRows prepared_;       // of whichever of the above is read next

  std::unique_ptr<StepAttention> attention_;

  // The step at work; capacity is taken at Create.
  std::vector<Row> rows_;
  int32_t num_rows_ = 0;  // at work: all, or those asked for
  std::vector<StepAttention::Rows> asked_;
  int32_t num_asked_ = 0;
  std::vector<int32_t> asked_place_;  // by row: which of those asked for it is, or kNotAsked
  std::vector<int32_t> block_numbers_;
  std::vector<KvPart> parts_;  // of sequences that have HostBlocks
  std::vector<Gated> gated_;
  std::vector<int32_t> gate_failed_;
};

}  // namespace holdfast
