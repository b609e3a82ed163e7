// When programs start: drawn from a process, laid over a workload in the place of its own times, or
// measured on what is there.
//
// Waits are Gamma distributed with the mean 1 / rate and the coefficient of variation `cv`: shape
// 1 / cv^2. cv 1 is Poisson; above it arrivals come in bursts, below it they are more even, 0 is a
// clock. The first wait is that of someone who comes at any time (the process has run for ever), so
// that many processes begun together do not begin with a common burst.
//
// Source: BurstGPT (Wang et al., KDD 2025) for Gamma arrivals and their fit by moments; the first
// wait is renewal theory's forward recurrence time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workload/random_source.h"
#include "workload/workload.h"

namespace holdfast {

struct ArrivalProcess {
  double rate = 1;  // starts per second, > 0
  double cv = 1;    // 0 to kArrivalCvMax
  bool operator==(const ArrivalProcess&) const = default;
};

// Above it the shape is so small that hundreds of starts fall together and then nothing for hours.
inline constexpr double kArrivalCvMax = 32;

absl::Status CheckArrivalProcess(const ArrivalProcess& process);

// Waits of mean 1 between starts; cv from 0 to kArrivalCvMax.
double DrawUnitWait(double cv, RandomSource& random);
double DrawUnitFirstWait(double cv, RandomSource& random);

// `count` starts, rising, the first one wait after zero.
std::vector<absl::Duration> DrawStarts(const ArrivalProcess& process, int64_t count, uint64_t seed);

// Gives the programs, in their order, new starts. What they do after they started stays.
void RetimeStarts(const ArrivalProcess& process, uint64_t seed, Workload& workload);

// Both at once, the other's programs `shift` later. Tenants and tools of one name become one; what
// was shared inside each stays shared, nothing is shared between them. `shift` >= 0.
Workload Superpose(Workload workload, const Workload& other, absl::Duration shift);

// The process whose gaps have the mean and variance of these (fit by moments). Nothing: fewer than
// two gaps, or all are zero. Bursts beyond kArrivalCvMax are given as that.
std::optional<ArrivalProcess> FitArrivals(std::span<const absl::Duration> starts);

// Variance over mean of the counts in bins of this width from the first start to the last: 1 for
// Poisson, above it for bursts. Two traces with one cv may bunch differently: report both. Nothing:
// fewer than two whole bins.
std::optional<double> DispersionIndex(std::span<const absl::Duration> starts, absl::Duration bin);

}  // namespace holdfast
