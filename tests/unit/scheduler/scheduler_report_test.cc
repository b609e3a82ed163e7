// What an operator sees of the queue.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/metric_values.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

constexpr TenantIndex kRed{0}, kBlue{1};
constexpr FakeEngineOptions kEngine = {.num_blocks = 64, .num_sequence_slots = 4};

SchedulerOptions TwoTenants(SchedulerOptions options) {
  options.tenants = {{.name = "red"}, {.name = "blue"}};
  options.tenants[1].weight = 2;
  return options;
}

Request Of(TenantIndex tenant, uint64_t id, int32_t prompt_tokens, int32_t max_tokens = 4) {
  Request request =
      MakeRequest(id, MakePrompt(prompt_tokens, static_cast<TokenId>(id)), max_tokens);
  request.tenant = tenant;
  return request;
}

std::vector<uint64_t> Ids(const std::vector<QueueReport::Entry>& entries) {
  std::vector<uint64_t> ids;
  for (const QueueReport::Entry& entry : entries) ids.push_back(Number(entry.request));
  return ids;
}

int32_t Count(const QueueReport::Reasons& reasons, WaitReason reason) {
  return reasons[static_cast<size_t>(reason)];
}

TEST(SchedulerReportTest, RunningAndWaitingSequencesAreListedWithTheirTenants) {
  SchedulerBench bench(kEngine, TwoTenants({.running_max = 1}));
  Request first = Of(kRed, 1, 40);
  first.session = "agent";
  ASSERT_TRUE(bench.Submit(first));
  ASSERT_TRUE(bench.Step());
  Request second = Of(kBlue, 2, 20);
  second.priority = 3;
  ASSERT_TRUE(bench.Submit(second));
  ASSERT_TRUE(bench.Step());
  bench.now += absl::Seconds(3);
  const QueueReport report = bench.scheduler->ReportQueue(bench.now);
  EXPECT_EQ(report.running, 1);
  EXPECT_EQ(report.running_max, 1);
  EXPECT_EQ(report.waiting, 1);
  EXPECT_EQ(report.waiting_requests, 1);
  EXPECT_EQ(report.device, bench.scheduler->block_counts());
  ASSERT_EQ(Ids(report.running_entries), std::vector<uint64_t>{1});
  const QueueReport::Entry& runs = report.running_entries[0];
  EXPECT_EQ(runs.session, "agent");
  EXPECT_EQ(runs.prompt_tokens, 40);
  EXPECT_EQ(runs.completion_tokens, 2);
  EXPECT_EQ(runs.computed_tokens, 41);
  EXPECT_EQ(runs.blocks, 3);
  ASSERT_EQ(Ids(report.waiting_entries), std::vector<uint64_t>{2});
  const QueueReport::Entry& waits = report.waiting_entries[0];
  EXPECT_EQ(waits.tenant, kBlue);
  EXPECT_EQ(waits.priority, 3);
  EXPECT_EQ(waits.reason, WaitReason::kPlaces);
  EXPECT_EQ(waits.age, absl::Seconds(3) + absl::Milliseconds(10));
  EXPECT_EQ(report.tenants[0].running, 1);
  EXPECT_EQ(report.tenants[0].blocks, 3);
  EXPECT_EQ(report.tenants[0].programs, 1);
  EXPECT_EQ(report.tenants[0].served, 42);  // 40 of the prompt, 2 for the token after it
  EXPECT_EQ(report.tenants[1].weight, 2);
  EXPECT_EQ(report.tenants[1].waiting, 1);
  EXPECT_EQ(Count(report.tenants[1].waiting_by_reason, WaitReason::kPlaces), 1);
  bench.RunToEnd();
}

TEST(SchedulerReportTest, OfOneTenantItsSequencesAloneAreListed) {
  SchedulerBench bench(kEngine, TwoTenants({.running_max = 1}));
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_TRUE(bench.Submit(Of(id % 2 == 0 ? kBlue : kRed, id, 20)));
  }
  ASSERT_TRUE(bench.Step());
  const QueueReport report = bench.scheduler->ReportQueue(bench.now, kBlue);
  EXPECT_EQ(report.num_listed_running + report.num_listed_waiting, 3);
  for (const QueueReport::Entry& entry : report.waiting_entries) EXPECT_EQ(entry.tenant, kBlue);
  for (const QueueReport::Entry& entry : report.running_entries) EXPECT_EQ(entry.tenant, kBlue);
  EXPECT_EQ(report.waiting, 5) << "of all";
  bench.RunToEnd();
}

