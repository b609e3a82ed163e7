#include "server/engine_speed.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/clock.h"
#include "config/base/status_macros.h"
#include "config/limits.h"
#include "engine/step_plan.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

int32_t LongestContext(const EngineSpeedOptions& options) {
  return std::max(options.prompt_tokens, options.context_tokens + options.generate_tokens);
}

int32_t BlocksOfStream(const EngineSpeedOptions& options) {
  return BlocksFor(LongestContext(options));
}

// The streams' steps; each stream has blocks of its own.
class Streams {
 public:
  Streams(Engine& engine, const EngineSpeedOptions& options)
      : engine_(engine), options_(options), blocks_each_(BlocksOfStream(options)) {}

  // Gives every block the KV of real tokens.
  absl::Status Fill() {
    plan_.Clear();
    AddRows(0, 0, std::min(kBlockTokens, LongestContext(options_)), true);
    RETURN_IF_ERROR(Execute());
    plan_.Clear();
    AddRows(0, 0, 1, true);
    for (int32_t block = 1; block < options_.streams * blocks_each_; ++block) {
      plan_.copies.push_back(
          {.from = BlockId{0}, .to = BlockId{block}, .num_tokens = kBlockTokens - 1});
    }
    return Execute();
  }

  absl::StatusOr<double> PrefillSpeed(int32_t prompt_tokens) {
    const absl::Time begin = SteadyNow();
    int32_t room = engine_.info().step_tokens_max;
    plan_.Clear();
    for (int32_t stream = 0; stream < options_.streams; ++stream) {
      for (int32_t position = 0; position < prompt_tokens;) {
        const int32_t count = std::min(room, prompt_tokens - position);
        AddRows(stream, position, count, position + count == prompt_tokens);
        position += count;
        room -= count;
        if (room > 0) continue;
        RETURN_IF_ERROR(Execute());
        plan_.Clear();
        room = engine_.info().step_tokens_max;
      }
    }
    if (!plan_.sequences.empty()) RETURN_IF_ERROR(Execute());
    return Speed(prompt_tokens, begin);
  }

  absl::StatusOr<double> DecodeSpeed(int32_t generate_tokens) {
    const absl::Time begin = SteadyNow();
    for (int32_t step = 0; step < generate_tokens; ++step) {
      plan_.Clear();
      for (int32_t stream = 0; stream < options_.streams; ++stream) {
        AddRows(stream, options_.context_tokens + step, 1, true);
      }
      RETURN_IF_ERROR(Execute());
    }
    return Speed(generate_tokens, begin);
  }

 private:
  double Speed(int32_t tokens_each, absl::Time begin) const {
    const double seconds = std::max(absl::ToDoubleSeconds(SteadyNow() - begin), 1e-9);
    return static_cast<double>(tokens_each) * options_.streams / seconds;
  }

  absl::Status Execute() { return engine_.Execute(plan_, result_); }

  // A sequence's first row opens its slot; decodes behind a context go on with that of the prompt.
  void AddRows(int32_t stream, int32_t position, int32_t count, bool samples) {
    if (position == 0) {
      plan_.opens.push_back({.slot = SequenceSlot{stream}, .sampling = {.temperature = 0.0f}});
    }
    plan_.sequences.push_back({.slot = SequenceSlot{stream},
                               .first_position = position,
                               .tokens_begin = static_cast<int32_t>(plan_.tokens.size()),
                               .num_tokens = count,
                               .blocks_begin = static_cast<int32_t>(plan_.blocks.size()),
                               .num_blocks = BlocksFor(position + count),
                               .samples = samples});
    for (int32_t i = 0; i < count; ++i) {
      plan_.tokens.push_back((7 + 31 * (position + i)) % engine_.info().vocab_size);
    }
    const int32_t shared =
        options_.shared_context && count == 1 ? options_.context_tokens / kBlockTokens : 0;
    for (int32_t i = 0; i < plan_.sequences.back().num_blocks; ++i) {
      plan_.blocks.push_back(BlockId{(i < shared ? 0 : stream) * blocks_each_ + i});
    }
  }

  Engine& engine_;
  const EngineSpeedOptions options_;
  const int32_t blocks_each_;
  StepPlan plan_;
  StepResult result_;
};

}  // namespace

int64_t BlocksOf(const EngineSpeedOptions& options) {
  return int64_t{options.streams} * BlocksOfStream(options);
}

absl::StatusOr<EngineSpeed> MeasureEngine(Engine& engine, const EngineSpeedOptions& options,
                                          const std::function<void(double)>& progress) {
  CHECK(options.prompt_tokens > 0 && options.generate_tokens > 0 && options.context_tokens >= 0);
  CHECK(options.streams > 0 && options.runs > 0);
  CHECK(BlocksOf(options) <= engine.info().num_blocks);
  constexpr int32_t kWarmUpTokens = 64, kWarmUpSteps = 4;
  Streams streams(engine, options);
  RETURN_IF_ERROR(streams.Fill());
  RETURN_IF_ERROR(streams.PrefillSpeed(std::min(options.prompt_tokens, kWarmUpTokens)).status());
  RETURN_IF_ERROR(streams.DecodeSpeed(std::min(options.generate_tokens, kWarmUpSteps)).status());
  std::vector<double> prefill, decode;
  for (int32_t run = 0; run < options.runs; ++run) {
    ASSIGN_OR_RETURN(prefill.emplace_back(), streams.PrefillSpeed(options.prompt_tokens));
    ASSIGN_OR_RETURN(decode.emplace_back(), streams.DecodeSpeed(options.generate_tokens));
    if (progress) progress(static_cast<double>(run + 1) / options.runs);
  }
  return EngineSpeed{.prefill_tokens_per_second = SpreadOf(std::move(prefill)),
                     .decode_tokens_per_second = SpreadOf(std::move(decode))};
}

}  // namespace holdfast
