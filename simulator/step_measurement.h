// What steps take on a real engine, for FitStepCost: a grid of prefill chunks and decode batches at
// several contexts, alone and together. The whole grid is gone through several times and each
// step's middle time taken: a machine that is slow for some seconds is so for a part of every
// step's times, and each step finds the caches as another one left them.
//
// The KV that is attended to is filled with one block's copies first: untouched memory would read
// faster than it is.
//
// Thread: one, which is the engine's.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "simulator/cost_profile.h"

namespace holdfast {

struct MeasurementOptions {
  std::vector<int32_t> prefill_rows = {16, 32, 64, 128, 256, 512};
  // Most steps of a served model have few rows, where rows cost least evenly.
  std::vector<int32_t> decode_rows = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64};
  std::vector<int32_t> contexts = {0, 256, 1024, 4096};  // tokens before the step's rows
  int32_t passes = 5;                                    // timed; one more comes before them
};

// Steps of the grid that the engine cannot take (rows, slots, context, blocks) are left out.
// `progress` hears the share that is done. Errors are the engine's.
absl::StatusOr<std::vector<MeasuredStep>> MeasureSteps(
    Engine& engine, const MeasurementOptions& options,
    const std::function<void(double)>& progress = nullptr);

// How much longer a step takes after a pause: see CostProfile. The middle of several, not below 0.
absl::StatusOr<absl::Duration> MeasureAfterPause(Engine& engine);

// From the end of a step to the beginning of the next, as the daemon runs them: on the scheduler's
// thread and by its mailboxes, with an engine that takes no time and `rows` decodes in each step.
absl::StatusOr<absl::Duration> MeasureBetweenSteps(const EngineInfo& engine, int32_t rows = 8);

}  // namespace holdfast
