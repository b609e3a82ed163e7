#include "simulator/fleet.h"

#include <algorithm>
#include <array>
#include <memory>
#include <thread>
#include <utility>

#include "config/base/check.h"
#include "config/base/mutex.h"
#include "config/base/status_macros.h"
#include "workload/random_source.h"

namespace holdfast {
namespace {

constexpr std::array<const char*, 3> kRouterNames = {"session-hash", "round-robin", "least-loaded"};

uint64_t SessionHash(const WorkloadProgram& program, size_t index) {
  uint64_t hash = MixBits(static_cast<uint64_t>(program.tenant) + 1);
  if (program.session.empty()) return MixBits(hash + index + kGoldenGamma);
  for (const char letter : program.session) {
    hash = MixBits(hash + static_cast<unsigned char>(letter) + kGoldenGamma);
  }
  return hash;
}

// One instance's whole life. Counts its turns as they end.
absl::StatusOr<Tally> RunAlone(const Workload& workload, const InstanceOptions& options,
                               const std::vector<int32_t>& programs,
                               SimulatedInstance::TurnListener listener) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SimulatedInstance> instance,
                   SimulatedInstance::Create(workload, options, std::move(listener)));
  for (const int32_t program : programs) instance->AddProgram(program);
  instance->RunToEnd();
  return instance->TakeTally();
}

// The sum of instances that end in any order on any thread.
struct Collected {
  explicit Collected(size_t num_tenants) : tally(num_tenants) {}
  Mutex mutex;
  Tally tally ABSL_GUARDED_BY(mutex);
  absl::Status status ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<Tally> RunStatically(const Workload& workload, const FleetOptions& options,
                                    const SimulatedInstance::TurnListener& listener) {
  const std::vector<std::vector<int32_t>> routes = RoutePrograms(workload, options);
  Collected collected(workload.tenants.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    while (true) {
      const size_t i = next.fetch_add(1);
      if (i >= routes.size()) return;
      absl::StatusOr<Tally> tally = RunAlone(workload, options.instance, routes[i], listener);
      MutexLock lock(&collected.mutex);
      if (tally.ok()) {
        collected.tally.Merge(*tally);
      } else {
        collected.status.Update(tally.status());
      }
    }
  };
  std::vector<std::thread> threads;
  for (int32_t i = 1; i < std::min(options.threads, options.instances); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();
  MutexLock lock(&collected.mutex);
  if (!collected.status.ok()) return collected.status;
  return std::move(collected.tally);
}

absl::StatusOr<Tally> RunByLoad(const Workload& workload, const FleetOptions& options,
                                const SimulatedInstance::TurnListener& listener) {
  std::vector<std::unique_ptr<SimulatedInstance>> instances;
  for (int32_t i = 0; i < options.instances; ++i) {
    ASSIGN_OR_RETURN(std::unique_ptr<SimulatedInstance> instance,
                     SimulatedInstance::Create(workload, options.instance, listener));
    instances.push_back(std::move(instance));
  }
  // A program that is already sent counts, though its first turn has not arrived yet: else all that
  // start at one time would go to one instance.
  for (size_t i = 0; i < workload.programs.size();) {
    const absl::Duration start = workload.programs[i].start;
    std::vector<int32_t> loads;
    for (const std::unique_ptr<SimulatedInstance>& instance : instances) {
      instance->RunUntil(absl::ToInt64Nanoseconds(start));
      loads.push_back(instance->num_requests());
    }
    for (; i < workload.programs.size() && workload.programs[i].start == start; ++i) {
      const auto least = std::min_element(loads.begin(), loads.end()) - loads.begin();
      ++loads[static_cast<size_t>(least)];
      instances[static_cast<size_t>(least)]->AddProgram(static_cast<int32_t>(i));
    }
  }
  Tally tally(workload.tenants.size());
  for (const std::unique_ptr<SimulatedInstance>& instance : instances) {
    instance->RunToEnd();
    tally.Merge(instance->TakeTally());
  }
  return tally;
}

}  // namespace

const char* RouterName(Router router) { return kRouterNames[static_cast<size_t>(router)]; }

std::optional<Router> RouterOfName(std::string_view name) {
  for (size_t i = 0; i < kRouterNames.size(); ++i) {
    if (name == kRouterNames[i]) return static_cast<Router>(i);
  }
  return std::nullopt;
}

std::vector<std::vector<int32_t>> RoutePrograms(const Workload& workload,
                                                const FleetOptions& options) {
  CHECK(options.instances > 0 && options.router != Router::kLeastLoaded);
  const auto num_instances = static_cast<size_t>(options.instances);
  std::vector<std::vector<int32_t>> routes(num_instances);
  for (size_t i = 0; i < workload.programs.size(); ++i) {
    const uint64_t choice = options.router == Router::kRoundRobin
                                ? static_cast<uint64_t>(i)
                                : SessionHash(workload.programs[i], i);
    routes[choice % num_instances].push_back(static_cast<int32_t>(i));
  }
  return routes;
}

absl::StatusOr<Tally> RunFleet(const Workload& workload, const FleetOptions& options,
                               std::atomic<int64_t>* turns_ended,
                               SimulatedInstance::TurnListener listener) {
  CHECK(options.instances > 0 && options.threads > 0);
  Mutex mutex;
  SimulatedInstance::TurnListener heard;
  if (turns_ended != nullptr || listener) {
    heard = [&](const TurnRecord& record) {
      if (turns_ended != nullptr) turns_ended->fetch_add(1, std::memory_order_relaxed);
      if (!listener) return;
      MutexLock lock(&mutex);
      listener(record);
    };
  }
  if (options.router == Router::kLeastLoaded) return RunByLoad(workload, options, heard);
  return RunStatically(workload, options, heard);
}

}  // namespace holdfast
