// What of a configuration file that was read again takes effect in a running daemon, and what waits
// for its next start. The table of settings says of each which it is.
//
// A tenant keeps its place in the list for as long as the daemon runs, whatever the file's order:
// one that is gone from the file stays without keys and without a part of the KV cache, and has its
// place again when it comes back; one that is new comes behind the others.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/daemon_config.h"

namespace holdfast {

struct ConfigChanges {
  DaemonConfig config;  // with what has taken effect
  // Settings by name, as "log.level", "tenants.weight of `acme`", "tenant `acme`"; never a value.
  std::vector<std::string> applied;
  std::vector<std::string> waiting;  // for the next start
};

// Both have passed LoadDaemonConfig. `wanted` is where `config` comes from, but for what waits.
// kInvalidArgument: with the new tenants there have been more than kTenantsMax.
absl::StatusOr<ConfigChanges> ChangesOf(const DaemonConfig& running, const DaemonConfig& wanted);

}  // namespace holdfast
