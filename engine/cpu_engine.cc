#include "engine/cpu_engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"
#include "engine/compute_thread.h"
#include "engine/model_digest.h"

namespace holdfast {
namespace {

constexpr int32_t kLogitRowsMax = 64;  // 12 MB of logits for 49k tokens, 39 MB for 152k
constexpr int32_t kThreadsMax = 1024;
constexpr int32_t kSequenceSlotsMax = 4096;
constexpr int32_t kStepTokensMax = 1 << 20;
constexpr int64_t kStepBlocksMax = 1 << 26;  // entries of a step's block tables: 256 MB
constexpr double kMega = 1e6;
constexpr size_t kKvBytesAhead = size_t{256} << 20;  // a dozen steps of the longest, or more

// Raised whenever a change of kernels or forward pass changes bits: KV that outlives the process
// must not be taken for this one's.
constexpr int kArithmeticVersion = 5;

int32_t BlocksOf(int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

absl::Status CheckOptions(const ModelConfig& model, const CpuEngineOptions& options) {
  const auto in_range = [](const char* name, int64_t value, int64_t low,
                           int64_t high) -> absl::Status {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", value, "; it must be from ", low, " to ", high));
  };
  RETURN_IF_ERROR(in_range("engine.threads", options.threads, 0, kThreadsMax));
  RETURN_IF_ERROR(in_range("num_sequence_slots", options.num_sequence_slots, 1, kSequenceSlotsMax));
  RETURN_IF_ERROR(in_range("step_tokens_max", options.step_tokens_max, 1, kStepTokensMax));
  if (options.context_tokens.has_value()) {
    RETURN_IF_ERROR(
        in_range("engine.context_tokens", *options.context_tokens, 1, model.context_tokens));
  }
  const Isa isa = options.isa.value_or(BestIsa());
  if (!IsaSupported(isa)) {
    return absl::InvalidArgumentError(absl::StrCat("this processor has no ", IsaName(isa),
                                                   "; the fastest here is ", IsaName(BestIsa())));
  }
  return absl::OkStatus();
}

absl::Status CheckHostArena(const KvArena& arena, const KvLayout& layout, int32_t num_blocks) {
  if (arena.num_blocks == 0) return absl::OkStatus();
  const size_t block_bytes = layout.block_bytes();
  if (arena.num_blocks < 0 || arena.data == nullptr || arena.block_stride < block_bytes ||
      arena.block_stride % 64 != 0 || reinterpret_cast<uintptr_t>(arena.data) % 64 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a host arena of %d blocks, %d bytes apart: blocks of this model take %d bytes, at "
        "multiples of 64",
        arena.num_blocks, arena.block_stride, block_bytes));
  }
  if (arena.num_blocks > std::numeric_limits<int32_t>::max() - num_blocks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d device and %d host blocks are more than can be numbered", num_blocks,
                        arena.num_blocks));
  }
  return absl::OkStatus();
}

const char* WeightsModeName(WeightsMode mode) {
  return mode == WeightsMode::kF32 ? "f32" : "native";
}

const char* ActivationBitsName(ActivationBits bits) {
  return bits == ActivationBits::k16 ? "16bit" : "mixed";
}

// The model's digest, and all that decides the bits of its KV: how weights are multiplied and what
// KV is stored as. The instruction set is not in it, because it changes no bit (kernel_table.h).
std::array<uint8_t, 32> ArithmeticDigest(const LoadedModel& model,
                                         const CpuEngineOptions& options) {
  const std::string arithmetic = absl::StrCat(
      "cpu version=", kArithmeticVersion, " weights=", WeightsModeName(options.weights_mode),
      " activations=", ActivationBitsName(options.activations),
      " kv=", KvDtypeName(options.kv_dtype));
  ModelDigest digest;
  digest.AddBytes("model", std::as_bytes(std::span(model.digest)));
  digest.AddBytes("arithmetic", std::as_bytes(std::span(arithmetic)));
  return digest.Finish();
}

}  // namespace

