// `holdfast health`: asks the daemon on this machine whether it is ready, for whatever runs a
// command rather than asking a port (a container's health check), where there is no other client.
//
// Thread: any.    Bound: five seconds, and the first bytes of the answer.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "config/daemon_config.h"

namespace holdfast {

// What /health/ready at `listen.http` says, where it is 200; every address (0.0.0.0, [::]) is asked
// by loopback. Under TLS no certificate is checked: its name is for clients, and this asks itself.
// kUnavailable: it is not ready, or does not answer. kInvalidArgument: the port is 0.
absl::StatusOr<std::string> CheckHealth(const DaemonConfig& config);

}  // namespace holdfast
