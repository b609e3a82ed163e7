// An engine without weights, KV or time: its tokens are a function of the request and the place
// alone, so that a next turn's prompt can hold the previous completion, and of no batch, as a real
// engine's. What a step takes is the cost profile's to say.
//
// A request names itself by SamplingParams::seed.
//
// Thread: one, like any engine.    Bound: 16 bytes a slot.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/engine.h"
#include "engine/step_plan.h"

namespace holdfast {

class SimulatedEngine final : public Engine {
 public:
  SimulatedEngine(const EngineInfo& info, uint64_t seed);

  const EngineInfo& info() const override { return info_; }
  // Draws for each sequence that asks; prompt logprobs are not simulated.
  absl::Status Execute(const StepPlan& plan, StepResult& result) override;

 private:
  struct Slot {
    uint64_t request = 0;  // and the seed, mixed
    uint64_t drawn = 0;
  };
  const EngineInfo info_;
  const uint64_t seed_;
  std::vector<Slot> slots_;
};

}  // namespace holdfast