// ---- Create -------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<CpuEngine>> CpuEngine::Create(const LoadedModel& model,
                                                             const CpuEngineOptions& options) {
  RETURN_IF_ERROR(CheckOptions(model.config, options));
  const int32_t threads =
      options.threads > 0 ? options.threads : static_cast<int32_t>(UsableProcessors().size());
  std::unique_ptr<CpuEngine> engine(
      new CpuEngine(options, KernelsOf(options.isa.value_or(BestIsa())), threads));
  RETURN_IF_ERROR(engine->TakeMemory(model));
  return engine;
}

CpuEngine::CpuEngine(const CpuEngineOptions& options, const KernelTable& kernels,
                     int32_t num_threads)
    : options_(options), kernels_(kernels), pool_(num_threads, options.pin_threads) {}

absl::Status CpuEngine::TakeMemory(const LoadedModel& model) {
  const ModelConfig& config = model.config;
  info_.vocab_size = config.vocab_size;
  info_.context_tokens = options_.context_tokens.value_or(config.context_tokens);
  info_.num_sequence_slots = options_.num_sequence_slots;
  info_.step_tokens_max = options_.step_tokens_max;

  info_.waits_for_layers = true;
  info_.verifies_drafts = true;
  info_.embedding_size = config.hidden;
  info_.kv_layout = Transformer::KvLayoutOf(config, options_.kv_dtype);
  const int32_t sequence_blocks = BlocksOf(info_.context_tokens);
  const auto block_bytes = static_cast<int64_t>(info_.kv_layout.block_bytes());
  const int64_t kv_bytes = options_.kv_device_bytes;
  const int64_t num_blocks =
      std::min<int64_t>(kv_bytes / block_bytes, std::numeric_limits<int32_t>::max());
  if (num_blocks < sequence_blocks) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "one sequence of %d tokens needs %d bytes of KV (%d blocks of %d bytes), but "
        "kv_device_bytes is %d; raise it to at least that, or lower engine.context_tokens to %d",
        info_.context_tokens, sequence_blocks * block_bytes, sequence_blocks, block_bytes, kv_bytes,
        std::max<int64_t>(num_blocks, 0) * kBlockTokens));
  }
  info_.num_blocks = static_cast<int32_t>(num_blocks);
  RETURN_IF_ERROR(CheckHostArena(options_.host_kv, info_.kv_layout, info_.num_blocks));
  info_.num_host_blocks = options_.host_kv.num_blocks;

  // A sequence in a step has a row of it at least, and a slot.
  const int64_t step_blocks = static_cast<int64_t>(sequence_blocks) *
                              std::min(options_.num_sequence_slots, options_.step_tokens_max);
  if (step_blocks > kStepBlocksMax) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d sequences of %d tokens have block tables of %d entries; the most is %d; lower "
        "num_sequence_slots or engine.context_tokens",
        options_.num_sequence_slots, info_.context_tokens, step_blocks, kStepBlocksMax));
  }
  ASSIGN_OR_RETURN(transformer_,
                   Transformer::Create(model,
                                       {.weights_mode = options_.weights_mode,
                                        .activations = options_.activations,
                                        .kv_dtype = options_.kv_dtype,
                                        .step_tokens_max = options_.step_tokens_max,
                                        .step_blocks_max = static_cast<int32_t>(step_blocks),
                                        .logit_rows_max = kLogitRowsMax,
                                        .num_device_blocks = info_.num_blocks,
                                        .host_kv = options_.host_kv},
                                       kernels_, pool_));
  info_.model_digest = ArithmeticDigest(model, options_);

  std::optional<PageBuffer> arena =
      PageBuffer::Map(static_cast<size_t>(num_blocks) * info_.kv_layout.block_bytes());
  std::optional<PageBuffer> logits =
      PageBuffer::Map(sizeof(float) * kLogitRowsMax * static_cast<size_t>(info_.vocab_size));
  const auto pooled_bytes = static_cast<size_t>(config.hidden) *
                            (sizeof(double) * static_cast<size_t>(options_.num_sequence_slots) +
                             sizeof(float) * static_cast<size_t>(pool_.num_workers()));
  std::optional<PageBuffer> pooling = PageBuffer::Map(pooled_bytes);
  if (!arena.has_value() || !logits.has_value() || !pooling.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("the system has no room for ",
                                                     num_blocks * block_bytes,
                                                     " bytes of KV; lower kv_device_bytes"));
  }
  kv_arena_ = *std::move(arena);
  logits_ = *std::move(logits);
  pooling_ = *std::move(pooling);
  kv_pages_ =
      std::make_unique<PagesAhead>(std::span(kv_arena_.data(), kv_arena_.bytes()), kKvBytesAhead);
  slots_.resize(static_cast<size_t>(options_.num_sequence_slots));
  scratch_.reserve(static_cast<size_t>(pool_.num_workers()));
  for (int32_t worker = 0; worker < pool_.num_workers(); ++worker) {
    scratch_.emplace_back(info_.vocab_size, kernels_);
  }
  logit_rows_.reserve(static_cast<size_t>(options_.step_tokens_max));
  row_numbers_.reserve(kLogitRowsMax);
  runs_.reserve(kLogitRowsMax);
  pooled_rows_.reserve(static_cast<size_t>(options_.num_sequence_slots));
  return absl::OkStatus();
}

