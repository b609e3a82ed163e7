#include "server/simulate.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/synchronization/notification.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "kvstore/eviction/cost_aware.h"
#include "kvstore/kv_store.h"
#include "server/progress_bar.h"
#include "simulator/simulation_report.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

constexpr int64_t kKvBytesDefault = int64_t{4} << 30;

// Reads `line.arguments` by name into what they mean, and keeps the first fault.
class Arguments {
 public:
  explicit Arguments(const CommandLine& line) : line_(line) {}

  const std::string* Find(std::string_view flag) const {
    const std::string* found = nullptr;  // of equal flags the last
    for (const CommandLine::Argument& argument : line_.arguments) {
      if (argument.flag == flag) found = &argument.value;
    }
    return found;
  }
  std::string Text(std::string_view flag) const {
    const std::string* value = Find(flag);
    return value == nullptr ? "" : *value;
  }
  template <typename Int>
  void Count(std::string_view flag, int64_t least, Int& out) {
    const std::string* value = Find(flag);
    if (value == nullptr) return;
    int64_t number = 0;
    constexpr auto most = static_cast<int64_t>(
        std::min<uint64_t>(std::numeric_limits<Int>::max(), std::numeric_limits<int64_t>::max()));
    if (!absl::SimpleAtoi(*value, &number) || number < least || number > most) {
      return Fault(flag, Concat("wanted a whole number of at least ", least), *value);
    }
    out = static_cast<Int>(number);
  }
  void Number(std::string_view flag, double& out) {
    const std::string* value = Find(flag);
    if (value == nullptr) return;
    double number = 0;
    if (!absl::SimpleAtod(*value, &number) || !std::isfinite(number) || number <= 0) {
      return Fault(flag, "wanted a number above 0", *value);
    }
    out = number;
  }
  std::optional<absl::Duration> Time(std::string_view flag) {
    const std::string* value = Find(flag);
    if (value == nullptr) return std::nullopt;
    absl::Duration time;
    if (!absl::ParseDuration(*value, &time) || time < absl::ZeroDuration() ||
        time == absl::InfiniteDuration()) {
      Fault(flag, "wanted a time, as 500ms or 2s", *value);
      return std::nullopt;
    }
    return time;
  }
  std::optional<int64_t> Nanos(std::string_view flag) {
    const std::optional<absl::Duration> time = Time(flag);
    return time ? std::optional(absl::ToInt64Nanoseconds(*time)) : std::nullopt;
  }
  void Fault(std::string_view flag, std::string_view wanted, std::string_view found) {
    status_.Update(absl::InvalidArgumentError(Concat(flag, ": ", wanted, ", found `", found, "`")));
  }
  const absl::Status& status() const { return status_; }

 private:
  const CommandLine& line_;
  absl::Status status_;
};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || !text) return absl::NotFoundError(Concat(path, ": cannot be read"));
  return std::move(text).str();
}

absl::Status WriteFile(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(Concat(path, ": cannot be written"));
}

absl::StatusOr<CostProfile> ProfileOf(const Arguments& arguments) {
  const std::string path = arguments.Text("--profile");
  if (path.empty()) return DefaultCostProfile();
  ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  auto profile = ParseCostProfile(json);
  if (!profile.ok()) {
    return absl::InvalidArgumentError(Concat(path, ": ", profile.status().message()));
  }
  return profile;
}

// Those of the workload's tenants that the configuration knows keep their bounds.
std::vector<TenantConfig> TenantsOf(const DaemonConfig& config, const Workload& workload) {
  std::vector<TenantConfig> tenants;
  for (const std::string& name : workload.tenants) {
    const auto found =
        std::find_if(config.tenants.begin(), config.tenants.end(),
                     [&](const TenantConfig& tenant) { return tenant.name == name; });
    tenants.push_back(found == config.tenants.end() ? TenantConfig{} : *found);
    tenants.back().name = name;
  }
  return tenants;
}

