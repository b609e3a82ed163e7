// `holdfast bench profile`: measures what steps and moves take here with the configured model, and
// writes the cost profile that simulations run on (simulator/cost_profile.h).
#pragma once

#include <string>

#include "absl/status/status.h"
#include "config/daemon_config.h"

namespace holdfast {

// Writes the JSON to `out`, or standard output if empty; what was measured beside what the fit says
// goes to standard error.
absl::Status RunBenchProfile(const DaemonConfig& config, const std::string& out);

}  // namespace holdfast
