#include "server/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "scheduler/cache_report.h"

namespace holdfast {
namespace {

constexpr TenantIndex kBlue{0}, kRed{1}, kBoss{2};

std::vector<TenantConfig> Tenants() {
  std::vector<TenantConfig> tenants(3);
  tenants[0].name = "blue";
  tenants[1].name = "red";
  tenants[2].name = "boss";
  tenants[2].admin = true;
  return tenants;
}

// A scheduler with one pin of blue's and one of red's, both of the session "s".
class FakeScheduler {
 public:
  explicit FakeScheduler(size_t num_tenants) : num_tenants_(num_tenants) {}

  KvAdminPort Port() {
    return {.ask_report =
                [this](std::function<void(CacheReport &&)> done, std::optional<TenantIndex> of) {
                  if (full) return false;
                  done(Report(of));
                  return true;
                },
            .ask_queue =
                [this](std::function<void(QueueReport &&)> done, std::optional<TenantIndex> of) {
                  if (full) return false;
                  asked_of = of;
                  QueueReport report{.running = 7};
                  report.tenants.resize(num_tenants_);
                  report.waiting_entries.push_back({.request = RequestId{5}, .tenant = kRed});
                  report.running_entries.push_back({.request = RequestId{6}, .tenant = kRed});
                  done(std::move(report));
                  return true;
                },
            .drop_pin =
                [this](TenantIndex tenant, std::string session, std::function<void(bool)> done) {
                  if (full) return false;
                  done(session == "s" && std::erase(owners, tenant) > 0);
                  return true;
                },
            .drop_pins =
                [this](std::optional<TenantIndex> tenant, std::function<void(int32_t)> done) {
                  if (full) return false;
                  done(static_cast<int32_t>(std::erase_if(
                      owners, [&](TenantIndex owner) { return !tenant || owner == *tenant; })));
                  return true;
                },
            .wire_ids =
                [](const std::vector<RequestId>& requests) {
                  std::vector<std::string> ids;
                  for (RequestId id : requests) ids.push_back("cmpl-" + std::to_string(Number(id)));
                  return ids;
                },
            .ask_usage =
                [this](UsageAsk ask, std::function<void(absl::StatusOr<std::string>)> done) {
                  if (full) return false;
                  done(ask.by + " of " + ask.tenant);
                  return true;
                }};
  }

  std::vector<TenantIndex> owners = {kBlue, kRed};
  bool full = false;
  std::optional<TenantIndex> asked_of;  // when the queue was last asked for

 private:
  CacheReport Report(std::optional<TenantIndex> of) const {
    CacheReport report{.device = {.free = 6, .held = 3, .evictable = 1}, .block_bytes = 100};
    report.capacity = {10, 20, 0};
    for (size_t i = 0; i < num_tenants_; ++i) {
      CacheReport::Tenant& tenant = report.tenants.emplace_back();
      tenant.blocks = {static_cast<int32_t>(i) + 1, 2, 0};
      tenant.hit_tokens = {16, 0, 0};
      tenant.pinned_blocks = 1;
    }
    for (const TenantIndex owner : owners) {
      if (of && owner != *of) continue;
      ++report.num_pins;
      report.pins.push_back({.tenant = owner,
                             .session = "s",
                             .created = absl::Now(),
                             .deadline = absl::Now() + absl::Hours(1),
                             .num_blocks = 4});
    }
    return report;
  }

