// holdfast VERB ...: see HelpText, or `holdfast help`.
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/base/thread_turns.h"
#include "config/daemon_config.h"
#include "server/bench_engine.h"
#include "server/bench_machine.h"
#include "server/bench_profile.h"
#include "server/command_line.h"
#include "server/daemon.h"
#include "server/health_check.h"
#include "server/replay.h"
#include "server/simulate.h"
#include "server/start_check.h"
#include "server/stop_signals.h"
#include "server/tenant_key.h"
#include "server/top.h"
#include "server/usage_report.h"

#ifndef HOLDFAST_VERSION
#error "the build names the version"
#endif

namespace holdfast {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr char kDefaultModelFile[] = "SmolLM2-135M-Instruct.Q4_1.gguf";

void Print(std::FILE* file, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
}

int Fail(int exit_code, std::string_view message) {
  Print(stderr, Concat("holdfast: ", message, "\n"));
  return exit_code;
}

int Fail(int exit_code, const absl::Status& status) {
  return Fail(exit_code, StdView(status.message()));
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Where ./dev setup puts the model. But for the terminal's variables, the only look at the
// environment in the program.
std::string DefaultModelPath() {
  std::string home = Environment("HOLDFAST_HOME");
  if (home.empty()) {
    std::string cache = Environment("XDG_CACHE_HOME");
    if (cache.empty()) cache = Concat(Environment("HOME"), "/.cache");
    home = Concat(cache, "/holdfast");
  }
  return Concat(home, "/models/", kDefaultModelFile);
}

// The file's settings, or the defaults without a file.
absl::StatusOr<DaemonConfig> ReadConfig(const std::string& path) {
  if (path.empty()) return DaemonConfig{};
  return LoadDaemonConfig(path);
}

// File, then flags.
absl::StatusOr<DaemonConfig> SettingsOf(const CommandLine& line) {
  auto config = ReadConfig(line.config_path);
  if (!config.ok()) return config;
  const absl::Status overridden = ApplyOverrides(line, *config);
  if (!overridden.ok()) return overridden;
  return config;
}

// With the default model where none is named; what would keep the daemon from starting is an error.
absl::Status Complete(DaemonConfig& config) {
  if (config.model.path.empty()) config.model.path = DefaultModelPath();
  return CheckStart(config);
}

int Serve(const CommandLine& line) {
  auto config = ReadConfig(line.config_path);
  if (!config.ok()) return Fail(kExitError, config.status());
  const absl::Status overridden = ApplyOverrides(line, *config);
  if (!overridden.ok()) return Fail(kExitUsage, overridden);
  const absl::Status startable = Complete(*config);
  if (!startable.ok()) return Fail(kExitError, startable);
  BlockSignals();
  TakeShortTurns();  // of all threads; the engine's then take long ones
  DaemonOptions options{
      .config = *std::move(config), .version = HOLDFAST_VERSION, .port_file = line.port_file};
  if (!line.config_path.empty()) {
    options.read_config = [&line]() -> absl::StatusOr<DaemonConfig> {
      ASSIGN_OR_RETURN(DaemonConfig again, SettingsOf(line));
      RETURN_IF_ERROR(Complete(again));
      return again;
    };
  }
  const absl::Status served = RunDaemon(options);
  return served.ok() ? 0 : Fail(kExitError, served);
}

int Simulate(const CommandLine& line) {
  const auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  const absl::Status simulated = RunSimulate(line, *config);
  return simulated.ok() ? 0 : Fail(kExitError, simulated);
}

int Replay(const CommandLine& line) {
  BlockSignals();
  const absl::Status replayed = RunReplay(line);
  return replayed.ok() ? 0 : Fail(kExitError, replayed);
}

int BenchProfile(const CommandLine& line) {
  auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  if (config->model.path.empty()) config->model.path = DefaultModelPath();
  std::string out;
  for (const CommandLine::Argument& argument : line.arguments) out = argument.value;  // --out alone
  const absl::Status measured = RunBenchProfile(*config, out);
  return measured.ok() ? 0 : Fail(kExitError, measured);
}

int BenchEngineSpeed(const CommandLine& line) {
  auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  if (config->model.path.empty()) config->model.path = DefaultModelPath();
  const absl::Status measured = RunBenchEngine(line, *config);
  return measured.ok() ? 0 : Fail(kExitError, measured);
}

int BenchMachine(const CommandLine& line) {
  const auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  const absl::Status measured = RunBenchMachine(line, config->engine.threads);
  return measured.ok() ? 0 : Fail(kExitError, measured);
}

int Usage(const CommandLine& line) {
  const auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  const absl::Status told = RunUsage(line, config->UsagePath());
  return told.ok() ? 0 : Fail(kExitError, told);
}

int Health(const CommandLine& line) {
  const auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  const auto health = CheckHealth(*config);
  if (!health.ok()) return Fail(kExitError, health.status());
  Print(stdout, Concat(*health, "\n"));
  return 0;
}

int Top(const CommandLine& line) {
  const auto config = SettingsOf(line);
  if (!config.ok()) return Fail(kExitUsage, config.status());
  std::setlocale(LC_CTYPE, "");  // what characters are, and how wide
  TopScreen screen;
  const std::string terminal = Environment("TERM");
  if (isatty(STDOUT_FILENO) == 1 && !terminal.empty() && terminal != "dumb") {
    screen.kind = TopScreen::Kind::kTerminal;
  }
  if (Environment("NO_COLOR").empty()) screen.colour = Colour::kOfLooks;
  const absl::Status shown = RunTop(line, *config, screen);
  return shown.ok() ? 0 : Fail(kExitError, shown);
}

int CheckConfig(const std::string& path) {
  auto config = LoadDaemonConfig(path);
  if (!config.ok()) return Fail(kExitError, config.status());
  const absl::Status startable = Complete(*config);
  if (!startable.ok()) return Fail(kExitError, startable);
  Print(stdout, Concat(path, ": no faults; ", config->tenants.size(), " tenants\n"));
  return 0;
}

// Prints the key once, and what to paste; nothing is kept.
int NewKey(const std::string& tenant) {
  const auto key = MakeTenantKey();
  if (!key.ok()) return Fail(kExitError, key.status());
  const std::string entry =
      Concat("  - name: ", tenant, "\n    keys:\n      - \"", key->stored_hash, "\"\n");
  // Is it a name that the file takes, and takes as it stands?
  const auto checked = ParseDaemonConfig(Concat("tenants:\n", entry), "--tenant");
  if (!checked.ok()) return Fail(kExitUsage, checked.status());
  if (checked->tenants.size() != 1 || checked->tenants[0].name != tenant) {
    return Fail(kExitUsage, "--tenant: wanted letters, digits, `.`, `_` or `-`");
  }
  Print(
      stdout,
      Concat(
          "The key of tenant ", tenant, ", shown this once:\n\n  ", key->key,
          "\n\nFor the configuration file, under its one line `tenants:` (write that line if it is "
          "not there yet):\n\n",
          entry,
          "\nFor one more key of a tenant that is in the file: only the last of these "
          "lines, under its `keys:`.\n"));
  return 0;
}

int Run(const std::vector<std::string>& arguments) {
  const auto line = ParseCommandLine(arguments);
  if (!line.ok()) return Fail(kExitUsage, line.status());
  switch (line->verb) {
    case Verb::kServe:
      return Serve(*line);
    case Verb::kSimulate:
      return Simulate(*line);
    case Verb::kReplay:
      return Replay(*line);
    case Verb::kBenchProfile:
      return BenchProfile(*line);
    case Verb::kBenchEngine:
      return BenchEngineSpeed(*line);
    case Verb::kBenchMachine:
      return BenchMachine(*line);
    case Verb::kUsage:
      return Usage(*line);
    case Verb::kHealth:
      return Health(*line);
    case Verb::kTop:
      return Top(*line);
    case Verb::kCheckConfig:
      return CheckConfig(line->config_path);
    case Verb::kPrintSchema:
      Print(stdout, DaemonConfigSchema());
      return 0;
    case Verb::kNewKey:
      return NewKey(line->tenant);
    case Verb::kVersion:
      Print(stdout, "holdfast " HOLDFAST_VERSION "\n");
      return 0;
    case Verb::kHelp:
      Print(stdout, HelpText());
      return 0;
  }
  return kExitUsage;
}

// A thread that let an exception out, or a bug of that kind: say what it was before stopping.
[[noreturn]] void Terminate() {
  try {
    if (const std::exception_ptr current = std::current_exception()) {
      std::rethrow_exception(current);
    }
    Print(stderr, "holdfast: std::terminate was called\n");
  } catch (const std::exception& error) {
    Print(stderr, Concat("holdfast: an exception left a thread: ", error.what(), "\n"));
  } catch (...) {
    Print(stderr, "holdfast: an exception of unknown type left a thread\n");
  }
  std::abort();
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  std::set_terminate(holdfast::Terminate);
  return holdfast::Run(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
