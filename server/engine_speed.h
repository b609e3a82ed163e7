// How fast an engine computes prompts and draws tokens, with nothing around it.
//
// A run is two parts, timed apart: the prompts of all streams, in steps that are as full as the
// engine takes them; then `generate` steps of one row of each stream, behind `context` tokens. The
// KV of all blocks is filled before: memory that nobody wrote reads faster than it is.
//
// Thread: one, which is the engine's.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/spread.h"

namespace holdfast {

struct EngineSpeedOptions {
  int32_t prompt_tokens = 512;    // of each stream
  int32_t generate_tokens = 128;  // likewise
  int32_t streams = 1;
  int32_t context_tokens = 0;   // in front of the first generated token
  bool shared_context = false;  // all streams generate behind the same blocks, as far as whole
  int32_t runs = 5;             // timed; a shorter one comes before them
};

struct EngineSpeed {
  Spread prefill_tokens_per_second, decode_tokens_per_second;  // of all streams together
};

// KV blocks that a measurement takes.
int64_t BlocksOf(const EngineSpeedOptions& options);

// All options are at least 1 (context_tokens 0), and the engine has the slots, rows and blocks for
// them. `progress` hears the share that is done. Errors are the engine's.
absl::StatusOr<EngineSpeed> MeasureEngine(Engine& engine, const EngineSpeedOptions& options,
                                          const std::function<void(double)>& progress = nullptr);

}  // namespace holdfast
