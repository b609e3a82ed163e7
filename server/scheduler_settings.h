// The scheduler as the configuration wants it, for the daemon and for the simulation of it.
#pragma once

#include "config/daemon_config.h"
#include "scheduler/scheduler_options.h"

namespace holdfast {

// All but model_name, kv and lookup_wait, which depend on the model and on the tiers.
SchedulerOptions SchedulerOptionsOf(const DaemonConfig& config);

}  // namespace holdfast
