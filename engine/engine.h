// Runs one step on one device. Knows a model, never a tenant or a request. Three real sides: the
// CPU engine, the CUDA engine (to come), and the fake engine of the tests and the simulator.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/step_plan.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

// What the scheduler must know of a loaded engine. Constant once loaded.
struct EngineInfo {
  int32_t vocab_size = 0;
  int32_t context_tokens = 0;      // longest sequence, prompt and completion
  int32_t num_blocks = 0;          // KV blocks of the device tier
  int32_t num_host_blocks = 0;     // of the host arena, which plans may name (HostBlock); may be 0
  int32_t num_sequence_slots = 0;  // most sequences in one step
  int32_t step_tokens_max = 0;     // most rows in one step
  KvLayout kv_layout;
  bool waits_for_layers = false;  // knows PlanSequence::gate
  bool verifies_drafts = false;   // knows PlanSequence::num_drafts
  int32_t embedding_size = 0;     // numbers of a pooled state; 0: PlanSequence::pooling is unknown
  // Names weights and arithmetic: KV of two engines is interchangeable only if it is equal.
  std::array<uint8_t, 32> model_digest{};
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;

  // Computes all rows of `plan` and fills `result` (cleared first). Thread: one, the engine's.
  // An error harms the device: every running sequence must be given up. A plan that breaks its
  // contract is a bug of the caller and stops the process.
  virtual absl::Status Execute(const StepPlan& plan, StepResult& result) = 0;
};

}  // namespace holdfast
