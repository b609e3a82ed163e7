#include "simulator/simulation_report.h"

#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "tests/unit/simulator/workload_of_turns.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;

std::string ReportOf(const Workload& workload, FleetOptions options) {
  const auto tally = RunFleet(workload, options);
  EXPECT_TRUE(tally.ok());
  return FormatSimulationReport(workload, options, *tally);
}

FleetOptions Fleet(int32_t threads) {
  FleetOptions options = {.instance = SmallInstance(), .instances = 3, .threads = threads};
  options.instance.slo.ttft_nanos = 50'000'000;
  return options;
}

TEST(SimulationReportTest, IsTheSameBytesForTheSameSeedAndAnyNumberOfThreads) {
  const Workload workload = RandomWorkload(1, 100);
  const std::string one = ReportOf(workload, Fleet(1));
  EXPECT_EQ(one, ReportOf(workload, Fleet(1)));
  EXPECT_EQ(one, ReportOf(workload, Fleet(2)));
}

TEST(SimulationReportTest, SaysTheNumbersOfTheTally) {
  FleetOptions options = {.instance = SmallInstance()};
  options.instance.slo.ttft_nanos = 15'000'000;
  const Workload workload = WorkloadOf(
      {OneTurn(absl::ZeroDuration(), 1, 32, 3), OneTurn(absl::Milliseconds(5), 2, 16, 2)});
  const Json report = Json::parse(ReportOf(workload, options));
  EXPECT_EQ(report["simulated"], true);
  EXPECT_DOUBLE_EQ(report["seconds_simulated"].get<double>(), 0.0378);
  EXPECT_DOUBLE_EQ(report["busy_share"].get<double>(), 1.0);
  const Json& online = report["online"];
  EXPECT_EQ(online["turns"]["done"], 2);
  EXPECT_EQ(online["turns"]["good"], 1);
  EXPECT_DOUBLE_EQ(online["goodput_per_second"].get<double>(), 1 / 0.0378);
  EXPECT_EQ(online["tokens"]["prompt"], 48);
  EXPECT_EQ(online["tokens"]["completion"], 5);
  EXPECT_DOUBLE_EQ(online["seconds"]["ttft"]["max"].get<double>(), 0.0208);
  EXPECT_DOUBLE_EQ(online["seconds"]["ttft"]["mean"].get<double>(), 0.0170);
  EXPECT_EQ(online["seconds"]["ttft"]["percentiles"].size(), 100u);
  EXPECT_FALSE(report.contains("offline"));
  EXPECT_EQ(report["tenants"].size(), 1u);
  EXPECT_EQ(report["service_over_time"]["tenants"][0]["tokens"][0], 51);
}

TEST(SimulationReportTest, ManyTenantsAreListedOneByOneUpToABoundAndTheOthersAsOne) {
  std::vector<WorkloadProgram> programs;
  for (int32_t i = 0; i < 40; ++i) {
    programs.push_back(OneTurn(absl::Milliseconds(i), static_cast<uint64_t>(i), 16 + i, 1));
    programs.back().tenant = i;
  }
  const Json report =
      Json::parse(ReportOf(WorkloadOf(std::move(programs), 40), {.instance = SmallInstance()}));
  const Json& service = report["service_over_time"];
  EXPECT_EQ(service["tenants"].size(), kTenantsOverTimeMax);
  EXPECT_EQ(service["tenants"][0]["tenant"], "t39");
  int64_t sum = service["others"][0].get<int64_t>();
  for (const Json& tenant : service["tenants"]) sum += tenant["tokens"][0].get<int64_t>();
  EXPECT_EQ(sum, report["rows"].get<int64_t>());
}

TEST(SimulationReportTest, AReplaysSaysWhatAClientSawAndNothingElse) {
  const Workload workload = WorkloadOf({OneTurn(absl::ZeroDuration(), 1, 32, 3)});
  Tally tally(1);
  tally.AddTurn({.first_token_nanos = 20'000'000, .end_nanos = 50'000'000, .completion_tokens = 3},
                {});
  tally.AddTurn({.end = TurnEnd::kFailed}, {});
  tally.end_nanos = 100'000'000;
  ReplayFacts facts{.server = "127.0.0.1:7", .model = "tiny", .in_flight_max = 9};
  facts.errors["UNAVAILABLE"] = 1;
  facts.send_delay.Add(1'000'000);
  const Json report = Json::parse(FormatReplayReport(workload, facts, tally));
  EXPECT_EQ(report["simulated"], false);
  EXPECT_DOUBLE_EQ(report["seconds"].get<double>(), 0.1);
  EXPECT_EQ(report["options"]["server"], "127.0.0.1:7");
  EXPECT_EQ(report["errors"]["UNAVAILABLE"], 1);
  EXPECT_EQ(report["send_delay_seconds"]["count"], 1);
  EXPECT_EQ(report["online"]["turns"]["done"], 1);
  EXPECT_EQ(report["online"]["turns"]["failed"], 1);
  EXPECT_DOUBLE_EQ(report["online"]["good_share"].get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(report["online"]["seconds"]["ttft"]["mean"].get<double>(), 0.02);
  EXPECT_EQ(report["online"]["seconds"]["queue"]["count"], 0);  // which no client sees
  EXPECT_FALSE(report.contains("profile"));
  EXPECT_FALSE(report.contains("states_over_time"));
}

TEST(JainIndexTest, IsOneForEqualsAndFallsToOneOverTheirNumber) {
  EXPECT_DOUBLE_EQ(*JainIndex({5, 5, 5}), 1.0);
  EXPECT_DOUBLE_EQ(*JainIndex({5, 0, 5}), 1.0);  // who had nothing is not counted
  EXPECT_DOUBLE_EQ(*JainIndex({1, 3}), 0.8);
  EXPECT_FALSE(JainIndex({0, 0}));
}

}  // namespace
}  // namespace holdfast
