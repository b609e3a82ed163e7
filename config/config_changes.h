// What of a configuration file that was read again takes effect in a running daemon, and what waits
// for its next start. The table of settings says of each which it is.
//
// A tenant keeps its place in the list for as long as the daemon runs: one that is gone from the
// file stays without keys, one that is new waits for the next start.
#pragma once

#include <string>
#include <vector>

#include "config/daemon_config.h"

namespace holdfast {

struct ConfigChanges {
  DaemonConfig config;  // with what has taken effect
  // Settings by name, as "log.level", "tenants.weight of `acme`", "tenant `acme`"; never a value.
  std::vector<std::string> applied;
  std::vector<std::string> waiting;  // for the next start
};

// Both have passed LoadDaemonConfig. `wanted` is where `config` comes from, but for what waits.
ConfigChanges ChangesOf(const DaemonConfig& running, const DaemonConfig& wanted);

}  // namespace holdfast
