#include "simulator/fleet.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/simulator/workload_of_turns.h"

namespace holdfast {
namespace {

FleetOptions SmallFleet(Router router, int32_t instances, int32_t threads) {
  return {
      .instance = SmallInstance(), .instances = instances, .router = router, .threads = threads};
}

TEST(FleetTest, TheResultDoesNotDependOnTheNumberOfThreads) {
  const Workload workload = RandomWorkload(1, 200);
  for (const Router router : {Router::kSessionHash, Router::kRoundRobin}) {
    const auto one = RunFleet(workload, SmallFleet(router, 5, 1));
    const auto two = RunFleet(workload, SmallFleet(router, 5, 2));
    const auto many = RunFleet(workload, SmallFleet(router, 5, 9));
    ASSERT_TRUE(one.ok() && two.ok() && many.ok());
    EXPECT_TRUE(*one == *two);
    EXPECT_TRUE(*one == *many);
  }
}

TEST(FleetTest, AFleetIsTheSumOfItsInstancesAlone) {
  const Workload workload = RandomWorkload(2, 150);
  const FleetOptions options = SmallFleet(Router::kSessionHash, 4, 2);
  Tally sum(workload.tenants.size());
  for (const std::vector<int32_t>& programs : RoutePrograms(workload, options)) {
    auto instance = SimulatedInstance::Create(workload, options.instance);
    ASSERT_TRUE(instance.ok());
    for (const int32_t program : programs) (*instance)->AddProgram(program);
    (*instance)->RunToEnd();
    sum.Merge((*instance)->TakeTally());
  }
  const auto fleet = RunFleet(workload, options);
  ASSERT_TRUE(fleet.ok());
  EXPECT_TRUE(*fleet == sum);
  EXPECT_EQ(fleet->instances, 4);
}

TEST(FleetTest, EveryProgramGoesToOneInstance) {
  const Workload workload = RandomWorkload(3, 100);
  for (const Router router : {Router::kSessionHash, Router::kRoundRobin}) {
    std::set<int32_t> seen;
    for (const auto& programs : RoutePrograms(workload, SmallFleet(router, 7, 1))) {
      for (const int32_t program : programs) EXPECT_TRUE(seen.insert(program).second);
    }
    EXPECT_EQ(seen.size(), workload.programs.size());
  }
}

TEST(FleetTest, ProgramsOfOneSessionMeet) {
  const Workload workload = RandomWorkload(4, 200);
  std::set<std::pair<std::pair<int32_t, std::string>, size_t>> where;
  std::set<std::pair<int32_t, std::string>> sessions;
  const auto routes = RoutePrograms(workload, SmallFleet(Router::kSessionHash, 7, 1));
  for (size_t i = 0; i < routes.size(); ++i) {
    for (const int32_t index : routes[i]) {
      const WorkloadProgram& program = workload.programs[static_cast<size_t>(index)];
      if (program.session.empty()) continue;
      where.insert({{program.tenant, program.session}, i});
      sessions.insert({program.tenant, program.session});
    }
  }
  EXPECT_GT(sessions.size(), 20u);
  EXPECT_EQ(where.size(), sessions.size());
}

TEST(FleetTest, TheLeastLoadedInstanceGetsTheNextProgram) {
  // One long request; then others, which go where it is not as long as there is less to do.
  std::vector<WorkloadProgram> programs = {OneTurn(absl::ZeroDuration(), 1, 16, 400)};
  for (int i = 1; i <= 4; ++i) {
    programs.push_back(OneTurn(absl::Milliseconds(500 * i), static_cast<uint64_t>(i + 1), 16, 2));
  }
  const Workload workload = WorkloadOf(std::move(programs));
  std::vector<TurnRecord> turns;
  const auto tally = RunFleet(workload, SmallFleet(Router::kLeastLoaded, 2, 1), nullptr,
                              [&](const TurnRecord& turn) { turns.push_back(turn); });
  ASSERT_TRUE(tally.ok());
  ASSERT_EQ(turns.size(), 5u);
  for (const TurnRecord& turn : turns) {
    // Alone, a prompt takes a step of 11.6 ms.
    EXPECT_EQ(turn.first_token_nanos - turn.arrival_nanos, 11'600'000) << turn.program;
  }
}

TEST(FleetTest, ProgramsThatStartTogetherAreSpread) {
  std::vector<WorkloadProgram> programs;
  for (uint64_t i = 0; i < 4; ++i) programs.push_back(OneTurn(absl::Seconds(1), i, 16, 1));
  const auto tally =
      RunFleet(WorkloadOf(std::move(programs)), SmallFleet(Router::kLeastLoaded, 4, 1));
  ASSERT_TRUE(tally.ok());
  EXPECT_EQ(tally->steps, 4);  // each its own
  EXPECT_EQ(tally->tenants[0].ttft.max(), 11'600'000);
}

TEST(FleetTest, TurnsAreCountedAsTheyEnd) {
  const Workload workload = RandomWorkload(5, 50);
  std::atomic<int64_t> ended{0};
  ASSERT_TRUE(RunFleet(workload, SmallFleet(Router::kRoundRobin, 3, 2), &ended).ok());
  EXPECT_EQ(ended.load(), workload.num_turns());
}

TEST(FleetTest, AnErrorOfAnInstanceIsTheFleets) {
  FleetOptions options = SmallFleet(Router::kRoundRobin, 3, 2);
  options.instance.engine.num_blocks = 1;
  EXPECT_EQ(RunFleet(RandomWorkload(6), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast
