// Requests that come together are taken together or not at all.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/sim/scheduler_bench.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

std::vector<Request> Requests(uint64_t first, int count) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back(MakeRequest(first + static_cast<uint64_t>(i), MakePrompt(10), 2));
  }
  return requests;
}

TEST(SubmitAllTest, WhatFitsRunsInOrder) {
  SchedulerBench bench({}, {.running_max = 1, .waiting_max = 2});
  ASSERT_TRUE(bench.scheduler->SubmitAll(Requests(1, 3), bench.now));
  bench.RunToEnd();
  const std::vector<RequestId> expected = {RequestId{1}, RequestId{2}, RequestId{3}};
  EXPECT_EQ(bench.sink.order_done(), expected);
}

TEST(SubmitAllTest, WhatDoesNotFitIsShedAsAWholeAndCountedOnce) {
  SchedulerBench bench({}, {.running_max = 1, .waiting_max = 2});
  ASSERT_TRUE(bench.Submit(MakeRequest(9, MakePrompt(10), 2)));
  EXPECT_FALSE(bench.scheduler->SubmitAll(Requests(1, 3), bench.now));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(bench.sink[RequestId{id}].done->code(), absl::StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(bench.scheduler->num_requests(), 1);
  EXPECT_THAT(bench.registry.Serialize(),
              HasSubstr("holdfast_scheduler_shed_total{reason=\"queue\",tenant=\"default\"} 1\n"));
  EXPECT_TRUE(bench.scheduler->SubmitAll(Requests(11, 2), bench.now));
  bench.RunToEnd();
}

TEST(SubmitAllTest, TheTenantsOwnBoundIsToldApart) {
  SchedulerBench bench({}, {.tenants = {{.name = "red", .running_max = 1, .waiting_max = 1}}});
  EXPECT_EQ(bench.scheduler->RequestsAtOnceMax(TenantIndex{0}), 2);
  EXPECT_FALSE(bench.scheduler->SubmitAll(Requests(1, 3), bench.now));
  EXPECT_THAT(
      bench.registry.Serialize(),
      HasSubstr("holdfast_scheduler_shed_total{reason=\"tenant_queue\",tenant=\"red\"} 1\n"));
}

TEST(SubmitAllTest, OneThatCannotBeServedTakesTheOthersAlong) {
  SchedulerBench bench({.context_tokens = 64});
  std::vector<Request> requests = Requests(1, 3);
  requests[1].prompt = MakePrompt(64);
  EXPECT_FALSE(bench.scheduler->SubmitAll(std::move(requests), bench.now));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(bench.sink[RequestId{id}].done->code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(bench.scheduler->idle());
}

}  // namespace
}  // namespace holdfast
