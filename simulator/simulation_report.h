// What a simulation says, as JSON: for the whole and each tenant the distributions of queue time,
// TTFT, ITL, TPOT, E2E and job time, goodput, tokens; over time the KV blocks by state and the
// service of each tenant. scripts/simulation_report.py draws it.
//
// Equal tallies give equal bytes. Whoever reads it is told that it was simulated, and on what.
//
// Fairness over time: Jain's index of the tenants' service in each window, over those that had
// any in it: 1 when all got the same, 1/n when one of n got all. Source: Jain, Chiu, Hawe 1984.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "simulator/fleet.h"
#include "simulator/tally.h"
#include "workload/workload.h"

namespace holdfast {

// Tenants whose service over time is listed one by one, those with the most; the others as one.
inline constexpr size_t kTenantsOverTimeMax = 16;

std::string FormatSimulationReport(const Workload& workload, const FleetOptions& options,
                                   const Tally& tally);

// Of one window; `service` of each tenant. nullopt: nobody had any.
std::optional<double> JainIndex(const std::vector<int64_t>& service);

}  // namespace holdfast
