// `holdfast bench machine`: what this machine can do at most, for docs/performance.md: how fast
// it reads memory, by how much is read over and over, and what each instruction path multiplies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/command_line.h"
#include "server/machine_speed.h"

namespace holdfast {

struct MachineReadSpeed {
  size_t working_set_bytes = 0;       // of all threads together
  Spread one_thread;                  // bytes per second
  std::optional<Spread> all_threads;  // nullopt: one is all
};

struct MachinePeak {
  std::string isa;          // as --isa takes it
  std::string numbers;      // "f32", "bf16", "int8"
  std::string instruction;  // what the kernel is made of
  Spread one_thread;        // operations per second; a multiply-add is two
  std::optional<Spread> all_threads;
};

struct MachineSpeed {
  std::string processor;
  int32_t threads = 1;
  std::string read_isa;  // by which memory was read: the fastest
  std::vector<MachineReadSpeed> reads;
  std::vector<MachinePeak> peaks;  // of every path that runs here
};

struct MachineSpeedOptions {
  int32_t threads = 1;
  std::vector<size_t> working_sets_bytes;
  SpeedSamples samples;
};

// `progress` hears the share that is done.
absl::StatusOr<MachineSpeed> MeasureMachine(const MachineSpeedOptions& options,
                                            const std::function<void(double)>& progress = nullptr);

std::string FormatMachineText(const MachineSpeed& speed);
std::string FormatMachineJson(const MachineSpeed& speed);

// Prints to standard output. `threads` 0: one a core.
absl::Status RunBenchMachine(const CommandLine& line, int32_t threads);

}  // namespace holdfast
