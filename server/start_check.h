// Whether the daemon could start with these settings on this machine, before anything is loaded:
// what `holdfast check-config` says beyond the file's own faults, and `holdfast serve` first.
//
// Thread: any; looks at files, changes nothing.
#pragma once

#include "absl/status/status.h"
#include "config/daemon_config.h"

namespace holdfast {

// kFailedPrecondition names every fault, one a line, each with the file's line or the flag that
// brought the setting:
//   - an address that others can reach, and neither tenants with keys nor listen.allow_anonymous
//   - TLS files that are missing, unreadable or empty
//   - no model at model.path, or one that cannot be read. Whether it is a model is told on loading.
absl::Status CheckStart(const DaemonConfig& config);

}  // namespace holdfast
