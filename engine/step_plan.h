// What the scheduler asks of the engine for one step, and what comes back. Both are flat arrays
// that are filled anew each step (block tables where they have changed) and keep their memory, so
// that a warm step allocates nothing.
//
// A step is a list of rows (one row computes one token of one sequence), grouped by sequence: a
// prefill chunk has many rows, a decode has one. KV of each row is written to its slot in the
// sequence's block table before attention reads it. Copies of blocks come before all rows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "config/ids.h"
#include "engine/pooling.h"
#include "engine/token_mask.h"
#include "kvstore/kv_layout.h"
#include "kvstore/layer_gate.h"

namespace holdfast {

// How to draw a token from logits. Constant for the life of a sequence. Order of application:
// logit_bias, repetition/presence/frequency penalty, temperature, top_k, typical_p, top_p, min_p.
// temperature 0 is greedy (ties to the lowest id) and ignores the truncations.
struct SamplingParams {
  float temperature = 1.0f;
  int32_t top_k = 0;  // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float typical_p = 1.0f;
  float presence_penalty = 0.0f;    // over completion tokens
  float frequency_penalty = 0.0f;   // over completion tokens
  float repetition_penalty = 1.0f;  // over prompt and completion tokens
  std::vector<std::pair<TokenId, float>> logit_bias;
  uint64_t seed = 0;       // the draw at completion index i depends on (seed, i) alone
  int32_t min_tokens = 0;  // until then `banned_until_min` cannot be drawn
  std::vector<TokenId> banned_until_min;  // end and stop tokens
  // nullopt: no logprobs. Else the chosen token's and this many alternatives' (0 to 20), as
  // log-softmax of the model's own logits, before bias, penalties and temperature.
  std::optional<int32_t> top_logprobs;
};

// A sequence takes a slot: for the first time or again after preemption. The engine forgets what
// the slot held before.
struct SequenceOpen {
  SequenceSlot slot{};
  SamplingParams sampling;
  std::vector<TokenId> prompt;      // for the repetition penalty
  std::vector<TokenId> completion;  // tokens already drawn, when it was preempted
};

// A block that lies in host memory and is attended where it lies, as an entry of StepPlan::blocks:
// one number line, the device's blocks first, then the slots of the host arena that the engine was
// given (EngineInfo::num_host_blocks of them). What it must be: proven content, whole (all 16
// places belong to the sequence's context before this step's rows), and left alone until the step
// is done. Steps only read it.
constexpr BlockId HostBlock(int32_t num_device_blocks, TierSlot slot) {
  return BlockId{num_device_blocks + Number(slot)};
}

// One sequence's share of a step. Spans are offsets into the plan's arrays.
struct PlanSequence {
  SequenceSlot slot{};
  int32_t first_position = 0;  // of its first row; rows are consecutive
  int32_t tokens_begin = 0;    // into StepPlan::tokens
  int32_t num_tokens = 0;
  // Into StepPlan::blocks; covers positions 0 .. last row. Those that this step's rows are written
  // to are the device's, any before may be a HostBlock.
  int32_t blocks_begin = 0;
  int32_t num_blocks = 0;
  bool samples = false;  // the last row's logits are wanted: prompt done, draw a token
  // Its last so many tokens are drafts: guesses of what the rows before them draw. With `samples`,
  // a token is drawn at the row before the first of them, and then at each draft's row as long as
  // what was drawn last is that draft. What is drawn is so what it would be one row a step; KV of a
  // draft's row counts only if the draft was right. Below num_tokens, and never beside prompt
  // logprobs, a gate or a mask. Only where EngineInfo::verifies_drafts.
  int32_t num_drafts = 0;
  // Its last so many tokens were forced: nobody drew them, and from now on they count as if the
  // engine had. Without drafts.
  int32_t num_forced = 0;
  // Wanted for `echo` with logprobs: for each row the logprob of the next prompt token and this
  // many alternatives. `next_token` is the one after the last row, if the prompt has it.
  std::optional<int32_t> prompt_top_logprobs;
  std::optional<TokenId> next_token;
  // Of a prompt that is to become an embedding, in each step that has rows of it; it draws nothing.
  // kMean sums up its rows in its slot, in the order of positions, so all of them from 0 on must be
  // computed one after the other. With `pools` its last row is the prompt's last, and the pooled
  // state is wanted. Only where EngineInfo::embedding_size.
  Pooling pooling = Pooling::kNone;
  bool pools = false;
  // Planned while the step before ran: its one row's token is what that step draws, the sample with
  // this index of its result. Until FillDraws has put it there, 0 stands in StepPlan::tokens.
  std::optional<int32_t> draw;
  // Blocks before its first row are still coming back, layer by layer: a layer of them is read only
  // when this gate has opened for it. Only where EngineInfo::waits_for_layers. The rest of the step
  // waits too. Outlives the step.
  const LayerGate* gate = nullptr;
  // What it draws must be one of these; is waited for before that. One of StepPlan::masked.
  const TokenMask* mask = nullptr;

