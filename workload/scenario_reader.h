// Scenarios: a few lines of YAML that say who asks what and when, for tests and for trying things.
//
//   name: a pin outlives its tool call      # optional, as all but programs and turns
//   tenants: [alice, bob]                   # otherwise those that programs name
//   programs:
//     - tenant: alice                       # otherwise the first
//       session: fixer                      # what it calls itself; copies get -1, -2, ...
//       offline: false
//       at: 0                               # when it starts; a list: one copy each
//       arrivals: {process: gamma, rate: 2, cv: 3, start: 10}   # or so; poisson, gamma, even
//       repeat: 20                          # copies; fresh tokens are fresh in each
//       turns:
//         - prompt: [{run: instructions, tokens: 600}, 150]     # a shared run, then fresh tokens
//           completion: 40                  # otherwise 1
//           tool: grep                      # what the answer calls
//         - after: 2.5                      # since the answer before; also 250ms, 1m30s
//           keep: all                       # of the turn before: all (default), none, tokens
//           prompt: 90
//           completion: 40
//           repeat: 5                       # five such turns
//   simulate: {...}                         # for those who run it; not looked at here
//   expect: {...}
//
// Times are seconds since the scenario began. Runs of one name are the same tokens wherever they
// stand. Every fault is told with its line and key, all in one message.
//
// Bounds: 1 MiB, 10^6 nodes with aliases written out, kScenarioTurnsMax turns with repeats.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "workload/line_file.h"
#include "workload/trace_rows.h"
#include "workload/workload_options.h"

namespace holdfast {

inline constexpr int64_t kScenarioTurnsMax = 5'000'000;

absl::StatusOr<Trace> ReadScenario(LineFile& file, const WorkloadOptions& options);

}  // namespace holdfast
