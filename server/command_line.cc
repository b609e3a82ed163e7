#include "server/command_line.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/concat.h"
#include "config/nearest_name.h"

namespace holdfast {
namespace {

enum class FlagKind : uint8_t { kValue, kSwitch };

struct Flag {
  std::string_view name;
  std::string_view setting;  // empty: not a setting, see ParseFlags
  std::string_view shown;    // the value's name in help
  std::string_view about;
  FlagKind kind = FlagKind::kValue;
};

constexpr Flag kServeFlags[] = {
    {"--config", "", "FILE", "configuration file (YAML); flags override it"},
    {"--port-file", "", "FILE", "once ready, write the ports there: {\"http\":N,\"grpc\":N}"},
    {"--model", "model.path", "PATH", "GGUF file or Hugging Face folder"},
    {"--model-name", "model.name", "NAME", "the model's name on the wire"},
    {"--chat-template", "model.chat_template", "FILE", "in place of the model's own (Jinja)"},
    {"--weights", "model.weights", "native|f32", "as in the file, or dequantised"},
    {"--http", "listen.http", "ADDR:PORT", "default 127.0.0.1:8080; port 0: the system picks"},
    {"--grpc", "listen.grpc", "ADDR:PORT", "default 127.0.0.1:50051; empty: none"},
    {"--tls-certificate", "listen.tls.certificate_path", "FILE", "PEM chain, for both ports"},
    {"--tls-key", "listen.tls.key_path", "FILE", "PEM"},
    {"--allow-anonymous", "listen.allow_anonymous", "",
     "without keys: serve other than loopback, under any name", FlagKind::kSwitch},
    {"--metrics", "listen.metrics", "loopback|all", "who may read /metrics, which takes no key"},
    {"--threads", "engine.threads", "N", "compute threads; 0: one a core"},
    {"--isa", "engine.isa", "NAME", "auto, scalar, avx2, avx512-vnni, avx512-bf16, avx512-amx"},
    {"--kv-dtype", "engine.kv_dtype", "f16|f32|i8", "numbers of the KV cache"},
    {"--kv-device-bytes", "engine.kv_device_bytes", "SIZE", "memory for KV, as 4GiB"},
    {"--kv-host-bytes", "kv.host_bytes", "SIZE", "memory for KV that left the device"},
    {"--kv-disk-path", "kv.disk.path", "DIR", "directory for KV that left memory"},
    {"--kv-disk-bytes", "kv.disk.bytes", "SIZE", "most bytes of its files"},
    {"--kv-remote", "kv.remote.url", "SERVER", "Valkey or Redis, HOST:PORT or unix:PATH"},
    {"--kv-eviction", "kv.eviction", "lru|cost_aware", "which KV goes first"},
    {"--context-tokens", "engine.context_tokens", "N", "longest sequence"},
    {"--running-max", "scheduler.running_max", "N", "sequences computed at once"},
    {"--waiting-max", "scheduler.waiting_max", "N", "requests in the queue"},
    {"--step-tokens-max", "scheduler.step_tokens_max", "N", "tokens computed in one step"},
    {"--chunk-tokens-max", "scheduler.chunk_tokens_max", "N", "of one prompt in one step"},
    {"--prefix-cache", "scheduler.prefix_cache", "true|false", "reuse KV of equal beginnings"},
    {"--policy", "scheduler.policy", "NAME",
     "fcfs_lru, program_fcfs, fixed_ttl, infercept, plas, continuum"},
    {"--order", "scheduler.order", "NAME", "of equals: remaining_work, hit_rate, arrival"},
    {"--text-threads", "server.text_threads", "N", "threads that tokenise"},
    {"--drain-notice", "server.drain_notice", "TIME", "not ready, still taking requests, as 5s"},
    {"--drain-timeout", "server.drain_timeout", "TIME", "for running requests at the end, as 30s"},
    {"--request-timeout", "server.request_timeout", "TIME", "of one request, as 10m"},
    {"--state", "state.path", "FILE", "keep files, batches and responses there (SQLite)"},
    {"--usage", "usage.path", "FILE", "what tenants use (SQLite); default: beside --state"},
    {"--log-level", "log.level", "LEVEL", "debug, info, warn, error"},
    {"--log-format", "log.format", "text|json", "lines on standard error"},
};

// What is run, and what of it is told: of simulate and replay.
constexpr Flag kWorkloadFlags[] = {
    {"--workload", "", "FILE", "a trace, clients' statistics or a scenario; needed"},
    {"--out", "", "FILE", "the report (JSON); without: standard output"},
    {"--turns-out", "", "FILE", "and each turn as a line of CSV"},
    {"--seed", "", "N", "of tokens and of what the workload draws"},
    {"--retain", "", "TIME", "how long turns ask for their KV to be kept"},
    {"--slo-ttft", "", "TIME", "of good turns: to the first token"},
    {"--slo-tpot", "", "TIME", "between tokens, in the mean"},
    {"--slo-e2e", "", "TIME", "to the last token"},
    {"--rate-scale", "", "X", "divides the time between programs"},
    {"--arrival-rate", "", "X", "programs per second, drawn, in the place of the file's starts"},
    {"--arrival-cv", "", "X", "of those: 1 (default) Poisson, above it bursts"},
    {"--think-scale", "", "X", "multiplies the waits inside programs"},
    {"--length-scale", "", "X", "multiplies all lengths; what is shared stays shared"},
    {"--fit-context", "", "N", "ends programs before a turn of more tokens than this"},
    {"--from", "", "TIME", "leaves out what starts before"},
    {"--until", "", "TIME", "and the end of it"},
    {"--programs-max", "", "N", "the first of the workload"},
    {"--tenants", "", "N", "deals programs to so many tenants"},
};

constexpr Flag kSimulateFlags[] = {
    {"--profile", "", "FILE", "what steps take, by bench profile; without: the default model's"},
    {"--instances", "", "N", "of the fleet"},
    {"--router", "", "NAME", "session-hash, round-robin, least-loaded"},
    {"--threads", "", "N", "that simulate; the result is the same"},
    {"--kv-blocks", "", "N", "of an instance's device; or --kv-device-bytes"},
    {"--kv-host-blocks", "", "N", "or --kv-host-bytes"},
    {"--kv-disk-blocks", "", "N", "needs a profile that knows the disk"},
};

constexpr Flag kReplayFlags[] = {
    {"--server", "", "ADDR:PORT", "its gRPC port; default 127.0.0.1:50051"},
    {"--allow-remote", "", "", "the server may be another machine", FlagKind::kSwitch},
    {"--tls-ca", "", "FILE", "PEM; speak TLS with a server that these vouch for"},
    {"--keys", "", "FILE", "lines TENANT KEY; `*` for all others"},
    {"--priority", "", "N", "of every request"},
    {"--in-flight-max", "", "N", "requests at once, default 1024; more wait, and it counts"},
    {"--timeout", "", "TIME", "cuts it short after this; default 1h"},
};

constexpr Flag kBenchProfileFlags[] = {
    {"--out", "", "FILE", "the profile (JSON); without: standard output"},
};

constexpr Flag kBenchMachineFlags[] = {
    {"--json", "", "", "for programs to read", FlagKind::kSwitch},
};

constexpr Flag kBenchEngineFlags[] = {
    {"--prompt", "", "N", "tokens of each prompt, default 512"},
    {"--generate", "", "N", "tokens that each stream generates, default 128"},
    {"--streams", "", "N", "sequences at once, default 1"},
    {"--context", "", "N", "tokens in front of what is generated; default: the prompt's"},
    {"--shared-context", "", "", "which all streams have in common", FlagKind::kSwitch},
    {"--runs", "", "N", "timed, default 5; the median counts"},
    {"--json", "", "", "for programs to read", FlagKind::kSwitch},
};

constexpr Flag kUsageFlags[] = {
    {"--from", "", "TIME", "a UTC hour as 2026-11-30T17, or a day as 2026-11-30"},
    {"--to", "", "TIME", "likewise; hours that begin before it"},
    {"--tenant", "", "NAME", "this one alone"},
    {"--by", "", "tenant|day|hour", "a row for each tenant (default), of each day or hour"},
    {"--format", "", "table|csv|json", "default table"},
};

constexpr Flag kTopFlags[] = {
    {"--url", "", "URL", "of the daemon, as https://HOST:PORT; default: the one here"},
    {"--tls-ca", "", "FILE", "PEM; who vouches for it, in the place of the system's"},
    {"--key-file", "", "FILE", "its first line is a tenant's key, or an administrator's"},
    {"--interval", "", "TIME", "between two looks, default 2s"},
    {"--once", "", "", "one frame as text, of one interval", FlagKind::kSwitch},
};

// Those of serve that say how an instance decides, or what its engine is.
constexpr std::string_view kSimulateSettings[] = {
    "--config",           "--kv-device-bytes", "--kv-host-bytes", "--kv-eviction",
    "--context-tokens",   "--running-max",     "--waiting-max",   "--step-tokens-max",
    "--chunk-tokens-max", "--prefix-cache",    "--policy",        "--order"};
constexpr std::string_view kUsageSettings[] = {"--config", "--state", "--usage"};
constexpr std::string_view kHealthSettings[] = {"--config", "--http", "--tls-certificate",
                                                "--tls-key"};
constexpr std::string_view kTopSettings[] = {"--config", "--http"};
constexpr std::string_view kBenchMachineSettings[] = {"--threads"};
constexpr std::string_view kBenchEngineSettings[] = {
    "--config", "--model", "--weights", "--threads", "--isa", "--kv-dtype", "--step-tokens-max"};
constexpr std::string_view kBenchProfileSettings[] = {
    "--config",   "--model",           "--weights",        "--threads",     "--isa",
    "--kv-dtype", "--kv-device-bytes", "--context-tokens", "--running-max", "--step-tokens-max"};

constexpr std::string_view kBenches[] = {"engine", "machine", "profile"};
constexpr std::string_view kVerbs[] = {"serve",  "check-config", "keys",  "simulate",
                                       "replay", "bench",        "usage", "health",
                                       "top",    "version",      "help"};

absl::Status Usage(std::string what) {
  return absl::InvalidArgumentError(Concat(what, "; see holdfast help"));
}

bool IsHelp(std::string_view word) { return word == "--help" || word == "-h"; }

absl::Status UnknownFlag(std::string_view name, std::span<const std::string_view> known) {
  const auto nearest = NearestName(name, known);
  return Usage(nearest ? Concat("unknown flag ", name, "; did you mean ", *nearest, "?")
                       : Concat("unknown flag ", name));
}

// The flags of a verb: some of its own, and those that it shares with serve.
std::vector<Flag> FlagsOf(std::initializer_list<std::span<const Flag>> own,
                          std::span<const std::string_view> shared) {
  std::vector<Flag> flags;
  for (const std::span<const Flag> part : own) flags.insert(flags.end(), part.begin(), part.end());
  for (const Flag& flag : kServeFlags) {
    if (std::find(std::begin(shared), std::end(shared), flag.name) != std::end(shared)) {
      flags.push_back(flag);
    }
  }
  return flags;
}

// Cuts "--name=value"; else the value is the next word, which is taken.
struct FlagWord {
  std::string name;
  std::optional<std::string> value;
};
FlagWord SplitFlag(const std::string& word) {
  const size_t equals = word.find('=');
  if (equals == std::string::npos) return {.name = word};
  return {.name = word.substr(0, equals), .value = word.substr(equals + 1)};
}

absl::StatusOr<CommandLine> ParseFlags(Verb verb, std::string_view verb_name,
                                       std::span<const Flag> flags,
                                       std::span<const std::string> words) {
  CommandLine line{.verb = verb};
  for (size_t i = 0; i < words.size(); ++i) {
    if (IsHelp(words[i])) return CommandLine{};
    if (!words[i].starts_with("--")) {
      return Usage(Concat(verb_name, " takes flags only, found `", words[i], "`"));
    }
    FlagWord word = SplitFlag(words[i]);
    const auto flag = std::find_if(flags.begin(), flags.end(),
                                   [&](const Flag& other) { return other.name == word.name; });
    if (flag == flags.end()) {
      std::vector<std::string_view> known;
      for (const Flag& other : flags) known.push_back(other.name);
      return UnknownFlag(word.name, known);
    }
    if (!word.value && flag->kind == FlagKind::kSwitch) word.value = "true";
    if (!word.value) {
      if (i + 1 == words.size()) {
        return Usage(Concat(flag->name, " needs a value: ", flag->shown));
      }
      word.value = words[++i];
    }
    if (flag->name == "--config") {
      line.config_path = *std::move(word.value);
    } else if (flag->name == "--port-file") {
      line.port_file = *std::move(word.value);
    } else if (flag->setting.empty()) {
      line.arguments.push_back({.flag = std::string(flag->name), .value = *std::move(word.value)});
    } else {
      line.overrides.push_back({.flag = std::string(flag->name),
                                .setting = std::string(flag->setting),
                                .value = *std::move(word.value)});
    }
  }
  return line;
}

// Of simulate and replay.
absl::StatusOr<CommandLine> ParseWorkloadVerb(Verb verb, std::string_view verb_name,
                                              std::span<const Flag> flags,
                                              std::span<const std::string> words) {
  auto line = ParseFlags(verb, verb_name, flags, words);
  if (!line.ok() || line->verb != verb) return line;
  const bool has_workload = std::any_of(
      line->arguments.begin(), line->arguments.end(),
      [](const CommandLine::Argument& argument) { return argument.flag == "--workload"; });
  if (!has_workload) return Usage(Concat(verb_name, " needs the workload: --workload FILE"));
  return line;
}

absl::StatusOr<CommandLine> ParseBench(std::span<const std::string> words) {
  if (words.size() == 1 && IsHelp(words[0])) return CommandLine{};
  const std::string what = words.empty() ? "" : words[0];
  const std::span<const std::string> rest = words.subspan(words.empty() ? 0 : 1);
  if (what == "profile") {
    return ParseFlags(Verb::kBenchProfile, "bench profile",
                      FlagsOf({kBenchProfileFlags}, kBenchProfileSettings), rest);
  }
  if (what == "engine") {
    return ParseFlags(Verb::kBenchEngine, "bench engine",
                      FlagsOf({kBenchEngineFlags}, kBenchEngineSettings), rest);
  }
  if (what == "machine") {
    return ParseFlags(Verb::kBenchMachine, "bench machine",
                      FlagsOf({kBenchMachineFlags}, kBenchMachineSettings), rest);
  }
  return Usage(Concat("bench knows ", ConcatList(kBenches, ", "), ", as in bench machine; found `",
                      what, "`"));
}

absl::StatusOr<CommandLine> ParseCheckConfig(std::span<const std::string> words) {
  if (words.size() == 1 && IsHelp(words[0])) return CommandLine{};
  if (words.size() == 1 && words[0] == "--print-schema") {
    return CommandLine{.verb = Verb::kPrintSchema};
  }
  if (words.size() != 1) return Usage("check-config takes one file");
  if (words[0].starts_with("--")) {
    static constexpr std::string_view kKnown[] = {"--print-schema"};
    return UnknownFlag(words[0], kKnown);
  }
  return CommandLine{.verb = Verb::kCheckConfig, .config_path = words[0]};
}

absl::StatusOr<CommandLine> ParseKeys(std::span<const std::string> words) {
  if (words.size() == 1 && IsHelp(words[0])) return CommandLine{};
  if (words.empty() || words[0] != "new") {
    return Usage("keys knows one thing to do: keys new --tenant NAME");
  }
  std::optional<std::string> tenant;
  for (size_t i = 1; i < words.size(); ++i) {
    FlagWord word = SplitFlag(words[i]);
    if (word.name != "--tenant") {
      static constexpr std::string_view kKnown[] = {"--tenant"};
      return UnknownFlag(word.name, kKnown);
    }
    if (!word.value && i + 1 < words.size()) word.value = words[++i];
    tenant = std::move(word.value);
  }
  if (!tenant || tenant->empty()) return Usage("keys new needs the tenant: --tenant NAME");
  return CommandLine{.verb = Verb::kNewKey, .tenant = *std::move(tenant)};
}

void AppendFlags(std::span<const Flag> flags, std::string& text) {
  for (const Flag& flag : flags) {
    std::string head = Concat("  ", flag.name, flag.shown.empty() ? "" : " ", flag.shown);
    head.resize(std::max<size_t>(head.size() + 1, 34), ' ');
    text += Concat(head, flag.about, "\n");
  }
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> arguments) {
  if (arguments.empty()) return Usage(Concat("wanted a verb: ", ConcatList(kVerbs, ", ")));
  const std::string& verb = arguments[0];
  const std::span<const std::string> rest = arguments.subspan(1);
  if (verb == "serve") return ParseFlags(Verb::kServe, verb, kServeFlags, rest);
  if (verb == "check-config") return ParseCheckConfig(rest);
  if (verb == "keys") return ParseKeys(rest);
  if (verb == "simulate") {
    return ParseWorkloadVerb(Verb::kSimulate, verb,
                             FlagsOf({kWorkloadFlags, kSimulateFlags}, kSimulateSettings), rest);
  }
  if (verb == "replay") {
    return ParseWorkloadVerb(Verb::kReplay, verb, FlagsOf({kWorkloadFlags, kReplayFlags}, {}),
                             rest);
  }
  if (verb == "bench") return ParseBench(rest);
  if (verb == "usage") {
    return ParseFlags(Verb::kUsage, verb, FlagsOf({kUsageFlags}, kUsageSettings), rest);
  }
  if (verb == "health") return ParseFlags(Verb::kHealth, verb, FlagsOf({}, kHealthSettings), rest);
  if (verb == "top") return ParseFlags(Verb::kTop, verb, FlagsOf({kTopFlags}, kTopSettings), rest);
  if (verb == "version" || verb == "--version") return CommandLine{.verb = Verb::kVersion};
  if (verb == "help" || IsHelp(verb)) return CommandLine{.verb = Verb::kHelp};
  const auto nearest = NearestName(verb, kVerbs);
  return Usage(nearest ? Concat("unknown verb `", verb, "`; did you mean ", *nearest, "?")
                       : Concat("unknown verb `", verb, "`"));
}

absl::Status ApplyOverrides(const CommandLine& line, DaemonConfig& config) {
  std::vector<std::string> faults;
  for (const CommandLine::Override& change : line.overrides) {
    const absl::Status set = OverrideSetting(change.setting, change.value, config);
    if (set.ok()) {
      config.origins[change.setting] = change.flag;
    } else {
      faults.push_back(Concat(change.flag, ": ", set.message()));
    }
  }
  if (faults.empty()) return CheckDaemonConfig(config);
  return absl::InvalidArgumentError(ConcatList(faults, "\n"));
}

std::string HelpText() {
  std::string text =
      "usage: holdfast VERB [ARGUMENTS]\n"
      "  serve [FLAGS]              serve a model until SIGTERM or SIGINT\n"
      "  check-config FILE          name every fault of a configuration file, and\n"
      "                             what would keep the daemon from starting with it here\n"
      "  check-config --print-schema  the file's JSON Schema\n"
      "  keys new --tenant NAME     make a key; shown once, only its hash is for the file\n"
      "  simulate --workload FILE [FLAGS]  the scheduler and KV store of a fleet on a simulated\n"
      "                             clock; a report as JSON\n"
      "  replay --workload FILE [FLAGS]  the same programs fired at a running daemon, by the\n"
      "                             schedule; a report of the same form\n"
      "  bench engine [FLAGS]       how fast the engine computes a model, beside what the machine\n"
      "                             allows at most\n"
      "  bench machine [FLAGS]      what this machine reads and multiplies at most\n"
      "  bench profile [FLAGS]      measure what steps take here, for simulate --profile\n"
      "  usage --state FILE [FLAGS]  what each tenant used: requests, tokens, KV, compute time,\n"
      "                             refusals; --usage FILE or --config FILE, as the daemon has it\n"
      "  health [FLAGS]             ask the daemon here whether it is ready; --config FILE or\n"
      "                             --http ADDR:PORT, as it has it\n"
      "  top [FLAGS]                what a running daemon does, in a terminal: its queue, KV "
      "cache,\n"
      "                             pins, latencies\n"
      "  version                    print it\n"
      "  help                       print this\n"
      "flags of serve (--flag VALUE or --flag=VALUE):\n";
  AppendFlags(kServeFlags, text);
  text += Concat("flags of simulate, besides ", ConcatList(kSimulateSettings, " "), ":\n");
  AppendFlags(kWorkloadFlags, text);
  AppendFlags(kSimulateFlags, text);
  text += "flags of replay:\n";
  AppendFlags(kWorkloadFlags, text);
  AppendFlags(kReplayFlags, text);
  text += Concat("flags of usage, besides ", ConcatList(kUsageSettings, " "), ":\n");
  AppendFlags(kUsageFlags, text);
  text += Concat("flags of health, as of serve: ", ConcatList(kHealthSettings, " "), "\n");
  text += Concat("flags of top, besides ", ConcatList(kTopSettings, " "), ":\n");
  AppendFlags(kTopFlags, text);
  text += Concat("flags of bench engine, besides ", ConcatList(kBenchEngineSettings, " "), ":\n");
  AppendFlags(kBenchEngineFlags, text);
  text += Concat("flags of bench machine, besides ", ConcatList(kBenchMachineSettings, " "), ":\n");
  AppendFlags(kBenchMachineFlags, text);
  text += Concat("flags of bench profile, besides ", ConcatList(kBenchProfileSettings, " "), ":\n");
  AppendFlags(kBenchProfileFlags, text);
  return text;
}

}  // namespace holdfast
