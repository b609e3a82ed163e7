// Several instances behind a router, which sends a whole program to one of them: its turns find
// their KV there.
//
//   kSessionHash   by a hash of tenant and session (of a program that names none: of itself), as a
//                  consistent-hashing proxy does
//   kRoundRobin    in turn, as programs start
//   kLeastLoaded   to the one with the fewest requests at the moment of the program's start, the
//                  first of equals: the instances then share one clock and are run by one thread
//
// With the first two, which instance a program goes to does not depend on what happens, so that
// instances run beside each other on all cores. The result is the sum of what each would do alone,
// whatever the number of threads.
//
// Not simulated: moving a program to another instance, instances that come and go, a shared tier.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "simulator/simulated_instance.h"
#include "simulator/tally.h"
#include "workload/workload.h"

namespace holdfast {

enum class Router : uint8_t { kSessionHash, kRoundRobin, kLeastLoaded };
const char* RouterName(Router router);
std::optional<Router> RouterOfName(std::string_view name);

struct FleetOptions {
  InstanceOptions instance;  // all are alike
  int32_t instances = 1;     // > 0
  Router router = Router::kSessionHash;
  int32_t threads = 1;  // > 0
};

// Who runs where, by instance, in the order of their starts; of a router that looks at no load.
std::vector<std::vector<int32_t>> RoutePrograms(const Workload& workload,
                                                const FleetOptions& options);

// `turns_ended`, if given, counts as turns end, from any thread. Errors as
// SimulatedInstance::Create. `listener` hears of turns in no order, one at a time.
absl::StatusOr<Tally> RunFleet(const Workload& workload, const FleetOptions& options,
                               std::atomic<int64_t>* turns_ended = nullptr,
                               SimulatedInstance::TurnListener listener = nullptr);

}  // namespace holdfast
