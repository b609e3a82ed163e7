#include "scheduler/usage_meter.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

constexpr TenantIndex kRed{0}, kBlue{1};

SchedulerOptions TwoTenants() {
  SchedulerOptions options;
  options.tenants = {{.name = "red"}, {.name = "blue"}};
  return options;
}

class UsageMeterTest : public testing::Test {
 protected:
  double Compute(TenantIndex tenant) { return metrics_.Of(tenant).compute_seconds.value(); }
  double Kv(TenantIndex tenant) { return metrics_.Of(tenant).kv_byte_seconds.value(); }

  MetricsRegistry registry_;
  SchedulerMetrics metrics_{registry_, TwoTenants(), 8};
  UsageMeter meter_{2, 100, metrics_};
  PinTable pins_{8, {8, 8}};
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(UsageMeterTest, AStepIsSharedOutByRows) {
  meter_.AddRows(kRed, 30);
  meter_.AddRows(kBlue, 10);
  meter_.EndStep(absl::Seconds(2));
  meter_.AddRows(kBlue, 1);
  meter_.EndStep(absl::Seconds(1));
  EXPECT_DOUBLE_EQ(Compute(kRed), 1.5);
  EXPECT_DOUBLE_EQ(Compute(kBlue), 1.5);
}

TEST_F(UsageMeterTest, KvCountsFromWhenItIsHeldToWhenItIsNot) {
  now_ += absl::Hours(1);
  meter_.AddHeld(kRed, 3, now_);
  now_ += absl::Seconds(2);
  meter_.AddHeld(kRed, -1, now_);
  meter_.CountHeld(pins_, now_);
  EXPECT_DOUBLE_EQ(Kv(kRed), 600);
  now_ += absl::Seconds(4);
  meter_.CountHeld(pins_, now_);
  meter_.AddHeld(kRed, -2, now_);
  now_ += absl::Hours(1);
  meter_.CountHeld(pins_, now_);
  EXPECT_DOUBLE_EQ(Kv(kRed), 1400);
  EXPECT_DOUBLE_EQ(Kv(kBlue), 0);
}

TEST_F(UsageMeterTest, WhatAPinHoldsCountsBesideWhatRuns) {
  std::vector<Pin> ended;
  meter_.AddHeld(kRed, 2, now_);
  const auto pin = pins_.TryAdd({.tenant = kRed,
                                 .session = "s",
                                 .deadline = absl::InfiniteFuture(),
                                 .blocks = {BlockId{1}, BlockId{2}}},
                                ended);
  ASSERT_TRUE(pin.has_value());
  meter_.AddHeld(kRed, -2, now_);
  meter_.CountHeld(pins_, now_);
  meter_.AddHeld(kRed, 1, now_);
  now_ += absl::Seconds(2);
  meter_.CountHeld(pins_, now_);
  EXPECT_DOUBLE_EQ(Kv(kRed), 600);
  pins_.Remove(*pin, PinEnd::kFinal);
  meter_.CountHeld(pins_, now_);
  now_ += absl::Seconds(1);
  meter_.CountHeld(pins_, now_);
  EXPECT_DOUBLE_EQ(Kv(kRed), 700);
}

// All steps' time is somebody's, and each tenant's KV is that of its own sequences.
TEST(SchedulerUsageTest, TheStepsOfASchedulerAddUp) {
  SchedulerBench bench({}, TwoTenants());
  for (uint64_t id = 1; id <= 2; ++id) {
    Request request = MakeRequest(id, MakePrompt(40), 6);
    request.tenant = TenantIndex{1};
    ASSERT_TRUE(bench.Submit(request));
    bench.RunToEnd();
  }
  bench.scheduler->CheckInvariants();
  const MetricValues values(bench.registry);
  const std::vector<std::string> red = {"tenant=\"red\""}, blue = {"tenant=\"blue\""};
  // 12 steps of 10 ms, in each of which one sequence holds three blocks.
  EXPECT_NEAR(values.Sum("holdfast_scheduler_compute_seconds_total", blue), 0.12, 1e-9);
  const auto block_bytes = static_cast<double>(bench.engine.info().kv_layout.block_bytes());
  EXPECT_NEAR(values.Sum("holdfast_scheduler_kv_byte_seconds_total", blue) / block_bytes, 0.36,
              1e-9);
  EXPECT_EQ(values.Sum("holdfast_scheduler_compute_seconds_total", red), 0);
  EXPECT_EQ(values.Sum("holdfast_scheduler_kv_byte_seconds_total", red), 0);
}

}  // namespace
}  // namespace holdfast