  // Its rows whose logits or final states are wanted are those from this one on.
  int32_t FirstAskedRow() const {
    if (prompt_top_logprobs || pooling == Pooling::kMean) return 0;
    if (samples) return num_tokens - 1 - num_drafts;
    return pools ? num_tokens - 1 : num_tokens;
  }
};

struct StepPlan {
  std::vector<SequenceOpen> opens;
  std::vector<BlockCopy>
      copies;  // between the device's blocks, in order, before anything is written
  std::vector<PlanSequence> sequences;
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;

  // The sequences that draw by a mask: before Execute it is begun, and made ready beside.
  struct MaskedDraw {
    std::shared_ptr<TokenMask> mask;
    int32_t draw = 0;      // completion tokens before the one to be drawn
    int32_t sequence = 0;  // into `sequences`
  };
  std::vector<MaskedDraw> masked;

  // For who fills the plan again and again, and leaves in `blocks` what has not changed; by slot.
  // An engine reads `blocks` by its offsets alone.
  struct KeptTable {
    uint64_t version = 0;  // 0: none
    int32_t begin = 0;     // into `blocks`
    int32_t room = 0, num_blocks = 0;
  };
  std::vector<KeptTable> kept;
  int32_t blocks_left_behind = 0;  // entries of `blocks` that no table has room in any more

  std::span<const TokenId> TokensOf(const PlanSequence& s) const {
    return std::span(tokens).subspan(s.tokens_begin, s.num_tokens);
  }
  std::span<const BlockId> BlocksOf(const PlanSequence& s) const {
    return std::span(blocks).subspan(s.blocks_begin, s.num_blocks);
  }
  void Clear() {
    ClearRows();
    blocks.clear();
    kept.clear();
    blocks_left_behind = 0;
  }
  void ClearRows() {  // all but the kept tables
    opens.clear();
    copies.clear();
    sequences.clear();
    tokens.clear();
    masked.clear();
  }
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0f;
  bool operator==(const TokenLogprob&) const = default;
};

// A token with its logprob, if asked for, and alternatives, best first.
struct SampledToken {
  SequenceSlot slot{};
  TokenId token = 0;
  float logprob = 0.0f;
  int32_t top_begin = 0;  // into StepResult::top
  int32_t num_top = 0;
  // The model gave no finite logit for this row, or its mask failed: nothing was drawn, and the
  // rest means nothing.
  bool undefined = false;
  // Of a draft's row: a draft up to there was wrong, or a row before it undefined: likewise.
  bool passed_over = false;
};

// The hidden state after the last norm, of the prompt's last row or the mean of all: numbers of
// f32, not yet brought to any length.
struct PooledState {
  SequenceSlot slot{};
  int32_t begin = 0;       // into StepResult::states
  bool undefined = false;  // some of it is not finite: it means nothing
};

struct StepResult {
  // One a sequence with `samples`, and after it one a draft of it, in plan order.
  std::vector<SampledToken> samples;
  std::vector<SampledToken> prompt_logprobs;  // one a row that has a next prompt token, plan order
  std::vector<TokenLogprob> top;
  std::vector<PooledState> pooled;  // one a sequence with `pools`, in plan order
  std::vector<float> states;        // EngineInfo::embedding_size of each
  // Into StepPlan::sequences, ascending: those whose gate failed. They have no entries above; what
  // was written to their rows' slots means nothing, and their draws have not happened.
  std::vector<int32_t> gate_failed;

  std::span<const TokenLogprob> TopOf(const SampledToken& t) const {
    return std::span(top).subspan(t.top_begin, t.num_top);
  }
  void Clear() {
    samples.clear();
    prompt_logprobs.clear();
    top.clear();
    pooled.clear();
    states.clear();
    gate_failed.clear();
  }
};

// Puts the tokens that the step before has drawn where `plan` waits for them. Before Execute; it
// must have had no gates, and no drafts of who is waited for. Where there was no finite number to
// draw from, 0 is as good as any.
inline void FillDraws(const StepResult& before, StepPlan& plan) {
  for (const PlanSequence& part : plan.sequences) {
    if (!part.draw) continue;
    const SampledToken& drawn = before.samples[static_cast<size_t>(*part.draw)];
    plan.tokens[static_cast<size_t>(part.tokens_begin)] = drawn.undefined ? 0 : drawn.token;
  }
}

}  // namespace holdfast
