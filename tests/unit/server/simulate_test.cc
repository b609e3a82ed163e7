#include "server/simulate.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "server/progress_bar.h"

namespace holdfast {
namespace {

CommandLine LineOf(std::vector<CommandLine::Argument> arguments) {
  return {.verb = Verb::kSimulate, .arguments = std::move(arguments)};
}

Workload TwoTenants() { return {.name = "w", .tenants = {"alice", "bob"}}; }

std::string FleetRefusal(std::vector<CommandLine::Argument> arguments) {
  const auto options = FleetOptionsOf(LineOf(std::move(arguments)), {}, TwoTenants());
  return options.ok() ? "" : std::string(options.status().message());
}

TEST(SimulateTest, ArgumentsBecomeTheFleetsOptions) {
  DaemonConfig config;
  config.scheduler.running_max = 7;
  config.engine.context_tokens = 4096;
  config.tenants.push_back({.name = "bob", .running_max = 3});
  const auto fleet = FleetOptionsOf(LineOf({{"--instances", "5"},
                                            {"--router", "least-loaded"},
                                            {"--kv-blocks", "1000"},
                                            {"--kv-host-blocks", "50"},
                                            {"--seed", "9"},
                                            {"--slo-ttft", "2s"},
                                            {"--slo-tpot", "50ms"},
                                            {"--retain", "10s"},
                                            {"--threads", "3"}}),
                                    config, TwoTenants());
  ASSERT_TRUE(fleet.ok()) << fleet.status();
  EXPECT_EQ(fleet->instances, 5);
  EXPECT_EQ(fleet->router, Router::kLeastLoaded);
  EXPECT_EQ(fleet->threads, 3);
  const InstanceOptions& instance = fleet->instance;
  EXPECT_EQ(instance.seed, 9u);
  EXPECT_EQ(instance.engine.num_blocks, 1000);
  EXPECT_EQ(instance.host_blocks, 50);
  EXPECT_EQ(instance.engine.context_tokens, 4096);
  EXPECT_EQ(instance.engine.num_sequence_slots, 7);
  EXPECT_EQ(instance.scheduler.running_max, 7);
  EXPECT_EQ(instance.slo.ttft_nanos, 2'000'000'000);
  EXPECT_EQ(instance.slo.tpot_nanos, 50'000'000);
  EXPECT_FALSE(instance.slo.e2e_nanos);
  EXPECT_EQ(instance.retain, absl::Seconds(10));
  // By the workload's index; those that the configuration knows keep their bounds.
  ASSERT_EQ(instance.scheduler.tenants.size(), 2u);
  EXPECT_EQ(instance.scheduler.tenants[0].name, "alice");
  EXPECT_EQ(instance.scheduler.tenants[0].running_max, 0);
  EXPECT_EQ(instance.scheduler.tenants[1].running_max, 3);
}

TEST(SimulateTest, WrongArgumentsAreNamed) {
  EXPECT_EQ(FleetRefusal({{"--instances", "0"}}),
            "--instances: wanted a whole number of at least 1, found `0`");
  EXPECT_EQ(FleetRefusal({{"--router", "magic"}}),
            "--router: wanted session-hash | round-robin | least-loaded, found `magic`");
  EXPECT_EQ(FleetRefusal({{"--slo-ttft", "soon"}}),
            "--slo-ttft: wanted a time, as 500ms or 2s, found `soon`");
  EXPECT_EQ(FleetRefusal({{"--kv-disk-blocks", "5"}}),
            "--kv-disk-blocks: the profile knows no rates of this tier; wanted 0, found `5`");
  EXPECT_EQ(FleetRefusal({{"--profile", "/nowhere/profile.json"}}),
            "/nowhere/profile.json: cannot be read");
}

TEST(SimulateTest, ArgumentsSayHowTheWorkloadIsRead) {
  const auto options = WorkloadOptionsOf(LineOf({{"--rate-scale", "2.5"},
                                                 {"--until", "10m"},
                                                 {"--programs-max", "100"},
                                                 {"--tenants", "4"},
                                                 {"--length-scale", "0.5"},
                                                 {"--fit-context", "4096"},
                                                 {"--arrival-rate", "2"},
                                                 {"--arrival-cv", "3"},
                                                 {"--seed", "3"}}));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->rate_scale, 2.5);
  EXPECT_EQ(options->until, absl::Minutes(10));
  EXPECT_EQ(options->programs_max, 100);
  EXPECT_EQ(options->num_tenants, 4);
  EXPECT_EQ(options->seed, 3u);
  EXPECT_EQ(options->length_scale, 0.5);
  EXPECT_EQ(options->context_tokens, 4096);
  EXPECT_EQ(options->arrivals, (ArrivalProcess{.rate = 2, .cv = 3}));
  EXPECT_EQ(std::string(WorkloadOptionsOf(LineOf({{"--arrival-cv", "3"}})).status().message()),
            "--arrival-cv: wanted --arrival-rate beside it, found `3`");
  EXPECT_EQ(std::string(WorkloadOptionsOf(LineOf({{"--rate-scale", "0"}})).status().message()),
            "--rate-scale: wanted a number above 0, found `0`");
}

TEST(ProgressBarTest, ALineSaysHowFarItIsAndWhatIsLeft) {
  EXPECT_EQ(ProgressLine("simulate", 0, absl::ZeroDuration()),
            "simulate [                              ]   0 %");
  EXPECT_EQ(ProgressLine("simulate", 0.5, absl::Seconds(62)),
            "simulate [###############               ]  50 %  1m2s left");
  EXPECT_EQ(ProgressLine("simulate", 1.5, absl::Seconds(62)),
            "simulate [##############################] 100 %");
}

}  // namespace
}  // namespace holdfast
