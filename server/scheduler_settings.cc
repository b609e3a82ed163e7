#include "server/scheduler_settings.h"

#include "config/scheduler_policy.h"

namespace holdfast {

SchedulerOptions SchedulerOptionsOf(const DaemonConfig& config) {
  return {.running_max = config.scheduler.running_max,
          .waiting_max = config.scheduler.waiting_max,
          .step_tokens_max = config.scheduler.step_tokens_max,
          .chunk_tokens_max = config.scheduler.chunk_tokens_max,
          .long_prefill_tokens_max = config.scheduler.long_prefill_tokens_max,
          .offline_step_tokens_max = config.scheduler.offline_step_tokens_max,
          .step_time_max = config.scheduler.step_time_max,
          .policy = *SchedulerPolicyOf(config.scheduler.policy),  // checked when it was read
          .order = *WaitOrderOf(config.scheduler.order),
          .ageing_time = config.scheduler.ageing_time,
          .bypass_max = config.scheduler.bypass_max,
          .pin_window = config.scheduler.pin_window,
          .speculation = *SpeculationOf(config.scheduler.speculation),
          .draft_tokens_max = config.scheduler.draft_tokens_max,
          .queue_wait_max = config.scheduler.queue_wait_max > absl::ZeroDuration()
                                ? config.scheduler.queue_wait_max
                                : absl::InfiniteDuration(),
          .prefix_cache = config.scheduler.prefix_cache,
          .tenants = config.tenants};
}

}  // namespace holdfast
