// Drives a CpuEngine the way a test wants it: any chunks, any blocks, any company in the step.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "engine/cpu_engine.h"

namespace holdfast {

inline std::unique_ptr<CpuEngine> MakeEngine(const LoadedModel& model, CpuEngineOptions options) {
  const auto block_bytes =
      static_cast<int64_t>(Transformer::KvLayoutOf(model.config, options.kv_dtype).block_bytes());
  if (options.kv_device_bytes == 0) {
    const int32_t context = options.context_tokens.value_or(model.config.context_tokens);
    options.kv_device_bytes = 4 * block_bytes * (context / kBlockTokens + 1);
  }
  absl::StatusOr<std::unique_ptr<CpuEngine>> engine = CpuEngine::Create(model, options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

// `count` blocks from `first` on; with a seed in random order.
inline std::vector<BlockId> Blocks(int32_t first, int32_t count, uint32_t shuffle_seed = 0) {
  std::vector<BlockId> blocks(count);
  for (int32_t i = 0; i < count; ++i) blocks[i] = BlockId{first + i};
  if (shuffle_seed != 0) std::shuffle(blocks.begin(), blocks.end(), std::mt19937(shuffle_seed));
  return blocks;
}

// Appends rows [position, position + count) of `tokens` to the plan and returns their entry.
inline PlanSequence& AddRows(StepPlan& plan, SequenceSlot slot, const std::vector<TokenId>& tokens,
                             int32_t position, int32_t count, const std::vector<BlockId>& blocks) {
  const int32_t num_blocks = (position + count + kBlockTokens - 1) / kBlockTokens;
  plan.sequences.push_back({.slot = slot,
                            .first_position = position,
                            .tokens_begin = static_cast<int32_t>(plan.tokens.size()),
                            .num_tokens = count,
                            .blocks_begin = static_cast<int32_t>(plan.blocks.size()),
                            .num_blocks = num_blocks});
  plan.tokens.insert(plan.tokens.end(), tokens.begin() + position,
                     tokens.begin() + position + count);
  plan.blocks.insert(plan.blocks.end(), blocks.begin(), blocks.begin() + num_blocks);
  return plan.sequences.back();
}

struct Company {  // another sequence in each step, one row at a time
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;
};

// Logits of every row of one sequence, computed in chunks, [tokens][vocab].
inline std::vector<float> AllLogits(CpuEngine& engine, const std::vector<TokenId>& tokens,
                                    int32_t chunk, const std::vector<BlockId>& blocks,
                                    const Company& company = {}) {
  constexpr int32_t kBatch = 64;
  const auto vocab = static_cast<size_t>(engine.info().vocab_size);
  const auto num_tokens = static_cast<int32_t>(tokens.size());
  std::vector<float> logits(tokens.size() * vocab);
  StepPlan plan;
  int32_t company_position = 0;
  for (int32_t begin = 0; begin < num_tokens; begin += chunk) {
    const int32_t count = std::min(chunk, num_tokens - begin);
    plan.Clear();
    int32_t first_row = 0;
    if (!company.tokens.empty()) {
      const auto length = static_cast<int32_t>(company.tokens.size());
      const int32_t rows = std::min(1 + begin % 5, length - company_position);
      if (rows > 0) {
        AddRows(plan, SequenceSlot{1}, company.tokens, company_position, rows, company.blocks);
        company_position += rows;
        first_row = rows;
      }
    }
    AddRows(plan, SequenceSlot{0}, tokens, begin, count, blocks).prompt_top_logprobs = 0;
    engine.transformer().Forward(plan, engine.kv_arena());
    for (int32_t row = 0; row < count; row += kBatch) {
      std::vector<int32_t> rows(std::min(kBatch, count - row));
      std::iota(rows.begin(), rows.end(), first_row + row);
      engine.transformer().Logits(rows, logits.data() + static_cast<size_t>(begin + row) * vocab);
    }
  }
  return logits;
}

// The embedding of one sequence before it has any length, computed in chunks from `begin` on.
inline std::vector<float> PooledState(CpuEngine& engine, const std::vector<TokenId>& tokens,
                                      Pooling pooling, int32_t chunk,
                                      const std::vector<BlockId>& blocks,
                                      const Company& company = {}, int32_t begin = 0) {
  const auto num_tokens = static_cast<int32_t>(tokens.size());
  StepPlan plan;
  StepResult result;
  int32_t company_position = 0;
  for (; begin < num_tokens; begin += chunk) {
    const int32_t count = std::min(chunk, num_tokens - begin);
    plan.Clear();
    if (company_position + 3 <= static_cast<int32_t>(company.tokens.size())) {
      AddRows(plan, SequenceSlot{1}, company.tokens, company_position, 3, company.blocks).pooling =
          Pooling::kMean;
      company_position += 3;
    }
    PlanSequence& rows = AddRows(plan, SequenceSlot{0}, tokens, begin, count, blocks);
    rows.pooling = pooling;
    rows.pools = begin + count == num_tokens;
    EXPECT_TRUE(engine.Execute(plan, result).ok());
    EXPECT_EQ(result.pooled.size(), rows.pools ? 1u : 0u);
  }
  EXPECT_EQ(result.states.size(), static_cast<size_t>(engine.info().embedding_size));
  EXPECT_FALSE(result.pooled.at(0).undefined);
  return result.states;
}

}  // namespace holdfast