  const size_t num_tenants_;
};

struct Admin {
  explicit Admin(std::vector<TenantConfig> tenants)
      : scheduler(std::max<size_t>(tenants.size(), 1)),
        admin(std::move(tenants), [this](const AdminAct& act) { acts.push_back(act); }) {
    admin.Connect(scheduler.Port());
  }
  absl::StatusOr<KvView> View(TenantIndex caller, const std::string& tenant = "") {
    absl::StatusOr<KvView> seen = absl::InternalError("not called");
    admin.View(caller, tenant, [&](absl::StatusOr<KvView> view) { seen = std::move(view); });
    return seen;
  }
  absl::StatusOr<QueueView> Queue(TenantIndex caller, const std::string& tenant = "") {
    absl::StatusOr<QueueView> seen = absl::InternalError("not called");
    admin.Queue(caller, tenant, [&](absl::StatusOr<QueueView> view) { seen = std::move(view); });
    return seen;
  }
  absl::Status Drop(TenantIndex caller, const std::string& session,
                    const std::string& tenant = "") {
    absl::Status told = absl::InternalError("not called");
    admin.DropPin({.tenant = caller, .key = 7}, tenant, session,
                  [&](absl::Status status) { told = std::move(status); });
    return told;
  }
  absl::StatusOr<int32_t> DropAll(TenantIndex caller, const std::string& tenant = "") {
    absl::StatusOr<int32_t> told = absl::InternalError("not called");
    admin.DropPins({.tenant = caller, .key = 7}, tenant,
                   [&](absl::StatusOr<int32_t> dropped) { told = dropped; });
    return told;
  }
  FakeScheduler scheduler;
  std::vector<AdminAct> acts;
  KvAdmin admin;
};

TEST(KvAdminTest, ATenantSeesItsOwnPartAlone) {
  Admin admin(Tenants());
  const absl::StatusOr<KvView> view = admin.View(kRed);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_FALSE(view->whole.has_value()) << "the others' blocks could be told from the whole";
  ASSERT_EQ(view->tenants.size(), 1u);
  EXPECT_EQ(view->tenants[0].name, "red");
  EXPECT_EQ(view->tenants[0].tiers[0].blocks, 2);
  EXPECT_EQ(view->tenants[0].tiers[0].bytes, 200);
  EXPECT_EQ(view->tenants[0].tiers[0].hit_tokens, 16);
  ASSERT_EQ(view->pins.size(), 1u);
  EXPECT_EQ(view->num_pins, 1);
  EXPECT_EQ(view->pins[0].tenant, "red");
  EXPECT_EQ(view->pins[0].session, "s");
  EXPECT_STREQ(view->pins[0].state, "asked");
  EXPECT_EQ(view->pins[0].bytes, 400);
  EXPECT_GT(view->pins[0].expires_in, absl::Minutes(59));
}

TEST(KvAdminTest, UsageIsAskedForOfThoseAloneWhomTheCallerSees) {
  Admin admin(Tenants());
  const auto usage = [&](TenantIndex caller, const std::string& tenant) {
    std::string told = "not called";
    admin.admin.Usage(caller, {.by = "day", .tenant = tenant},
                      [&](absl::StatusOr<std::optional<std::string>> rows) {
                        told = rows.ok() ? rows->value_or("none kept") : rows.status().ToString();
                      });
    return told;
  };
  EXPECT_EQ(usage(kRed, ""), "day of red");
  EXPECT_EQ(usage(kAdministrator, ""), "day of ");
  EXPECT_EQ(usage(kAdministrator, "blue"), "day of blue");
  EXPECT_THAT(usage(kRed, "blue"), testing::HasSubstr("PERMISSION_DENIED"));
  admin.scheduler.full = true;
  EXPECT_THAT(usage(kRed, ""), testing::HasSubstr("RESOURCE_EXHAUSTED"));
}

TEST(KvAdminTest, AnotherTenantsNameIsRefusedWhetherOrNotThereIsOne) {
  Admin admin(Tenants());
  const absl::Status known = admin.View(kRed, "blue").status();
  const absl::Status unknown = admin.View(kRed, "nobody").status();
  EXPECT_TRUE(absl::IsPermissionDenied(known));
  EXPECT_EQ(known, unknown);
  EXPECT_TRUE(admin.View(kRed, "red").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(admin.Drop(kRed, "s", "blue")));
  EXPECT_TRUE(absl::IsPermissionDenied(admin.DropAll(kRed, "blue").status()));
  EXPECT_EQ(admin.scheduler.owners.size(), 2u);
}

TEST(KvAdminTest, AnAdminSeesAllOrWhomItNames) {
  Admin admin(Tenants());
  const absl::StatusOr<KvView> all = admin.View(kBoss);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_TRUE(all->whole.has_value());
  EXPECT_EQ(all->whole->capacity[0].blocks, 10);
  EXPECT_EQ(all->whole->capacity[1].bytes, 2000);
  EXPECT_EQ(all->whole->free_blocks, 6);
  EXPECT_EQ(all->tenants.size(), 3u);
  EXPECT_EQ(all->pins.size(), 2u);
  const absl::StatusOr<KvView> blue = admin.View(kBoss, "blue");
  ASSERT_TRUE(blue.ok()) << blue.status();
  EXPECT_EQ(blue->tenants.size(), 1u);
  EXPECT_EQ(blue->pins.size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(admin.View(kBoss, "nobody").status()));
}

TEST(KvAdminTest, ATenantThatComesIsKnownByItsNameAndMayBeAnAdmin) {
  Admin admin(Tenants());
  std::vector<TenantConfig> tenants = Tenants();
  tenants.push_back({.name = "new", .admin = true});
  admin.admin.SetTenants(tenants);
  EXPECT_TRUE(admin.View(kRed).ok()) << "the scheduler need not have heard of it yet";
  EXPECT_TRUE(admin.View(kBoss, "new").ok());
  EXPECT_TRUE(admin.View(TenantIndex{3})->whole.has_value());
  EXPECT_EQ(admin.admin.NameOf(TenantIndex{3}), "new");
  tenants.back().admin = false;
  admin.admin.SetTenants(tenants);
  EXPECT_FALSE(admin.View(TenantIndex{3})->whole.has_value());
}

TEST(KvAdminTest, WithoutKeysEverythingIsSeen) {
  Admin admin({});
  admin.scheduler.owners = {TenantIndex{0}};
  const absl::StatusOr<KvView> view = admin.View(TenantIndex{0});
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_TRUE(view->whole.has_value());
  ASSERT_EQ(view->tenants.size(), 1u);
  EXPECT_EQ(view->tenants[0].name, "default");
  EXPECT_EQ(view->pins.size(), 1u);
}

TEST(KvAdminTest, ASessionsPinIsDroppedByItsOwnerOrAnAdminWhoNamesTheOwner) {
  Admin admin(Tenants());
  EXPECT_TRUE(absl::IsNotFound(admin.Drop(kRed, "other")));
  EXPECT_TRUE(admin.Drop(kRed, "s").ok());
  EXPECT_TRUE(absl::IsNotFound(admin.Drop(kRed, "s"))) << "blue's of that name is not red's";
  EXPECT_EQ(admin.scheduler.owners, std::vector{kBlue});
  EXPECT_TRUE(absl::IsNotFound(admin.Drop(kBoss, "s"))) << "its own session, if it names nobody";
  EXPECT_TRUE(admin.Drop(kBoss, "s", "blue").ok());
  EXPECT_TRUE(admin.scheduler.owners.empty());
}

TEST(KvAdminTest, AnAdministratorIsNoTenantAndSeesAll) {
  Admin admin(Tenants());
  EXPECT_EQ(admin.View(kAdministrator)->tenants.size(), 3u);
  EXPECT_TRUE(admin.Queue(kAdministrator)->whole);
  EXPECT_TRUE(absl::IsInvalidArgument(admin.Drop(kAdministrator, "s"))) << "whose?";
  EXPECT_TRUE(admin.Drop(kAdministrator, "s", "red").ok());
  EXPECT_EQ(*admin.DropAll(kAdministrator), 1);
}

TEST(KvAdminTest, EachActIsAuditedOnceWithWhoDidItAndHowItEnded) {
  Admin admin(Tenants());
  admin.View(kRed).IgnoreError();
  EXPECT_TRUE(admin.acts.empty()) << "to look is no act";
  admin.Drop(kRed, "s").IgnoreError();
  admin.Drop(kRed, "s", "blue").IgnoreError();
  admin.DropAll(kAdministrator, "blue").IgnoreError();
  admin.scheduler.full = true;
  admin.DropAll(kBoss).IgnoreError();
  absl::Status reloaded;
  admin.admin.Reload({.tenant = kRed},
                     [&](absl::StatusOr<ReloadView> view) { reloaded = view.status(); });
  EXPECT_TRUE(absl::IsPermissionDenied(reloaded));
  ASSERT_EQ(admin.acts.size(), 5u);
  const auto said = [&](size_t i) {
    const AdminAct& act = admin.acts[i];
    return act.who + " " + act.act + " " + act.on + " " +
           std::string(absl::StatusCodeToString(act.result.code()));
  };
  EXPECT_EQ(said(0), "red drop_pin s OK");
  EXPECT_EQ(said(1), "red drop_pin s PERMISSION_DENIED");
  EXPECT_EQ(said(2), "administrator drop_pins blue OK");
  EXPECT_EQ(said(3), "boss drop_pins  RESOURCE_EXHAUSTED");
  EXPECT_EQ(said(4), "red reload  PERMISSION_DENIED");
  EXPECT_EQ(admin.acts[0].key, 7u);
}

TEST(KvAdminTest, AllPinsAreThoseThatTheCallerSees) {
  Admin admin(Tenants());
  EXPECT_EQ(*admin.DropAll(kRed), 1);
  EXPECT_EQ(admin.scheduler.owners, std::vector{kBlue});
  admin.scheduler.owners = {kBlue, kRed};
  EXPECT_EQ(*admin.DropAll(kBoss, "blue"), 1);
  EXPECT_EQ(*admin.DropAll(kBoss), 1);
}

TEST(KvAdminTest, OfTheQueueATenantSeesItsOwnPartAndAnAdminAllOrWhomItNames) {
  Admin admin(Tenants());
  const absl::StatusOr<QueueView> own = admin.Queue(kRed);
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_FALSE(own->whole);
  EXPECT_EQ(own->shown, std::vector{kRed});
  EXPECT_EQ(admin.scheduler.asked_of, kRed);
  EXPECT_EQ(own->waiting_ids, std::vector<std::string>{"cmpl-5"});
  EXPECT_EQ(own->running_ids, std::vector<std::string>{"cmpl-6"});
  EXPECT_TRUE(absl::IsPermissionDenied(admin.Queue(kRed, "blue").status()));
  EXPECT_EQ(admin.Queue(kRed, "blue").status(), admin.Queue(kRed, "nobody").status());
  const absl::StatusOr<QueueView> all = admin.Queue(kBoss);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_TRUE(all->whole);
  EXPECT_EQ(all->report.running, 7);
  EXPECT_EQ(all->shown, (std::vector{kBlue, kRed, kBoss}));
  EXPECT_EQ(all->tenants, (std::vector<std::string>{"blue", "red", "boss"}));
  EXPECT_EQ(admin.scheduler.asked_of, std::nullopt);
  EXPECT_EQ(admin.Queue(kBoss, "blue")->shown, std::vector{kBlue});
  EXPECT_TRUE(absl::IsNotFound(admin.Queue(kBoss, "nobody").status()));
  admin.scheduler.full = true;
  EXPECT_TRUE(absl::IsResourceExhausted(admin.Queue(kRed).status()));
}

TEST(KvAdminTest, BeforeThereIsASchedulerAndWhenItIsBusyItSaysSo) {
  KvAdmin loading(Tenants());
  absl::Status told;
  loading.View(kRed, "", [&](absl::StatusOr<KvView> view) { told = view.status(); });
  EXPECT_TRUE(absl::IsUnavailable(told));
  Admin admin(Tenants());
  admin.scheduler.full = true;
  EXPECT_TRUE(absl::IsResourceExhausted(admin.View(kRed).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(admin.Drop(kRed, "s")));
  EXPECT_TRUE(absl::IsResourceExhausted(admin.DropAll(kRed).status()));
}

}  // namespace
}  // namespace holdfast
