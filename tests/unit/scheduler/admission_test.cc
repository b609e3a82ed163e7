#include "scheduler/admission.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(AdmissionTest, ARequestIsShedWhenPlacesAndQueueAreFull) {
  AdmissionView view{
      .running_sequences = 4, .running_max = 4, .waiting_requests = 1, .waiting_max = 2};
  EXPECT_EQ(ShouldShed(view, {}), std::nullopt);
  EXPECT_EQ(ShouldShed(view, {}, 2), ShedReason::kQueue);  // all or none
  view.waiting_requests = 2;
  EXPECT_EQ(ShouldShed(view, {}), ShedReason::kQueue);
  view.running_sequences = 3;  // the next step empties one place of the queue
  EXPECT_EQ(ShouldShed(view, {}), std::nullopt);
}

TEST(AdmissionTest, ATenantsQueueIsBoundedApartFromOthers) {
  const AdmissionView view{
      .running_sequences = 2, .running_max = 8, .waiting_requests = 3, .waiting_max = 100};
  TenantLoad tenant{.running = 2, .waiting = 1, .running_max = 2, .waiting_max = 2};
  EXPECT_EQ(ShouldShed(view, tenant), std::nullopt);
  tenant.waiting = 2;
  EXPECT_EQ(ShouldShed(view, tenant), ShedReason::kTenantQueue);
  tenant.running = 1;
  EXPECT_EQ(ShouldShed(view, tenant), std::nullopt);
  tenant.running_max = 0;  // places of the whole count as its own
  tenant.waiting = 7;
  EXPECT_EQ(ShouldShed(view, tenant), std::nullopt);
  tenant.waiting = 8;
  EXPECT_EQ(ShouldShed(view, tenant), ShedReason::kTenantQueue);
}

TEST(AdmissionTest, AFloodOfOneTenantLeavesRoomInTheQueueForOthers) {
  AdmissionView view{
      .running_sequences = 4, .running_max = 4, .waiting_max = 100, .several_tenants = true};
  TenantLoad flood{.running = 4};
  while (!ShouldShed(view, flood)) {
    ++flood.waiting;
    ++view.waiting_requests;
  }
  EXPECT_EQ(flood.waiting, 50);
  EXPECT_EQ(ShouldShed(view, flood), ShedReason::kQueueShare);
  EXPECT_EQ(RequestsBeyond(ShedReason::kQueueShare, view, flood, 1), 1);
  // A second flood gets half of what is left, and then what the first gives up.
  TenantLoad second;
  while (!ShouldShed(view, second)) {
    ++second.waiting;
    ++view.waiting_requests;
  }
  EXPECT_EQ(second.waiting, 25);
  EXPECT_EQ(ShouldShed(view, {}), std::nullopt);
  view.several_tenants = false;
  EXPECT_EQ(ShouldShed(view, flood), std::nullopt);
}

// The bound that a refusal for good is made by is the one that an empty scheduler has.
TEST(AdmissionTest, WhatCanEverBeAdmittedAtOnceIsWhatAnEmptySchedulerTakes) {
  for (const int32_t running_max : {1, 3, 8}) {
    for (const int32_t waiting_max : {1, 2, 9}) {
      for (const int32_t tenant_running_max : {0, 1, 5, 20}) {
        for (const int32_t tenant_waiting_max : {0, 1, 4, 30}) {
          for (const bool several_tenants : {false, true}) {
            const AdmissionView empty{.running_max = running_max,
                                      .waiting_max = waiting_max,
                                      .several_tenants = several_tenants};
            const TenantLoad tenant{.running_max = tenant_running_max,
                                    .waiting_max = tenant_waiting_max};
            const int32_t most = RequestsAtOnceMax(empty, tenant);
            EXPECT_EQ(ShouldShed(empty, tenant, most), std::nullopt);
            EXPECT_NE(ShouldShed(empty, tenant, most + 1), std::nullopt);
          }
        }
      }
    }
  }
}

TEST(AdmissionTest, ATenantAtItsBoundIsSkippedAndAFullHouseWaits) {
  AdmissionView view{.running_sequences = 2, .running_max = 3};
  const TenantLoad tenant{.running = 1, .running_max = 1};
  EXPECT_EQ(MayRun(view, tenant, false), Admission::kSkip);
  EXPECT_EQ(MayRun(view, tenant, true), Admission::kRun);
  EXPECT_EQ(MayRun(view, {}, false), Admission::kRun);
  view.running_sequences = 3;
  EXPECT_EQ(MayRun(view, tenant, false), Admission::kWait);
  EXPECT_EQ(MayRun(view, {}, true), Admission::kWait);
}

}  // namespace
}  // namespace holdfast
