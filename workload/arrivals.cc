#include "workload/arrivals.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "config/base/check.h"
#include "config/base/concat.h"

namespace holdfast {
namespace {

// The place of each of `theirs` in `ours`, which grows by the new ones.
std::vector<int32_t> MergeNames(const std::vector<std::string>& theirs,
                                std::vector<std::string>& ours) {
  std::vector<int32_t> places;
  for (const std::string& name : theirs) {
    const auto found = std::find(ours.begin(), ours.end(), name);
    places.push_back(static_cast<int32_t>(found - ours.begin()));
    if (found == ours.end()) ours.push_back(name);
  }
  return places;
}

uint64_t RunsEnd(const Workload& workload) {
  uint64_t end = 0;
  for (const WorkloadProgram& program : workload.programs) {
    for (const WorkloadTurn& turn : program.turns) {
      for (const TokenRun& run : turn.runs) end = std::max(end, run.id + 1);
    }
  }
  return end;
}

void AddCounts(const WorkloadCounts& more, WorkloadCounts& counts) {
  counts.rows_read += more.rows_read;
  counts.rows_kept += more.rows_kept;
  counts.rows_clipped += more.rows_clipped;
  for (const auto& [reason, rows] : more.dropped) counts.Drop(reason, rows);
}

}  // namespace

absl::Status CheckArrivalProcess(const ArrivalProcess& process) {
  if (!(process.rate > 0 && process.rate <= 1e9)) {
    return absl::InvalidArgumentError(
        Concat("a rate of ", process.rate, " starts per second; wanted more than 0, at most 1e9"));
  }
  if (!(process.cv >= 0 && process.cv <= kArrivalCvMax)) {
    return absl::InvalidArgumentError(
        Concat("a cv of ", process.cv, "; wanted 0 (a clock) to ", kArrivalCvMax));
  }
  return absl::OkStatus();
}

double DrawUnitWait(double cv, RandomSource& random) {
  CHECK(cv >= 0 && cv <= kArrivalCvMax);
  if (cv == 0) return 1;
  if (cv == 1) return random.Exponential();
  const double shape = 1 / (cv * cv);
  return random.Gamma(shape) / shape;
}

double DrawUnitFirstWait(double cv, RandomSource& random) {
  CHECK(cv >= 0 && cv <= kArrivalCvMax);
  // Someone who comes at any time comes into a gap with a chance that grows with its length, and at
  // any place in it. Gamma(a) weighted by its length is Gamma(a + 1).
  const double place = random.UniformAboveZero();
  if (cv == 0) return place;
  const double shape = 1 / (cv * cv);
  return place * random.Gamma(shape + 1) / shape;
}

std::vector<absl::Duration> DrawStarts(const ArrivalProcess& process, int64_t count,
                                       uint64_t seed) {
  CHECK(CheckArrivalProcess(process).ok());
  RandomSource random(seed);
  std::vector<absl::Duration> starts;
  starts.reserve(static_cast<size_t>(std::max<int64_t>(count, 0)));
  double at = 0;  // in mean gaps
  for (int64_t i = 0; i < count; ++i) {
    at += i == 0 ? DrawUnitFirstWait(process.cv, random) : DrawUnitWait(process.cv, random);
    starts.push_back(absl::Seconds(at / process.rate));
  }
  return starts;
}

void RetimeStarts(const ArrivalProcess& process, uint64_t seed, Workload& workload) {
  const std::vector<absl::Duration> starts =
      DrawStarts(process, static_cast<int64_t>(workload.programs.size()), seed);
  for (size_t i = 0; i < starts.size(); ++i) workload.programs[i].start = starts[i];
}

Workload Superpose(Workload workload, const Workload& other, absl::Duration shift) {
  CHECK(shift >= absl::ZeroDuration());
  const std::vector<int32_t> tenants = MergeNames(other.tenants, workload.tenants);
  const std::vector<int32_t> tools = MergeNames(other.tools, workload.tools);
  const uint64_t run_offset = RunsEnd(workload);
  for (WorkloadProgram program : other.programs) {
    program.start += shift;
    program.tenant = tenants[static_cast<size_t>(program.tenant)];
    for (WorkloadTurn& turn : program.turns) {
      if (turn.tool) turn.tool = tools[static_cast<size_t>(*turn.tool)];
      for (TokenRun& run : turn.runs) run.id += run_offset;
    }
    workload.programs.push_back(std::move(program));
  }
  std::stable_sort(
      workload.programs.begin(), workload.programs.end(),
      [](const WorkloadProgram& a, const WorkloadProgram& b) { return a.start < b.start; });
  AddCounts(other.counts, workload.counts);
  workload.counts.file_sha256.clear();  // of two files: of none
  workload.name = Concat(workload.name, " + ", other.name);
  for (const std::string& assumption : other.assumptions) {
    if (std::find(workload.assumptions.begin(), workload.assumptions.end(), assumption) ==
        workload.assumptions.end()) {
      workload.assumptions.push_back(assumption);
    }
  }
  return workload;
}

std::optional<ArrivalProcess> FitArrivals(std::span<const absl::Duration> starts) {
  if (starts.size() < 3) return std::nullopt;
  const auto num_gaps = static_cast<double>(starts.size() - 1);
  const double mean = absl::ToDoubleSeconds(starts.back() - starts.front()) / num_gaps;
  if (!(mean > 0)) return std::nullopt;
  double squares = 0;
  for (size_t i = 1; i < starts.size(); ++i) {
    const double off = absl::ToDoubleSeconds(starts[i] - starts[i - 1]) - mean;
    squares += off * off;
  }
  const double cv = std::sqrt(squares / num_gaps) / mean;
  return ArrivalProcess{.rate = 1 / mean, .cv = std::min(cv, kArrivalCvMax)};
}

std::optional<double> DispersionIndex(std::span<const absl::Duration> starts, absl::Duration bin) {
  CHECK(bin > absl::ZeroDuration());
  if (starts.empty()) return std::nullopt;
  const double num_bins = std::floor(absl::FDivDuration(starts.back() - starts.front(), bin));
  if (!(num_bins >= 2)) return std::nullopt;
  // Empty bins count too, but need no memory: a sum over the filled ones is enough.
  double in_bins = 0, squares = 0;
  for (size_t i = 0; i < starts.size();) {
    const double at = std::floor(absl::FDivDuration(starts[i] - starts.front(), bin));
    if (at >= num_bins) break;  // the last bin is not whole
    size_t end = i;
    while (end < starts.size() &&
           std::floor(absl::FDivDuration(starts[end] - starts.front(), bin)) == at) {
      ++end;
    }
    const auto count = static_cast<double>(end - i);
    in_bins += count;
    squares += count * count;
    i = end;
  }
  const double mean = in_bins / num_bins;
  return (squares / num_bins - mean * mean) / mean;
}

}  // namespace holdfast
