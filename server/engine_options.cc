#include "server/engine_options.h"

#include "kernels/kernel_table.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

CpuEngineOptions EngineOptionsOf(const DaemonConfig& config) {
  CpuEngineOptions options{
      .threads = config.engine.threads,
      .pin_threads = config.engine.pin_threads,
      .weights_mode = config.model.weights == "f32" ? WeightsMode::kF32 : WeightsMode::kNative,
      .activations =
          config.model.activations == "16bit" ? ActivationBits::k16 : ActivationBits::kMixed,
      .kv_dtype = KvDtypeOfName(config.engine.kv_dtype).value_or(KvDtype::kF16),
      .context_tokens = config.engine.context_tokens,
      .num_sequence_slots = config.scheduler.running_max,
      .step_tokens_max = config.scheduler.step_tokens_max};
  for (const Isa isa : kIsas) {
    if (config.engine.isa == IsaName(isa)) options.isa = isa;
  }
  return options;
}

}  // namespace holdfast
