// An engine without a model, whose every answer betrays a wrong step. Its KV is a hash of the whole
// context up to a place, chained over what it reads through the block table, as real KV depends on
// all tokens before it; the next token is a hash of the KV of all visible places. So a wrong block
// table, a stale or overwritten block, a missed recompute or a hit under a wrong prefix shows as a
// wrong token. What a plan may not do stops the process.
//
// A token depends on nothing but the sequence's own tokens and sampling: the same request alone,
// with a large pool and no cache, gives the truth to compare with.
//
// Each place of KV bears a mark, the uppermost byte of the seed of the sequence that computed it: a
// test that puts a number for the reuse scope there learns whether a sequence ever read what was
// computed in another (or nothing that was computed at all).
//
// Thread: one, like any engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/step_plan.h"

namespace holdfast {

struct FakeEngineOptions {
  int32_t vocab_size = 1000;
  int32_t context_tokens = 256;
  int32_t num_blocks = 64;
  int32_t num_sequence_slots = 16;
  int32_t step_tokens_max = 256;
  int32_t num_layers = 1;  // or 2, 4, 8: then it waits for layers, each of which holds some places
  // Of eight draws about so many are the token that lies `repeat_period` before, as in text that
  // goes round in circles.
  int32_t repeats_of_8 = 0;
  int32_t repeat_period = 12;
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(const FakeEngineOptions& options);

  const EngineInfo& info() const override { return info_; }
  absl::Status Execute(const StepPlan& plan, StepResult& result) override;

  // Called at the start of each step, on the engine's thread: for tests that hold a step back.
  void OnExecute(std::function<void(const StepPlan&)> hook) { hook_ = std::move(hook); }
  // Fails the step with this number (from 0), after it has lost all KV.
  void FailStep(int64_t step) { fail_step_ = step; }
  // Whoever has this token among its new ones gets no finite number in that step.
  void PoisonToken(TokenId token) { poison_ = token; }
  int64_t num_steps() const { return num_steps_; }
  int64_t num_rows() const { return num_rows_; }  // computed since the start
  int64_t num_copies() const { return num_copies_; }
  int64_t num_drafts() const { return num_drafts_; }  // rows of those, part of num_rows
  int64_t num_forced() const { return num_forced_; }  // tokens that it was told, not asked for
  int64_t num_foreign_reads() const { return num_foreign_reads_; }

  // What the KV of a token is, after KV that was seen as `visible` (of the first token: 0), and how
  // the next one sees both.
  static uint64_t KvOf(uint64_t visible, TokenId token, int32_t position, uint8_t mark);
  static uint64_t See(uint64_t visible, uint64_t kv);
  static uint8_t MarkOf(uint64_t seed);

  // The block's KV as bytes, for whoever moves blocks.
  std::span<std::byte> Bytes(BlockId block) {
    return std::as_writable_bytes(std::span(places_).subspan(
        static_cast<size_t>(Number(block)) * block_words_, block_words_));
  }

 private:
  struct Slot {
    SamplingParams sampling;
    std::vector<TokenId> prompt;
    std::vector<TokenId> completion;
    double sum = 0;  // of Pooling::kMean, over so many rows
    int32_t num_summed = 0;
    bool open = false;
  };

  void CheckPlan(const StepPlan& plan) const;
  uint64_t& Place(std::span<const BlockId> blocks, int32_t position);
  void ComputeSequence(const StepPlan& plan, const PlanSequence& part, StepResult& result);
  void DrawFrom(uint64_t visible, const PlanSequence& part, bool poisoned, StepResult& result);
  // Two numbers: what the last row sees, or the mean of that of all; and which of them it is.
  void Pool(uint64_t visible, const PlanSequence& part, int32_t position, bool last_row,
            bool poisoned, StepResult& result);
  TokenId TokenOf(uint64_t digest, const Slot& slot) const;
  TokenId NextAllowed(TokenId token, const TokenMask& mask) const;
  SampledToken Score(uint64_t digest, SequenceSlot slot, TokenId token, int32_t num_top,
                     StepResult& result) const;

  EngineInfo info_;
  size_t block_words_ = 0;        // the layout's; each kBlockTokens-th part of them begins a place
  std::vector<uint64_t> places_;  // the KV: [block][place]
  std::vector<Slot> slots_;
  std::function<void(const StepPlan&)> hook_;
  int64_t fail_step_ = -1;
  TokenId poison_ = -1;
  int64_t num_steps_ = 0;
  int64_t num_rows_ = 0;
  int64_t num_copies_ = 0;
  int64_t num_foreign_reads_ = 0;
  int64_t num_drafts_ = 0;
  int64_t num_forced_ = 0;
  const int32_t repeats_of_8_, repeat_period_;
};

}  // namespace holdfast
