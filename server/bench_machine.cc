#include "server/bench_machine.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/processor_name.h"
#include "server/progress_bar.h"
#include "server/spread_json.h"
#include "server/workload_arguments.h"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kKiB = 1024, kMiB = 1024 * kKiB;
const std::vector<size_t> kWorkingSets = {256 * kKiB, kMiB,       4 * kMiB,   16 * kMiB,
                                          64 * kMiB,  128 * kMiB, 256 * kMiB, 512 * kMiB};

std::string BytesText(size_t bytes) {
  return bytes < kMiB ? absl::StrFormat("%d KiB", bytes / kKiB)
                      : absl::StrFormat("%d MiB", bytes / kMiB);
}

// "29.8 (28.1-30.2)" in units of 1e9.
std::string GigaText(const std::optional<Spread>& spread) {
  if (!spread) return "";
  return absl::StrFormat("%.1f (%.1f-%.1f)", spread->median / 1e9, spread->lowest / 1e9,
                         spread->highest / 1e9);
}

std::vector<std::pair<const char*, PeakKernel>> KernelsWithNames(const PeakKernels& peaks) {
  std::vector<std::pair<const char*, PeakKernel>> kernels = {
      {"f32", peaks.f32}, {"bf16", peaks.bf16}, {"int8", peaks.int8}};
  std::erase_if(kernels, [](const auto& kernel) { return kernel.second.run == nullptr; });
  return kernels;
}

void AddPeaks(Isa isa, const MachineSpeedOptions& options, MachineSpeed& speed) {
  for (const auto& [numbers, kernel] : KernelsWithNames(PeakKernelsOf(isa))) {
    MachinePeak& peak = speed.peaks.emplace_back();
    peak = {.isa = IsaName(isa),
            .numbers = numbers,
            .instruction = kernel.instruction,
            .one_thread = MeasurePeak(kernel, 1, options.samples)};
    if (options.threads > 1) {
      peak.all_threads = MeasurePeak(kernel, options.threads, options.samples);
    }
  }
}

absl::Status AddRead(size_t bytes, const MachineSpeedOptions& options, MachineSpeed& speed) {
  const PeakKernels peaks = PeakKernelsOf(BestIsa());
  MachineReadSpeed read{.working_set_bytes = bytes};
  ASSIGN_OR_RETURN(read.one_thread, MeasureRead(peaks, bytes, 1, options.samples));
  if (options.threads > 1) {
    ASSIGN_OR_RETURN(read.all_threads, MeasureRead(peaks, bytes, options.threads, options.samples));
  }
  speed.reads.push_back(read);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MachineSpeed> MeasureMachine(const MachineSpeedOptions& options,
                                            const std::function<void(double)>& progress) {
  MachineSpeed speed{
      .processor = ProcessorName(), .threads = options.threads, .read_isa = IsaName(BestIsa())};
  const auto steps = static_cast<double>(options.working_sets_bytes.size() + std::size(kIsas));
  double done = 0.0;
  const auto finish_one = [&] {
    if (progress) progress(++done / steps);
  };
  for (const size_t bytes : options.working_sets_bytes) {
    RETURN_IF_ERROR(AddRead(bytes, options, speed));
    finish_one();
  }
  for (const Isa isa : kIsas) {
    if (IsaSupported(isa)) AddPeaks(isa, options, speed);
    finish_one();
  }
  return speed;
}

std::string FormatMachineText(const MachineSpeed& speed) {
  const std::string all = speed.threads > 1 ? Concat(speed.threads, " threads") : "";
  std::string text = absl::StrFormat("%s, %d threads; median (lowest-highest)\n\n%-24s %24s %24s\n",
                                     speed.processor, speed.threads,
                                     Concat("read, GB/s (", speed.read_isa, ")"), "1 thread", all);
  for (const MachineReadSpeed& read : speed.reads) {
    text += absl::StrFormat("  %-22s %24s %24s\n", BytesText(read.working_set_bytes),
                            GigaText(read.one_thread), GigaText(read.all_threads));
  }
  text += absl::StrFormat("\n%-24s %24s %24s\n", "peak, GFLOP/s or GOP/s", "1 thread", all);
  for (const MachinePeak& peak : speed.peaks) {
    text +=
        absl::StrFormat("  %-22s %24s %24s  %s\n", Concat(peak.isa, " ", peak.numbers),
                        GigaText(peak.one_thread), GigaText(peak.all_threads), peak.instruction);
  }
  return text;
}

std::string FormatMachineJson(const MachineSpeed& speed) {
  Json reads = Json::array(), peaks = Json::array();
  for (const MachineReadSpeed& read : speed.reads) {
    reads.push_back(
        {{"working_set_bytes", read.working_set_bytes},
         {"one_thread_bytes_per_second", SpreadJson(read.one_thread)},
         {"all_threads_bytes_per_second", SpreadJson(read.all_threads.value_or(read.one_thread))}});
  }
  for (const MachinePeak& peak : speed.peaks) {
    peaks.push_back({{"isa", peak.isa},
                     {"numbers", peak.numbers},
                     {"instruction", peak.instruction},
                     {"one_thread_operations_per_second", SpreadJson(peak.one_thread)},
                     {"all_threads_operations_per_second",
                      SpreadJson(peak.all_threads.value_or(peak.one_thread))}});
  }
  return Json({{"processor", speed.processor},
               {"threads", speed.threads},
               {"read_isa", speed.read_isa},
               {"reads", std::move(reads)},
               {"peaks", std::move(peaks)}})
             .dump(2) +
         "\n";
}

absl::Status RunBenchMachine(const CommandLine& line, int32_t threads) {
  if (threads == 0) {
    threads = std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
  }
  MachineSpeed speed;
  {
    ProgressBar bar("bench machine");
    ASSIGN_OR_RETURN(speed, MeasureMachine({.threads = threads, .working_sets_bytes = kWorkingSets},
                                           [&](double share) { bar.Show(share); }));
  }
  const std::string text = VerbArguments(line).Find("--json") != nullptr ? FormatMachineJson(speed)
                                                                         : FormatMachineText(speed);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace holdfast