std::string CpuEngine::Describe() const {
  const double kv_token_bytes = static_cast<double>(info_.kv_layout.block_bytes()) / kBlockTokens;
  return absl::StrFormat(
      "cpu engine: isa=%s threads=%d weights=%s (%.1f MB) kv=%s (%d blocks of %d tokens, %.1f "
      "MB, %.1f kB a token) context_tokens=%d step_tokens_max=%d sequence_slots=%d",
      kernels_.name, pool_.num_workers(), WeightsModeName(options_.weights_mode),
      static_cast<double>(transformer_->weight_bytes()) / kMega, KvDtypeName(options_.kv_dtype),
      info_.num_blocks, kBlockTokens, static_cast<double>(kv_arena_.bytes()) / kMega,
      kv_token_bytes / 1e3, info_.context_tokens, info_.step_tokens_max, info_.num_sequence_slots);
}

// ---- Execute ------------------------------------------------------------------------------------

absl::Status CpuEngine::Execute(const StepPlan& plan, StepResult& result) {
  if (!std::exchange(caller_prepared_, true)) pool_.PrepareCaller();
  result.Clear();
  CheckPlan(plan);
  for (const SequenceOpen& open : plan.opens) slots_[Number(open.slot)].Open(open);
  NoteBlocks(plan);
  // Whole blocks: places behind those wanted are written before they are read.
  const size_t block_bytes = info_.kv_layout.block_bytes();
  for (const BlockCopy& copy : plan.copies) {
    std::memcpy(kv_arena_.data() + static_cast<size_t>(Number(copy.to)) * block_bytes,
                kv_arena_.data() + static_cast<size_t>(Number(copy.from)) * block_bytes,
                block_bytes);
  }
  if (plan.sequences.empty()) return absl::OkStatus();

  transformer_->Forward(plan, kv_arena_.data());
  const std::span<const int32_t> gate_failed = transformer_->gate_failed();
  result.gate_failed.assign(gate_failed.begin(), gate_failed.end());
  ListRows(plan, result);
  DrawAndScore(result);
  pool_.ParallelFor(static_cast<int32_t>(pooled_rows_.size()), [&](int32_t index, int32_t worker) {
    Pool(pooled_rows_[index], worker, result);
  });
  return absl::OkStatus();
}

void CpuEngine::DrawAndScore(StepResult& result) {
  auto* const logits = reinterpret_cast<float*>(logits_.data());
  const auto vocab = static_cast<size_t>(info_.vocab_size);
  for (size_t begin = 0; begin < logit_rows_.size(); begin += kLogitRowsMax) {
    const std::span<const LogitRow> batch =
        std::span(logit_rows_)
            .subspan(begin, std::min<size_t>(kLogitRowsMax, logit_rows_.size() - begin));
    row_numbers_.clear();
    for (const LogitRow& logit_row : batch) row_numbers_.push_back(logit_row.row);
    transformer_->Logits(row_numbers_, logits);
    ListRuns(batch);
    pool_.ParallelFor(static_cast<int32_t>(runs_.size()), [&](int32_t index, int32_t worker) {
      for (const LogitRow& logit_row : runs_[index]) {
        if (!IsReached(logit_row, result)) continue;
        const auto place = static_cast<size_t>(&logit_row - batch.data());
        FinishRow(logit_row, {logits + place * vocab, vocab}, worker, result);
      }
    });
  }
}

