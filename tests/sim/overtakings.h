// How often turns were overtaken, counted from outside: from when turns arrived, and in which order
// an instance gave them their first rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "simulator/tally.h"
#include "workload/workload.h"

namespace holdfast {

struct Overtakings {
  int32_t most = 0;
  int64_t turns = 0;
};

// A turn's place in the line is its arrival, or where programs stand in line, its program's. It is
// overtaken by each later one of its tenant that is let in while it waits. O(turns * overtakings).
inline Overtakings CountOvertakings(const Workload& workload, const std::vector<TurnRecord>& turns,
                                    bool by_program) {
  using Place = std::tuple<int64_t, int32_t, int32_t>;
  const auto place_of = [&](const TurnRecord& turn) {
    const auto& program = workload.programs[static_cast<size_t>(turn.program)];
    const int64_t start = absl::ToInt64Nanoseconds(program.start);
    return Place(by_program ? start : turn.arrival_nanos, turn.program, turn.turn);
  };
  std::map<std::pair<int32_t, bool>, std::vector<const TurnRecord*>> by_tenant;
  Overtakings counted;
  for (const TurnRecord& turn : turns) {
    if (turn.end != TurnEnd::kDone) continue;
    by_tenant[{turn.tenant, turn.offline}].push_back(&turn);
    ++counted.turns;
  }
  for (auto& [tenant, all] : by_tenant) {
    // Those let in after a turn's arrival and before it are a run of `all`, which ends at it.
    std::sort(all.begin(), all.end(),
              [](const auto* a, const auto* b) { return a->opened < b->opened; });
    for (size_t i = 0; i < all.size(); ++i) {
      int32_t overtakers = 0;
      for (size_t j = i; j-- > 0 && *all[j]->scheduled_nanos >= all[i]->arrival_nanos;) {
        if (place_of(*all[j]) > place_of(*all[i])) ++overtakers;
      }
      counted.most = std::max(counted.most, overtakers);
    }
  }
  return counted;
}

}  // namespace holdfast
