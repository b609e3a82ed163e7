// `holdfast bench engine`: prefill and decode speed of the CPU engine on one model, each beside the
// bound that the machine sets it (engine_bound.h; docs/performance.md).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/daemon_config.h"
#include "engine/cpu_engine.h"
#include "engine/weights.h"
#include "server/command_line.h"
#include "server/engine_speed.h"
#include "server/machine_speed.h"

namespace holdfast {

struct BenchEngineOptions {
  EngineSpeedOptions speed;
  // Context, KV memory and slots are set to what `speed` needs.
  CpuEngineOptions engine;
  SpeedSamples machine;
};

struct EngineReport {
  std::string model, processor, isa, engine;  // the last: CpuEngine::Describe
  int32_t threads = 1;
  EngineSpeedOptions options;
  EngineSpeed speed;
  double prefill_bound = 0.0;  // tokens per second
  double decode_read_bound = 0.0, decode_arithmetic_bound = 0.0;
  double decode_bound() const { return std::min(decode_read_bound, decode_arithmetic_bound); }

  // What the bounds are made of.
  double prefill_multiply_adds = 0.0;  // a token, in the mean
  double decode_multiply_adds = 0.0;
  double step_weight_bytes = 0.0, step_kv_bytes = 0.0;  // of a decode step, in the mean
  double operations_per_second = 0.0;                   // of the mix that the model is
  double read_bytes_per_second = 0.0;
  size_t kv_bytes = 0;
  size_t resident_bytes = 0, resident_file_bytes = 0;  // of the process, after the runs
};

// kInvalidArgument: the model's context is too short, or the engine refuses the options.
absl::StatusOr<EngineReport> BenchEngine(const LoadedModel& model,
                                         const BenchEngineOptions& options,
                                         const std::function<void(double)>& progress = nullptr);

std::string FormatEngineText(const EngineReport& report);
std::string FormatEngineJson(const EngineReport& report);

// kInvalidArgument names the flag.
absl::StatusOr<BenchEngineOptions> BenchEngineOptionsOf(const CommandLine& line,
                                                        const DaemonConfig& config);
// Prints to standard output.
absl::Status RunBenchEngine(const CommandLine& line, const DaemonConfig& config);

}  // namespace holdfast