// Blocks are given out from the first on (BlockPool), hence used up to some block.
void CpuEngine::NoteBlocks(const StepPlan& plan) {
  int32_t last = -1;
  for (const PlanSequence& part : plan.sequences) {
    const std::span<const BlockId> blocks = plan.BlocksOf(part);
    for (const BlockId block : blocks.subspan(part.first_position / kBlockTokens)) {  // written
      last = std::max(last, Number(block));
    }
  }
  for (const BlockCopy& copy : plan.copies) last = std::max(last, Number(copy.to));
  kv_pages_->InUse(static_cast<size_t>(last + 1) * info_.kv_layout.block_bytes());
}

void CpuEngine::CheckPlan(const StepPlan& plan) const {
  const auto slot_in_range = [&](SequenceSlot slot) {
    return Number(slot) >= 0 && Number(slot) < info_.num_sequence_slots;
  };
  for (const SequenceOpen& open : plan.opens) CHECK(slot_in_range(open.slot));
  for (const BlockCopy& copy : plan.copies) {
    CHECK(Number(copy.from) >= 0 && Number(copy.from) < info_.num_blocks);
    CHECK(Number(copy.to) >= 0 && Number(copy.to) < info_.num_blocks && copy.to != copy.from);
    CHECK(copy.num_tokens > 0 && copy.num_tokens < kBlockTokens);
  }
  CHECK(plan.tokens.size() <= static_cast<size_t>(info_.step_tokens_max));
  CHECK(plan.sequences.size() <= static_cast<size_t>(info_.num_sequence_slots));
  int64_t num_rows = 0;
  for (const PlanSequence& s : plan.sequences) {
    CHECK(slot_in_range(s.slot));
    CHECK(s.num_tokens > 0 && s.tokens_begin >= 0 && s.first_position >= 0);
    CHECK(static_cast<size_t>(s.tokens_begin) + static_cast<size_t>(s.num_tokens) <=
          plan.tokens.size());
    CHECK(static_cast<int64_t>(s.first_position) + s.num_tokens <= info_.context_tokens);
    CHECK(s.blocks_begin >= 0 && s.num_blocks >= BlocksOf(s.first_position + s.num_tokens) &&
          s.num_blocks <= BlocksOf(info_.context_tokens));
    CHECK(static_cast<size_t>(s.blocks_begin) + static_cast<size_t>(s.num_blocks) <=
          plan.blocks.size());
    for (TokenId token : plan.TokensOf(s)) CHECK(token >= 0 && token < info_.vocab_size);
    const std::span<const BlockId> blocks = plan.BlocksOf(s);
    const auto first_written = static_cast<size_t>(s.first_position / kBlockTokens);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const int32_t in_arenas =
          i < first_written ? info_.num_blocks + info_.num_host_blocks : info_.num_blocks;
      CHECK(Number(blocks[i]) >= 0 && Number(blocks[i]) < in_arenas);
    }
    CHECK(s.gate == nullptr || s.gate->num_layers() == info_.kv_layout.num_layers);
    CHECK(s.num_drafts >= 0 && s.num_drafts < s.num_tokens);
    CHECK(s.num_drafts == 0 || (s.samples && s.gate == nullptr && !s.prompt_top_logprobs));
    CHECK(s.num_forced >= 0 && s.num_forced <= s.num_tokens);
    CHECK(s.num_forced == 0 || s.num_drafts == 0);
    CHECK(s.mask == nullptr || (s.samples && s.num_drafts == 0));
    CHECK(s.pooling == Pooling::kNone ? !s.pools : !s.samples);
    if (s.next_token.has_value()) CHECK(*s.next_token >= 0 && *s.next_token < info_.vocab_size);
    num_rows += s.num_tokens;
  }
  CHECK(num_rows <= info_.step_tokens_max);
}

