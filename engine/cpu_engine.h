// The engine that computes on this machine's processors: weights prepared for the chosen
// instruction set, one KV arena, a pool of workers, and a sampler for each sequence slot.
//
//   Execute: opens ─► checks ─► forward pass ─┬─► logits of up to 64 rows at a time ─► draws,
//                                             │   logprobs
//                                             └─► pooled states
//
// Thread: Create by one, then Execute by one (the engine's); the workers are its own.
// Memory: all of it is taken at Create, so that a step that fits the plan's bounds cannot fail for
// want of it; a warm step allocates nothing but what sampler.h says.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/page_buffer.h"
#include "engine/engine.h"
#include "engine/pages_ahead.h"
#include "engine/sampler.h"
#include "engine/transformer.h"
#include "engine/weights.h"
#include "engine/worker_pool.h"

namespace holdfast {

struct CpuEngineOptions {
  int32_t threads = 0;       // 0: all processors this process may use
  bool pin_threads = false;  // each to a processor of its own
  std::optional<Isa> isa;    // nullopt: the fastest here
  WeightsMode weights_mode = WeightsMode::kNative;
  ActivationBits activations = ActivationBits::kMixed;
  KvDtype kv_dtype = KvDtype::kF16;
  int64_t kv_device_bytes = 0;            // at least one sequence of context_tokens
  std::optional<int32_t> context_tokens;  // nullopt: the model's, which is also the most
  int32_t num_sequence_slots = 64;
  int32_t step_tokens_max = 512;
  KvArena host_kv;  // blocks that plans may name as HostBlocks; outlives the engine, only read
};

class CpuEngine final : public Engine {
 public:
  // kInvalidArgument: a setting is out of range or this machine lacks the instruction set.
  // kResourceExhausted: one sequence of context_tokens does not fit into the KV memory, or there is
  // no memory; the message has the sizes.
  static absl::StatusOr<std::unique_ptr<CpuEngine>> Create(const LoadedModel& model,
                                                           const CpuEngineOptions& options);

  const EngineInfo& info() const override { return info_; }
  // kInternal: a sequence's logits are not finite: weights or KV are broken.
  absl::Status Execute(const StepPlan& plan, StepResult& result) override;

  // One line for the start log: instruction set, threads, weights, KV, bounds.
  std::string Describe() const;

  // The parts, for tests and benchmarks.
  Transformer& transformer() { return *transformer_; }
  std::byte* kv_arena() { return kv_arena_.data(); }

 private:
  // A row whose logits are wanted: to draw from, to give a prompt token's logprob, or both.
  struct LogitRow {
    int32_t row;
    SequenceSlot slot;
    std::optional<int32_t> sample;          // into StepResult::samples
    std::optional<TokenId> draft;           // this row's token, if it is one: drawn from if right
    std::optional<int32_t> prompt_logprob;  // into StepResult::prompt_logprobs
    const TokenMask* mask = nullptr;        // of what is drawn
  };

  // A sequence of which an embedding is wanted.
  struct PooledRows {
    const PlanSequence* sequence;
    int32_t first_row;              // of the step
    std::optional<int32_t> pooled;  // into StepResult::pooled
  };

  CpuEngine(const CpuEngineOptions& options, const KernelTable& kernels, int32_t num_threads);
  absl::Status TakeMemory(const LoadedModel& model);

  void CheckPlan(const StepPlan& plan) const;
  void NoteBlocks(const StepPlan& plan);
  // Lists logit_rows_ and pooled_rows_ and makes the result's entries, which the rows then fill.
  void ListRows(const StepPlan& plan, StepResult& result);
  void ListLogitRows(const StepPlan& plan, const PlanSequence& sequence, int32_t first_row,
                     StepResult& result);
  void ListPooledRows(const PlanSequence& sequence, int32_t first_row, StepResult& result);
  void AddResultEntry(std::vector<SampledToken>& entries, SequenceSlot slot, TokenId token,
                      std::optional<int32_t> top_logprobs, StepResult& result) const;
  // Cuts rows of one Logits call into runs_: each is one task, a row and the drafts after it.
  void ListRuns(std::span<const LogitRow> batch);
  // Whether what was drawn before it was the row's draft, or it has none; else it is passed over.
  static bool IsReached(const LogitRow& logit_row, StepResult& result);
  void DrawAndScore(StepResult& result);
  void Pool(const PooledRows& rows, int32_t worker, StepResult& result);
  // Draws and scores; marks the row's entries where its logits have no finite value.
  void FinishRow(const LogitRow& logit_row, std::span<float> logits, int32_t worker,
                 StepResult& result);
  // False: nothing can be drawn.
  bool DrawSample(const LogitRow& logit_row, std::span<const float> logits, bool is_finite,
                  int32_t worker, SampledToken& entry);
  void FillLogprobs(std::span<const float> logits, SampledToken& entry, StepResult& result) const;
  // Of kMean, [embedding_size] each: what a slot's rows so far add up to, and a worker's row. In
  // f64, which costs nothing beside a row's forward pass.
  std::span<double> SumsOf(SequenceSlot slot);
  std::span<float> StateOf(int32_t worker);

  const CpuEngineOptions options_;
  const KernelTable& kernels_;
  WorkerPool pool_;
  bool caller_prepared_ = false;  // for the pool: the first step's thread is the engine's
  std::unique_ptr<Transformer> transformer_;
  EngineInfo info_;
  PageBuffer kv_arena_;
  std::unique_ptr<PagesAhead> kv_pages_;  // of kv_arena_
  PageBuffer logits_;                     // [logit_rows_max][vocab_size]
  std::vector<SamplerState> slots_;
  std::vector<SamplerScratch> scratch_;  // one a worker
  PageBuffer pooling_;                   // see StateOf and SumsOf

  std::vector<LogitRow> logit_rows_;  // of the step at work
  std::vector<int32_t> row_numbers_;
  std::vector<std::span<const LogitRow>> runs_;
  std::vector<PooledRows> pooled_rows_;
};

}  // namespace holdfast