SchedulerOptions SchedulerOptionsOf(const DaemonConfig& config, const Workload& workload,
                                    const CostProfile& profile, const EngineInfo& engine) {
  SchedulerOptions options{.running_max = config.scheduler.running_max,
                           .waiting_max = config.scheduler.waiting_max,
                           .step_tokens_max = config.scheduler.step_tokens_max,
                           .chunk_tokens_max = config.scheduler.chunk_tokens_max,
                           .long_prefill_tokens_max = config.scheduler.long_prefill_tokens_max,
                           .offline_step_tokens_max = config.scheduler.offline_step_tokens_max,
                           .policy = *SchedulerPolicyOf(config.scheduler.policy),  // checked
                           .order = *WaitOrderOf(config.scheduler.order),
                           .ageing_time = config.scheduler.ageing_time,
                           .bypass_max = config.scheduler.bypass_max,
                           .prefix_cache = config.scheduler.prefix_cache,
                           .tenants = TenantsOf(config, workload),
                           .model_name = "simulated"};
  // As the daemon: one longest sequence finds room without anything being dropped uncopied.
  const double longest = BlocksFor(engine.context_tokens);
  options.kv.low_water = std::max(options.kv.low_water, longest / engine.num_blocks);
  if (config.kv.eviction == "cost_aware") {
    const RecomputeCost cost{.token = profile.step.prefill_row,
                             .per_position = profile.step.prefill_place};
    options.kv.eviction = [cost](TierKind, int32_t capacity) {
      return std::make_unique<CostAwareEviction>(capacity, CostAwareOptions{.cost = cost});
    };
  }
  return options;
}

// Shows how far the fleet is, from a thread of its own, until it goes.
class TurnsShown {
 public:
  TurnsShown(const std::atomic<int64_t>& ended, int64_t turns)
      : thread_([this, &ended, turns] {
          ProgressBar bar("simulate");
          while (!over_.WaitForNotificationWithTimeout(absl::Milliseconds(200))) {
            bar.Show(static_cast<double>(ended.load(std::memory_order_relaxed)) /
                     static_cast<double>(std::max<int64_t>(turns, 1)));
          }
        }) {}
  ~TurnsShown() {
    over_.Notify();
    thread_.join();
  }

 private:
  absl::Notification over_;
  std::thread thread_;
};

std::string TurnLine(const TurnRecord& turn) {
  static constexpr const char* kEnds[] = {"done", "refused", "abandoned"};
  const auto seconds = [](int64_t nanos) { return static_cast<double>(nanos) / 1e9; };
  std::ostringstream line;
  line.precision(12);
  line << turn.program << ',' << turn.turn << ',' << turn.tenant << ','
       << (turn.offline ? "offline" : "online") << ',' << kEnds[static_cast<size_t>(turn.end)]
       << ',' << seconds(turn.arrival_nanos) << ',' << seconds(turn.scheduled_nanos) << ','
       << seconds(turn.first_token_nanos) << ',' << seconds(turn.end_nanos) << ','
       << turn.prompt_tokens << ',' << turn.cached_tokens << ',' << turn.completion_tokens << ','
       << turn.preemptions << '\n';
  return std::move(line).str();
}

constexpr char kTurnColumns[] =
    "program,turn,tenant,class,end,arrival_s,scheduled_s,first_token_s,end_s,prompt_tokens,"
    "cached_tokens,completion_tokens,preemptions\n";

}  // namespace

absl::StatusOr<WorkloadOptions> WorkloadOptionsOf(const CommandLine& line) {
  Arguments arguments(line);
  WorkloadOptions options;
  arguments.Count("--seed", 0, options.seed);
  arguments.Number("--rate-scale", options.rate_scale);
  arguments.Number("--think-scale", options.think_scale);
  arguments.Count("--programs-max", 1, options.programs_max);
  options.from = arguments.Time("--from").value_or(options.from);
  options.until = arguments.Time("--until").value_or(options.until);
  if (arguments.Find("--tenants") != nullptr) {
    options.num_tenants = 1;
    arguments.Count("--tenants", 1, *options.num_tenants);
  }
  if (!arguments.status().ok()) return arguments.status();
  return options;
}