void CpuEngine::AddResultEntry(std::vector<SampledToken>& entries, SequenceSlot slot, TokenId token,
                               std::optional<int32_t> top_logprobs, StepResult& result) const {
  const int32_t num_top = std::clamp(top_logprobs.value_or(0), 0, kTopLogprobsMax);
  entries.push_back({.slot = slot,
                     .token = token,
                     .top_begin = static_cast<int32_t>(result.top.size()),
                     .num_top = std::min(num_top, info_.vocab_size)});
  result.top.resize(result.top.size() + static_cast<size_t>(entries.back().num_top));
}

void CpuEngine::ListRows(const StepPlan& plan, StepResult& result) {
  logit_rows_.clear();
  pooled_rows_.clear();
  int32_t first_row = 0;  // of the step
  auto failed = result.gate_failed.begin();
  for (const PlanSequence& s : plan.sequences) {
    if (failed != result.gate_failed.end() && &s == &plan.sequences[*failed]) {
      ++failed;
    } else {
      for (const TokenId token : plan.TokensOf(s).last(static_cast<size_t>(s.num_forced))) {
        slots_[Number(s.slot)].Append(token);
      }
      ListLogitRows(plan, s, first_row, result);
      if (s.pools || s.pooling == Pooling::kMean) ListPooledRows(s, first_row, result);
    }
    first_row += s.num_tokens;
  }
}

void CpuEngine::ListLogitRows(const StepPlan& plan, const PlanSequence& s, int32_t first_row,
                              StepResult& result) {
  const std::span<const TokenId> tokens = plan.TokensOf(s);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool last = i + 1 == tokens.size();
    LogitRow logit_row{.row = first_row + static_cast<int32_t>(i), .slot = s.slot};
    if (s.prompt_top_logprobs.has_value() && (!last || s.next_token.has_value())) {
      logit_row.prompt_logprob = static_cast<int32_t>(result.prompt_logprobs.size());
      AddResultEntry(result.prompt_logprobs, s.slot, last ? *s.next_token : tokens[i + 1],
                     s.prompt_top_logprobs, result);
    }
    if (s.samples && i + 1 + static_cast<size_t>(s.num_drafts) >= tokens.size()) {
      if (i + static_cast<size_t>(s.num_drafts) >= tokens.size()) logit_row.draft = tokens[i];
      logit_row.sample = static_cast<int32_t>(result.samples.size());
      logit_row.mask = s.mask;
      AddResultEntry(result.samples, s.slot, 0, slots_[Number(s.slot)].params().top_logprobs,
                     result);
    }
    if (logit_row.sample || logit_row.prompt_logprob) logit_rows_.push_back(logit_row);
  }
}

void CpuEngine::ListPooledRows(const PlanSequence& s, int32_t first_row, StepResult& result) {
  PooledRows rows{.sequence = &s, .first_row = first_row};
  if (s.pools) {
    rows.pooled = static_cast<int32_t>(result.pooled.size());
    result.pooled.push_back({.slot = s.slot, .begin = static_cast<int32_t>(result.states.size())});
    result.states.resize(result.states.size() + static_cast<size_t>(info_.embedding_size));
  }
  pooled_rows_.push_back(rows);
}

// A run that goes on from the call before begins with a draft, and is another task of this one.
void CpuEngine::ListRuns(std::span<const LogitRow> batch) {
  runs_.clear();
  for (const LogitRow& logit_row : batch) {
    if (logit_row.draft && !runs_.empty()) {
      runs_.back() = {runs_.back().data(), runs_.back().size() + 1};
    } else {
      runs_.push_back({&logit_row, 1});
    }
  }
}

bool CpuEngine::IsReached(const LogitRow& logit_row, StepResult& result) {
  if (!logit_row.draft) return true;
  const SampledToken& before = result.samples[*logit_row.sample - 1];
  const bool reached = !before.undefined && !before.passed_over && before.token == *logit_row.draft;
  result.samples[*logit_row.sample].passed_over = !reached;
  return reached;
}

