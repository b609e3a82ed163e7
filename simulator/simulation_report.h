// What a simulation or a replay says, as JSON: for the whole and each tenant the distributions of
// queue time, TTFT, ITL, TPOT, E2E and job time, goodput, tokens; over time the KV blocks by state
// and the service of each tenant. scripts/simulation_report.py draws it.
//
// Equal tallies give equal bytes. Whoever reads it is told whether it was simulated, and on what. A
// replay's lacks what only the inside knows: steps, moves, KV blocks, queue time, preemptions.
//
// Fairness over time: Jain's index of the tenants' service in each window, over those that had
// any in it: 1 when all got the same, 1/n when one of n got all. Source: Jain, Chiu, Hawe 1984.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "simulator/duration_histogram.h"
#include "simulator/fleet.h"
#include "simulator/tally.h"
#include "workload/workload.h"

namespace holdfast {

// Tenants whose service over time is listed one by one, those with the most; the others as one.
inline constexpr size_t kTenantsOverTimeMax = 16;

std::string FormatSimulationReport(const Workload& workload, const FleetOptions& options,
                                   const Tally& tally);

// What a replay was, beside its tally.
struct ReplayFacts {
  std::string server, model;
  uint64_t seed = 1;
  int32_t in_flight_max = 0;
  std::optional<absl::Duration> retain;
  Slo slo;
  bool cut_short = false;                 // by its time or by a signal
  std::map<std::string, int64_t> errors;  // turns refused and failed, by the status's name
  DurationHistogram send_delay;           // how much later than due turns were sent
};
std::string FormatReplayReport(const Workload& workload, const ReplayFacts& facts,
                               const Tally& tally);

// Of one window; `service` of each tenant. nullopt: nobody had any.
std::optional<double> JainIndex(const std::vector<int64_t>& service);

}  // namespace holdfast
