// `holdfast simulate`: a workload file, a fleet on a simulated clock, a report.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/daemon_config.h"
#include "server/command_line.h"
#include "simulator/fleet.h"
#include "workload/workload.h"
#include "workload/workload_options.h"

namespace holdfast {

// Settings come from the configuration file and flags as for serve; what only a simulation has,
// from `line.arguments`. kInvalidArgument names the flag.
absl::StatusOr<WorkloadOptions> WorkloadOptionsOf(const CommandLine& line);
absl::StatusOr<FleetOptions> FleetOptionsOf(const CommandLine& line, const DaemonConfig& config,
                                            const Workload& workload);

absl::Status RunSimulate(const CommandLine& line, const DaemonConfig& config);

}  // namespace holdfast