void CpuEngine::FinishRow(const LogitRow& logit_row, std::span<float> logits, int32_t worker,
                          StepResult& result) {
  const bool is_finite = MakeLogitsFinite(logits);
  if (logit_row.prompt_logprob.has_value()) {
    SampledToken& entry = result.prompt_logprobs[*logit_row.prompt_logprob];
    entry.undefined = !is_finite;
    if (is_finite) FillLogprobs(logits, entry, result);
  }
  if (logit_row.sample.has_value()) {
    SampledToken& entry = result.samples[*logit_row.sample];
    entry.undefined = !DrawSample(logit_row, logits, is_finite, worker, entry);
    const bool wants_logprobs = slots_[Number(logit_row.slot)].params().top_logprobs.has_value();
    if (wants_logprobs && !entry.undefined) FillLogprobs(logits, entry, result);
  }
}

bool CpuEngine::DrawSample(const LogitRow& logit_row, std::span<const float> logits, bool is_finite,
                           int32_t worker, SampledToken& entry) {
  SamplerState& state = slots_[Number(logit_row.slot)];
  const TokenMask* mask = logit_row.mask;
  if (mask != nullptr && !mask->Wait()) return false;
  // A forced token is not drawn from its logits: of a run they may not even be computed.
  const bool is_forced =
      mask != nullptr && mask->only().has_value() && !state.params().top_logprobs.has_value();
  if (!is_finite && !is_forced) return false;
  entry.token = Sampler::Draw(logits, state, scratch_[worker], mask);
  state.Append(entry.token);
  return true;
}

void CpuEngine::FillLogprobs(std::span<const float> logits, SampledToken& entry,
                             StepResult& result) const {
  const float log_sum_exp =
      kernels_.log_sum_exp(logits.data(), static_cast<int32_t>(logits.size()));
  entry.logprob = logits[entry.token] - log_sum_exp;
  Sampler::BestLogprobs(
      logits, log_sum_exp,
      std::span(result.top)
          .subspan(static_cast<size_t>(entry.top_begin), static_cast<size_t>(entry.num_top)));
}

std::span<double> CpuEngine::SumsOf(SequenceSlot slot) {
  const auto size = static_cast<size_t>(info_.embedding_size);
  return {reinterpret_cast<double*>(pooling_.data()) + static_cast<size_t>(Number(slot)) * size,
          size};
}

std::span<float> CpuEngine::StateOf(int32_t worker) {
  const auto size = static_cast<size_t>(info_.embedding_size);
  const size_t sums_bytes = sizeof(double) * size * slots_.size();
  return {
      reinterpret_cast<float*>(pooling_.data() + sums_bytes) + static_cast<size_t>(worker) * size,
      size};
}

// Row after row, in the order of positions, wherever a step ends: so that the sum is always the
// same one (promise 1).
void CpuEngine::Pool(const PooledRows& rows, int32_t worker, StepResult& result) {
  const PlanSequence& s = *rows.sequence;
  std::span<double> sums;
  if (s.pooling == Pooling::kMean) {
    sums = SumsOf(s.slot);
    if (s.first_position == 0) std::fill(sums.begin(), sums.end(), 0.0);
    const std::span<float> state = StateOf(worker);
    for (int32_t i = 0; i < s.num_tokens; ++i) {
      transformer_->FinalState(rows.first_row + i, state.data());
      for (size_t d = 0; d < sums.size(); ++d) sums[d] += static_cast<double>(state[d]);
    }
  }
  if (!rows.pooled.has_value()) return;
  PooledState& pooled = result.pooled[*rows.pooled];
  const std::span<float> state =
      std::span(result.states).subspan(static_cast<size_t>(pooled.begin), info_.embedding_size);
  if (s.pooling == Pooling::kMean) {
    const double num_rows = s.first_position + s.num_tokens;
    for (size_t d = 0; d < sums.size(); ++d) state[d] = static_cast<float>(sums[d] / num_rows);
  } else {
    transformer_->FinalState(rows.first_row + s.num_tokens - 1, state.data());
  }
  pooled.undefined =
      !std::all_of(state.begin(), state.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace holdfast