TEST(SchedulerReportTest, TheOrderListedIsTheOneInWhichTheyAreLetIn) {
  SchedulerBench bench(kEngine, TwoTenants({.running_max = 1}));
  ASSERT_TRUE(bench.Submit(Of(kRed, 100, 10, 1)));
  for (uint64_t id = 1; id <= 12; ++id) {
    Request request = Of(id % 3 == 0 ? kRed : kBlue, id, 20, 1);
    request.priority = static_cast<int32_t>(id * 7 % 3);
    request.offline = id > 9;
    ASSERT_TRUE(bench.Submit(request));
  }
  ASSERT_TRUE(bench.Step());
  std::vector<uint64_t> listed = Ids(bench.scheduler->ReportQueue(bench.now).waiting_entries);
  ASSERT_EQ(listed.size(), 12u);
  bench.RunToEnd();
  std::vector<uint64_t> done;
  for (const RequestId id : bench.sink.order_done()) done.push_back(Number(id));
  done.erase(done.begin());
  EXPECT_EQ(done, listed);
}

TEST(SchedulerReportTest, EveryWaitingSequenceHasAReasonAndTheGaugesAgree) {
  SchedulerBench bench(kEngine, TwoTenants({.running_max = 2, .step_tokens_max = 32}));
  for (uint64_t id = 1; id <= 20; ++id) {
    Request request = Of(id % 2 == 0 ? kBlue : kRed, id, 20 + static_cast<int32_t>(id));
    request.offline = id % 5 == 0;
    ASSERT_TRUE(bench.Submit(request));
  }
  bool offline_waited = false;
  while (bench.Plan()) {
    const QueueReport report = bench.scheduler->ReportQueue(bench.now);
    const MetricValues metrics(bench.registry);
    int32_t sum = 0;
    for (size_t i = 0; i < kNumWaitReasons; ++i) {
      const std::string label =
          std::string("reason=\"") + WaitReasonName(static_cast<WaitReason>(i)) + "\"";
      EXPECT_EQ(metrics.Sum("holdfast_scheduler_waiting_by_reason", {label}),
                report.waiting_by_reason[i])
          << label;
      sum += report.waiting_by_reason[i];
    }
    EXPECT_EQ(sum, report.waiting);
    offline_waited |= Count(report.waiting_by_reason, WaitReason::kOnline) > 0;
    bench.Finish();
  }
  EXPECT_TRUE(offline_waited);
}

TEST(SchedulerReportTest, MoreThanAnAnswerHoldsAreCounted) {
  SchedulerBench bench(kEngine, {.running_max = 1, .waiting_max = 1200});
  for (uint64_t id = 1; id <= 1102; ++id) {
    ASSERT_TRUE(bench.Submit(MakeRequest(id, MakePrompt(4), 1)));
  }
  const QueueReport report = bench.scheduler->ReportQueue(bench.now);
  EXPECT_EQ(report.waiting_entries.size(), kQueueEntriesMax);
  EXPECT_EQ(report.num_listed_waiting, 1102);
  bench.RunToEnd();
}

TEST(SchedulerReportTest, WhatIsKnownOfProgramsIsTold) {
  SchedulerBench bench(kEngine, {.policy = SchedulerPolicy::kFixedTtl, .kv = {.pinned_max = 0.9}});
  Request turn = Of(kRed, 1, 40);
  turn.session = "agent";
  turn.tool_hint = {.name = "ls"};
  ASSERT_TRUE(bench.Submit(turn));
  bench.RunToEnd();
  const QueueReport report = bench.scheduler->ReportQueue(bench.now);
  const QueueReport::Tenant& tenant = report.tenants[0];
  EXPECT_EQ(tenant.programs, 1);
  EXPECT_EQ(tenant.programs_paused, 1);
  EXPECT_EQ(tenant.pins, 1);
  EXPECT_EQ(tenant.pinned_blocks, 3);
  EXPECT_EQ(report.pins, 1);
  const TtlCount& fixed = tenant.ttls[static_cast<size_t>(TtlSource::kFixed)];
  EXPECT_EQ(fixed.decided, 1u);
  EXPECT_EQ(fixed.pinned, 1u);
  EXPECT_EQ(fixed.pinned_time, absl::Seconds(2));
}

}  // namespace
}  // namespace holdfast
