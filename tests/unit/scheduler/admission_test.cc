#include "scheduler/admission.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(AdmissionTest, ARequestIsShedWhenPlacesAndQueueAreFull) {
  AdmissionView view{
      .running_sequences = 4, .running_max = 4, .waiting_requests = 1, .waiting_max = 2};
  EXPECT_FALSE(ShouldShed(view, {}));
  view.waiting_requests = 2;
  EXPECT_TRUE(ShouldShed(view, {}));
  view.running_sequences = 3;  // the next step empties one place of the queue
  EXPECT_FALSE(ShouldShed(view, {}));
}

TEST(AdmissionTest, ATenantsQueueIsBoundedApartFromOthers) {
  const AdmissionView view{
      .running_sequences = 2, .running_max = 8, .waiting_requests = 3, .waiting_max = 100};
  TenantLoad tenant{.running = 2, .waiting = 1, .running_max = 2, .waiting_max = 2};
  EXPECT_FALSE(ShouldShed(view, tenant));
  tenant.waiting = 2;
  EXPECT_TRUE(ShouldShed(view, tenant));
  tenant.running = 1;
  EXPECT_FALSE(ShouldShed(view, tenant));
  tenant.running_max = 0;  // places of the whole count as its own
  tenant.waiting = 7;
  EXPECT_FALSE(ShouldShed(view, tenant));
  tenant.waiting = 8;
  EXPECT_TRUE(ShouldShed(view, tenant));
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
