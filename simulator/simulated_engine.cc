#include "simulator/simulated_engine.h"

#include "config/base/check.h"
#include "workload/random_source.h"

namespace holdfast {

SimulatedEngine::SimulatedEngine(const EngineInfo& info, uint64_t seed)
    : info_(info), seed_(seed), slots_(static_cast<size_t>(info.num_sequence_slots)) {}

absl::Status SimulatedEngine::Execute(const StepPlan& plan, StepResult& result) {
  result.Clear();
  for (const SequenceOpen& open : plan.opens) {
    slots_[static_cast<size_t>(Number(open.slot))] = {
        .request = MixBits(MixBits(seed_) + open.sampling.seed), .drawn = open.completion.size()};
  }
  for (const PlanSequence& part : plan.sequences) {
    CHECK(!part.prompt_top_logprobs && part.pooling == Pooling::kNone);
    if (!part.samples) continue;
    Slot& slot = slots_[static_cast<size_t>(Number(part.slot))];
    const uint64_t draw = MixBits(slot.request + ++slot.drawn * kGoldenGamma);
    result.samples.push_back(
        {.slot = part.slot,
         .token = static_cast<TokenId>(draw % static_cast<uint64_t>(info_.vocab_size))});
  }
  return absl::OkStatus();
}

}  // namespace holdfast
