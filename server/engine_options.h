// The engine as the configuration wants it: joins the configuration with the engine, for the daemon
// and for what measures the engine that the daemon would have.
#pragma once

#include "config/daemon_config.h"
#include "engine/cpu_engine.h"

namespace holdfast {

// All but kv_device_bytes and host_kv, which depend on the model and on the machine.
CpuEngineOptions EngineOptionsOf(const DaemonConfig& config);

}  // namespace holdfast
