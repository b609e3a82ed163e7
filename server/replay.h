// `holdfast replay`: a workload file, a live server, a report in simulate's form.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/command_line.h"
#include "server/replay_client.h"
#include "workload/workload.h"

namespace holdfast {

// Who is asked, from `line.arguments`. kInvalidArgument names the flag.
struct ReplayTarget {
  std::string address;  // ADDR:PORT
  std::string tls_ca;   // PEM file; empty: no TLS
};
absl::StatusOr<ReplayTarget> ReplayTargetOf(const CommandLine& line);

// Keys come from a file, which needs a line for each of the workload's tenants.
absl::StatusOr<ReplayOptions> ReplayOptionsOf(const CommandLine& line, const Workload& workload);

// `text`: a line "TENANT KEY" for each of `tenants`, in any order; `*` stands for all others; `#`
// begins a comment. Keys by the index of `tenants`. kInvalidArgument names the line or the tenant.
absl::StatusOr<std::vector<std::string>> ParseKeys(std::string_view text,
                                                   const std::vector<std::string>& tenants);

// Prints what it has when SIGINT or SIGTERM stop it: BlockSignals comes before.
absl::Status RunReplay(const CommandLine& line);

}  // namespace holdfast