absl::StatusOr<FleetOptions> FleetOptionsOf(const CommandLine& line, const DaemonConfig& config,
                                            const Workload& workload) {
  Arguments arguments(line);
  FleetOptions fleet;
  InstanceOptions& instance = fleet.instance;
  ASSIGN_OR_RETURN(instance.profile, ProfileOf(arguments));
  EngineInfo& engine = instance.engine;
  engine.kv_layout = instance.profile.binding.kv_layout;
  engine.vocab_size = instance.profile.vocab_size;
  engine.context_tokens = config.engine.context_tokens.value_or(instance.profile.context_tokens);
  engine.num_sequence_slots = config.scheduler.running_max;
  engine.step_tokens_max = config.scheduler.step_tokens_max;
  const auto block_bytes = static_cast<int64_t>(engine.kv_layout.block_bytes());
  if (block_bytes == 0) return absl::InvalidArgumentError("the profile's KV layout is empty");
  const auto blocks_of = [&](int64_t bytes) {
    return static_cast<int32_t>(
        std::min<int64_t>(bytes / block_bytes, std::numeric_limits<int32_t>::max()));
  };
  engine.num_blocks = blocks_of(config.engine.kv_device_bytes.value_or(kKvBytesDefault));
  instance.host_blocks = blocks_of(config.kv.host_bytes.value_or(0));
  arguments.Count("--kv-blocks", 1, engine.num_blocks);
  arguments.Count("--kv-host-blocks", 0, instance.host_blocks);
  arguments.Count("--kv-disk-blocks", 0, instance.disk_blocks);
  const auto check_rates = [&](std::string_view flag, int32_t blocks, const TierCost& cost) {
    if (blocks == 0 || cost.restore_bytes_per_second > 0) return;
    arguments.Fault(flag, "the profile knows no rates of this tier; wanted 0", Concat(blocks));
  };
  check_rates("--kv-host-blocks", instance.host_blocks, instance.profile.host);
  check_rates("--kv-disk-blocks", instance.disk_blocks, instance.profile.disk);
  arguments.Count("--seed", 0, instance.seed);
  arguments.Count("--instances", 1, fleet.instances);
  fleet.threads = std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
  arguments.Count("--threads", 1, fleet.threads);
  if (const std::string* router = arguments.Find("--router")) {
    const std::optional<Router> known = RouterOfName(*router);
    if (known) {
      fleet.router = *known;
    } else {
      arguments.Fault("--router", "wanted session-hash | round-robin | least-loaded", *router);
    }
  }
  instance.retain = arguments.Time("--retain");
  instance.slo = {.ttft_nanos = arguments.Nanos("--slo-ttft"),
                  .tpot_nanos = arguments.Nanos("--slo-tpot"),
                  .e2e_nanos = arguments.Nanos("--slo-e2e")};
  if (!arguments.status().ok()) return arguments.status();
  instance.scheduler = SchedulerOptionsOf(config, workload, instance.profile, engine);
  return fleet;
}

absl::Status RunSimulate(const CommandLine& line, const DaemonConfig& config) {
  const Arguments arguments(line);
  ASSIGN_OR_RETURN(const WorkloadOptions workload_options, WorkloadOptionsOf(line));
  ASSIGN_OR_RETURN(const Workload workload,
                   ReadWorkload(arguments.Text("--workload"), workload_options));
  ASSIGN_OR_RETURN(const FleetOptions options, FleetOptionsOf(line, config, workload));

  const std::string turns_path = arguments.Text("--turns-out");
  std::ofstream turns;
  SimulatedInstance::TurnListener listener;
  if (!turns_path.empty()) {
    turns.open(turns_path, std::ios::binary);
    turns << kTurnColumns;
    listener = [&turns](const TurnRecord& turn) { turns << TurnLine(turn); };
  }
  std::atomic<int64_t> ended{0};
  absl::StatusOr<Tally> tally = absl::InternalError("not run");
  {
    const TurnsShown shown(ended, workload.num_turns());
    tally = RunFleet(workload, options, &ended, std::move(listener));
  }
  if (!tally.ok()) return tally.status();
  if (!turns_path.empty()) {
    turns.close();
    if (!turns) return absl::UnavailableError(Concat(turns_path, ": cannot be written"));
  }
  const std::string report = FormatSimulationReport(workload, options, *tally);
  if (const std::string out = arguments.Text("--out"); !out.empty()) return WriteFile(out, report);
  std::fwrite(report.data(), 1, report.size(), stdout);
  return absl::OkStatus();
}

}  // namespace holdfast
