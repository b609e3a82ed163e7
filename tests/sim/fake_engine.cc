#include "tests/sim/fake_engine.h"

#include <algorithm>
#include <set>

#include "config/base/check.h"

namespace holdfast {
namespace {

constexpr uint64_t kUnwritten = 0xdeadbeefdeadbeef;

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = (a ^ (b + 0x9e3779b97f4a7c15)) + 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

constexpr int kMarkShift = 56;

float ToLogprob(uint64_t digest) { return -static_cast<float>(digest % 4096) / 256.0f; }

}  // namespace

FakeEngine::FakeEngine(const FakeEngineOptions& options)
    : repeats_of_8_(options.repeats_of_8), repeat_period_(options.repeat_period) {
  info_.vocab_size = options.vocab_size;
  info_.context_tokens = options.context_tokens;
  info_.num_blocks = options.num_blocks;
  info_.num_sequence_slots = options.num_sequence_slots;
  info_.step_tokens_max = options.step_tokens_max;
  // A block of 16 hashes, with layers their first words, is as large as this layout says.
  info_.kv_layout = {.num_layers = options.num_layers,
                     .num_kv_heads = 1,
                     .head_dim = options.num_layers == 1 ? 2 : 1};
  info_.waits_for_layers = options.num_layers > 1;
  info_.verifies_drafts = true;
  info_.embedding_size = 2;
  block_words_ = info_.kv_layout.block_bytes() / sizeof(uint64_t);
  CHECK(block_words_ % kBlockTokens == 0);
  places_.assign(static_cast<size_t>(options.num_blocks) * block_words_, kUnwritten);
  slots_.resize(static_cast<size_t>(options.num_sequence_slots));
}

uint64_t& FakeEngine::Place(std::span<const BlockId> blocks, int32_t position) {
  const BlockId block = blocks[static_cast<size_t>(position / kBlockTokens)];
  const size_t in_block =
      static_cast<size_t>(position % kBlockTokens) * block_words_ / kBlockTokens;
  return places_[static_cast<size_t>(Number(block)) * block_words_ + in_block];
}

void FakeEngine::CheckPlan(const StepPlan& plan) const {
  CHECK(!plan.sequences.empty());
  CHECK(static_cast<int32_t>(plan.tokens.size()) <= info_.step_tokens_max);
  std::set<SequenceSlot> slots;
  std::map<BlockId, int> readers;
  int32_t tokens_end = 0;
  for (const PlanSequence& part : plan.sequences) {
    CHECK(Number(part.slot) >= 0 && Number(part.slot) < info_.num_sequence_slots);
    CHECK(slots.insert(part.slot).second);
    CHECK(part.num_tokens > 0 && part.first_position >= 0);
    CHECK(part.first_position + part.num_tokens <= info_.context_tokens);
    CHECK(part.tokens_begin == tokens_end && part.blocks_begin >= 0);
    CHECK(static_cast<size_t>(part.blocks_begin + part.num_blocks) <= plan.blocks.size());
    tokens_end += part.num_tokens;
    const int32_t end = part.first_position + part.num_tokens;
    CHECK(part.num_blocks == (end + kBlockTokens - 1) / kBlockTokens);
    CHECK(part.num_drafts >= 0 && part.num_drafts < part.num_tokens);
    CHECK(part.num_drafts == 0 || (part.samples && !part.gate && !part.prompt_top_logprobs));
    CHECK(part.num_forced >= 0 && part.num_forced <= part.num_tokens);
    CHECK(part.num_forced == 0 || part.num_drafts == 0);
    CHECK(part.pooling == Pooling::kNone ? !part.pools : !part.samples);
    CHECK(part.pooling != Pooling::kMean || part.gate == nullptr);
    std::set<BlockId> own;
    for (BlockId block : plan.BlocksOf(part)) {
      CHECK(Number(block) >= 0 && Number(block) < info_.num_blocks);
      CHECK(own.insert(block).second);
      ++readers[block];
    }
  }
  for (const PlanSequence& part : plan.sequences) {
    if (part.gate == nullptr) continue;
    CHECK(part.gate->num_layers() == info_.kv_layout.num_layers);
    CHECK(part.gate->num_open() > 0 || part.gate->failed());
    CHECK(part.first_position % kBlockTokens == 0);
  }
  CHECK(tokens_end == static_cast<int32_t>(plan.tokens.size()));
  // A block that is written is nobody else's.
  for (const PlanSequence& part : plan.sequences) {
    const int32_t last = part.first_position + part.num_tokens - 1;
    for (int32_t i = part.first_position / kBlockTokens; i <= last / kBlockTokens; ++i) {
      CHECK(readers[plan.BlocksOf(part)[static_cast<size_t>(i)]] == 1);
    }
  }
  for (TokenId token : plan.tokens) CHECK(token >= 0 && token < info_.vocab_size);
  for (const BlockCopy& copy : plan.copies) {
    CHECK(Number(copy.from) >= 0 && Number(copy.from) < info_.num_blocks);
    CHECK(Number(copy.to) >= 0 && Number(copy.to) < info_.num_blocks && copy.to != copy.from);
    CHECK(copy.num_tokens > 0 && copy.num_tokens < kBlockTokens);
    CHECK(readers[copy.to] == 1);  // its owner computes in this step
  }
}

uint64_t FakeEngine::KvOf(uint64_t visible, TokenId token, int32_t position, uint8_t mark) {
  const uint64_t hash =
      Mix(Mix(visible, static_cast<uint64_t>(token)), static_cast<uint64_t>(position));
  return (hash >> (64 - kMarkShift)) | (static_cast<uint64_t>(mark) << kMarkShift);
}

uint64_t FakeEngine::See(uint64_t visible, uint64_t kv) { return Mix(visible, kv); }

uint8_t FakeEngine::MarkOf(uint64_t seed) { return static_cast<uint8_t>(seed >> kMarkShift); }

absl::Status FakeEngine::Execute(const StepPlan& plan, StepResult& result) {
  if (hook_) hook_(plan);
  CheckPlan(plan);
  result.Clear();
  for (const SequenceOpen& open : plan.opens) {
    slots_[static_cast<size_t>(Number(open.slot))] = {.sampling = open.sampling,
                                                      .prompt = open.prompt,
                                                      .completion = open.completion,
                                                      .open = true};
  }
  for (const BlockCopy& copy : plan.copies) {
    const auto words = static_cast<std::ptrdiff_t>(block_words_);
    const auto from = places_.begin() + Number(copy.from) * words;
    const auto to = places_.begin() + Number(copy.to) * words;
    const std::ptrdiff_t copied = copy.num_tokens * words / kBlockTokens;
    std::copy_n(from, copied, to);
    std::fill(to + copied, to + words, kUnwritten);
    ++num_copies_;
  }
  num_rows_ += static_cast<int64_t>(plan.tokens.size());
  if (num_steps_++ == fail_step_) {
    std::fill(places_.begin(), places_.end(), kUnwritten);
    return absl::InternalError("the fake device has failed, as it was told to");
  }
  for (const PlanSequence& part : plan.sequences) {
    if (part.gate != nullptr && !part.gate->Wait(info_.kv_layout.num_layers)) {
      result.gate_failed.push_back(static_cast<int32_t>(&part - plan.sequences.data()));
      continue;
    }
    ComputeSequence(plan, part, result);
  }
  return absl::OkStatus();
}

SampledToken FakeEngine::Score(uint64_t digest, SequenceSlot slot, TokenId token, int32_t num_top,
                               StepResult& result) const {
  SampledToken scored{.slot = slot,
                      .token = token,
                      .logprob = ToLogprob(Mix(digest, static_cast<uint64_t>(token))),
                      .top_begin = static_cast<int32_t>(result.top.size()),
                      .num_top = num_top};
  for (int32_t i = 0; i < num_top; ++i) {
    const uint64_t other = Mix(digest, 1'000'000 + static_cast<uint64_t>(i));
    result.top.push_back(
        {.token = static_cast<TokenId>(other % static_cast<uint64_t>(info_.vocab_size)),
         .logprob = ToLogprob(other)});
  }
  return scored;
}

void FakeEngine::ComputeSequence(const StepPlan& plan, const PlanSequence& part,
                                 StepResult& result) {
  Slot& slot = slots_[static_cast<size_t>(Number(part.slot))];
  CHECK(slot.open);
  const std::span<const BlockId> blocks = plan.BlocksOf(part);
  const std::span<const TokenId> tokens = plan.TokensOf(part);
  // What attention sees before this chunk, as it lies in the blocks.
  uint64_t visible = 0;
  bool poisoned = false;
  const uint8_t mark = MarkOf(slot.sampling.seed);
  for (int32_t p = 0; p < part.first_position; ++p) {
    const uint64_t kv = Place(blocks, p);
    if (kv >> kMarkShift != mark) ++num_foreign_reads_;
    visible = See(visible, kv);
  }

  num_drafts_ += part.num_drafts;
  num_forced_ += part.num_forced;
  for (const TokenId token : tokens.last(static_cast<size_t>(part.num_forced))) {
    slot.completion.push_back(token);
  }
  for (int32_t i = 0; i < part.num_tokens; ++i) {
    const int32_t position = part.first_position + i;
    const TokenId token = tokens[static_cast<size_t>(i)];
    const uint64_t kv = KvOf(visible, token, position, mark);
    Place(blocks, position) = kv;
    visible = See(visible, kv);
    poisoned |= token == poison_;
    const int32_t rows_after = part.num_tokens - 1 - i;
    if (part.samples && rows_after == part.num_drafts) {
      CHECK(slot.prompt.size() + slot.completion.size() == static_cast<size_t>(position + 1));
      DrawFrom(visible, part, poisoned, result);
    } else if (rows_after < part.num_drafts) {
      const SampledToken before = result.samples.back();
      if (!before.undefined && !before.passed_over && before.token == token) {
        DrawFrom(visible, part, poisoned, result);
      } else {
        result.samples.push_back({.slot = part.slot, .passed_over = true});
      }
    }
    const bool last_row = i + 1 == part.num_tokens;
    if (part.pooling != Pooling::kNone) Pool(visible, part, position, last_row, poisoned, result);
    if (!part.prompt_top_logprobs) continue;
    if (last_row && !part.next_token) continue;
    const TokenId next = last_row ? *part.next_token : tokens[static_cast<size_t>(i) + 1];
    result.prompt_logprobs.push_back(
        Score(visible, part.slot, next, *part.prompt_top_logprobs, result));
    result.prompt_logprobs.back().undefined = poisoned;
  }
}

TokenId FakeEngine::TokenOf(uint64_t digest, const Slot& slot) const {
  const size_t length = slot.prompt.size() + slot.completion.size();
  const auto period = static_cast<size_t>(repeat_period_);
  if (static_cast<int32_t>(digest >> 61) < repeats_of_8_ && length >= period) {
    const size_t place = length - period;
    return place < slot.prompt.size() ? slot.prompt[place]
                                      : slot.completion[place - slot.prompt.size()];
  }
  return static_cast<TokenId>(digest % static_cast<uint64_t>(info_.vocab_size));
}

TokenId FakeEngine::NextAllowed(TokenId token, const TokenMask& mask) const {
  if (mask.only()) return *mask.only();
  while ((mask.words()[static_cast<size_t>(token / 32)] >> (token % 32) & 1) == 0) {
    token = (token + 1) % info_.vocab_size;
  }
  return token;
}

void FakeEngine::Pool(uint64_t visible, const PlanSequence& part, int32_t position, bool last_row,
                      bool poisoned, StepResult& result) {
  Slot& slot = slots_[static_cast<size_t>(Number(part.slot))];
  const float seen = ToLogprob(visible);
  if (part.pooling == Pooling::kMean) {
    slot.sum = position == 0 ? seen : slot.sum + seen;
    slot.num_summed = position == 0 ? 1 : slot.num_summed + 1;
    CHECK(slot.num_summed == position + 1);  // all of them, one after the other
  }
  if (!last_row || !part.pools) return;
  CHECK(slot.prompt.size() == static_cast<size_t>(position + 1));
  result.pooled.push_back({.slot = part.slot,
                           .begin = static_cast<int32_t>(result.states.size()),
                           .undefined = poisoned});
  const bool mean = part.pooling == Pooling::kMean;
  result.states.push_back(mean ? static_cast<float>(slot.sum / slot.num_summed) : seen);
  result.states.push_back(static_cast<float>(mean));
}

void FakeEngine::DrawFrom(uint64_t visible, const PlanSequence& part, bool poisoned,
                          StepResult& result) {
  Slot& slot = slots_[static_cast<size_t>(Number(part.slot))];
  uint64_t digest = Mix(Mix(visible, slot.sampling.seed), slot.completion.size());
  for (TokenId token : slot.completion) digest = Mix(digest, static_cast<uint64_t>(token));
  TokenId token = TokenOf(digest, slot);
  if (part.mask != nullptr) {
    const bool failed = !part.mask->Wait();
    poisoned &= !part.mask->only().has_value() || slot.sampling.top_logprobs.has_value();
    poisoned |= failed;
    if (!poisoned) token = NextAllowed(token, *part.mask);
  }
  slot.completion.push_back(token);
  result.samples.push_back(
      Score(digest, part.slot, token, slot.sampling.top_logprobs.value_or(0), result));
  result.samples.back().undefined = poisoned;
}

}  // namespace holdfast
