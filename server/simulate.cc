#include "server/simulate.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "kvstore/eviction/cost_aware.h"
#include "kvstore/kv_store.h"
#include "server/kv_tiers.h"
#include "server/progress_bar.h"
#include "server/scheduler_settings.h"
#include "server/turns_file.h"
#include "server/workload_arguments.h"
#include "simulator/simulation_report.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

constexpr int64_t kKvBytesDefault = int64_t{4} << 30;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || !text) return absl::NotFoundError(Concat(path, ": cannot be read"));
  return std::move(text).str();
}

absl::StatusOr<CostProfile> ProfileOf(const VerbArguments& arguments) {
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

SchedulerOptions SimulatedOptions(const DaemonConfig& config, const Workload& workload,
                                  const CostProfile& profile, const EngineInfo& engine) {
  SchedulerOptions options = SchedulerOptionsOf(config);
  options.tenants = TenantsOf(config, workload);
  options.model_name = "simulated";
  // As the daemon: one longest sequence finds room without anything being dropped uncopied.
  const double longest = BlocksFor(engine.context_tokens);
  options.kv.pinned_max = kPinnedShareMax;
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

}  // namespace

absl::StatusOr<FleetOptions> FleetOptionsOf(const CommandLine& line, const DaemonConfig& config,
                                            const Workload& workload) {
  VerbArguments arguments(line);
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
  instance.slo = SloOf(arguments);
  if (!arguments.status().ok()) return arguments.status();
  instance.scheduler = SimulatedOptions(config, workload, instance.profile, engine);
  return fleet;
}

absl::Status RunSimulate(const CommandLine& line, const DaemonConfig& config) {
  const VerbArguments arguments(line);
  ASSIGN_OR_RETURN(const WorkloadOptions workload_options, WorkloadOptionsOf(line));
  ASSIGN_OR_RETURN(const Workload workload,
                   ReadWorkload(arguments.Text("--workload"), workload_options));
  ASSIGN_OR_RETURN(const FleetOptions options, FleetOptionsOf(line, config, workload));

  TurnsFile turns(arguments.Text("--turns-out"));
  SimulatedInstance::TurnListener listener;
  if (turns.wanted()) listener = [&turns](const TurnRecord& turn) { turns.Add(turn); };
  std::atomic<int64_t> ended{0};
  absl::StatusOr<Tally> tally = absl::InternalError("not run");
  {
    const TurnsShown shown(ended, workload.num_turns());
    tally = RunFleet(workload, options, &ended, std::move(listener));
  }
  if (!tally.ok()) return tally.status();
  RETURN_IF_ERROR(turns.Close());
  return WriteReport(arguments.Text("--out"), FormatSimulationReport(workload, options, *tally));
}

}  // namespace holdfast
