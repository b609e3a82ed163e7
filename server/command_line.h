// `holdfast VERB ...` as data. Flags of `serve` are settings of the configuration file by shorter
// names; the file comes first, then the flags, of equal ones the last. `simulate` and `bench` take
// some of them, and arguments of their own; `replay` only those, `usage` those that name its file,
// `health` and `top` those that name the port.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/daemon_config.h"

namespace holdfast {

enum class Verb : uint8_t {
  kServe,
  kCheckConfig,
  kPrintSchema,
  kNewKey,
  kSimulate,
  kReplay,
  kBenchProfile,
  kBenchMachine,
  kBenchEngine,
  kUsage,
  kHealth,
  kTop,
  kVersion,
  kHelp
};

struct CommandLine {
  struct Override {
    std::string flag;     // "--http", for messages
    std::string setting;  // "listen.http"
    std::string value;
  };
  struct Argument {
    std::string flag;  // "--workload"
    std::string value;
  };
  Verb verb = Verb::kHelp;
  std::string config_path;  // serve, check-config, simulate, bench; empty: none
  std::vector<Override> overrides;
  std::vector<Argument> arguments;  // simulate, replay, bench: what is no setting, in their order
  std::string port_file;            // serve; empty: none
  std::string tenant;               // keys new
};

// kInvalidArgument: a sentence for the user, with the nearest known name for an unknown one.
absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> arguments);

// The overrides of `line` applied to `config`, then checked as a whole; all faults in one message.
absl::Status ApplyOverrides(const CommandLine& line, DaemonConfig& config);

std::string HelpText();

}  // namespace holdfast
