#include "config/config_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "config/base/concat.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kKeyA = std::string(64, 'a');
const std::string kKeyB = std::string(64, 'b');

DaemonConfig Parse(const std::string& yaml) {
  absl::StatusOr<DaemonConfig> config = ParseDaemonConfig(yaml, "test.yaml");
  EXPECT_TRUE(config.ok()) << config.status();
  return *std::move(config);
}

ConfigChanges Changes(const DaemonConfig& running, const DaemonConfig& wanted) {
  absl::StatusOr<ConfigChanges> changes = ChangesOf(running, wanted);
  EXPECT_TRUE(changes.ok()) << changes.status();
  return *std::move(changes);
}

std::string Tenant(const std::string& name, const std::string& key, const std::string& more = "") {
  return Concat("  - name: ", name, "\n    keys: [\"sha256:", key, "\"]\n", more);
}

TEST(ConfigChangesTest, TheSameFileChangesNothing) {
  const DaemonConfig config = Parse("tenants:\n" + Tenant("a", kKeyA));
  const ConfigChanges changes = Changes(config, config);
  EXPECT_THAT(changes.applied, IsEmpty());
  EXPECT_THAT(changes.waiting, IsEmpty());
}

TEST(ConfigChangesTest, ATenantsKeysBoundsAndPartOfTheCacheTakeEffectAndItsSharingGroupWaits) {
  const ConfigChanges changes =
      Changes(Parse("tenants:\n" + Tenant("a", kKeyA) + Tenant("b", kKeyB)),
              Parse("tenants:\n" + Tenant("b", kKeyB) +
                    Tenant("a", std::string(64, 'c'),
                           "    weight: 3\n    sharing_group: g\n"
                           "    kv:\n      device:\n        floor: 10%\n")));
  EXPECT_THAT(changes.applied, ElementsAre("tenants.keys of `a`", "tenants.weight of `a`",
                                           "tenants.kv.device.floor of `a`"));
  EXPECT_THAT(changes.waiting, ElementsAre("tenants.sharing_group of `a`"));
  const TenantConfig& a = changes.config.tenants[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.weight, 3);
  EXPECT_THAT(a.keys, ElementsAre(KeyHash{std::string(64, 'c')}));
  EXPECT_EQ(a.kv.device.floor, (TierAmount{.share = 0.1}));
  EXPECT_FALSE(a.sharing_group.has_value());
}

TEST(ConfigChangesTest, ATenantThatIsGoneKeepsItsPlaceWithoutKeysAndANewOneComesBehind) {
  const DaemonConfig running =
      Parse("tenants:\n" + Tenant("a", kKeyA, "    kv:\n      device:\n        floor: 10%\n") +
            Tenant("b", kKeyB));
  const DaemonConfig wanted = Parse(
      "tenants:\n" + Tenant("new", std::string(64, 'd'), "    weight: 2\n") + Tenant("b", kKeyB));
  const ConfigChanges changes = Changes(running, wanted);
  EXPECT_THAT(changes.applied, ElementsAre("tenant `a`", "tenant `new`"));
  EXPECT_THAT(changes.waiting, IsEmpty());
  EXPECT_THAT(NamesOf(changes.config.tenants), ElementsAre("a", "b", "new"));
  EXPECT_THAT(changes.config.tenants[0].keys, IsEmpty());
  EXPECT_FALSE(changes.config.tenants[0].kv.device.floor.has_value());
  EXPECT_EQ(changes.config.tenants[2].weight, 2);

  const ConfigChanges again = Changes(changes.config, wanted);
  EXPECT_THAT(again.applied, IsEmpty());
  const ConfigChanges back = Changes(changes.config, running);
  EXPECT_THAT(back.applied,
              ElementsAre("tenants.keys of `a`", "tenants.kv.device.floor of `a`", "tenant `new`"));
  EXPECT_THAT(NamesOf(back.config.tenants), ElementsAre("a", "b", "new"));
  EXPECT_THAT(back.config.tenants[0].keys, ElementsAre(KeyHash{kKeyA}));
}

TEST(ConfigChangesTest, MoreNamesThanCanBeToldApartAreRefusedThoughTheFileHasFew) {
  DaemonConfig running;
  for (size_t i = 0; i < kTenantsMax; ++i) running.tenants.push_back({.name = Concat("t", i)});
  const DaemonConfig wanted = Parse("tenants:\n" + Tenant("t7", kKeyA));
  EXPECT_EQ(Changes(running, wanted).config.tenants.size(), kTenantsMax);
  const absl::Status status =
      ChangesOf(running, Parse("tenants:\n" + Tenant("new", kKeyB))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("4097"), testing::HasSubstr("restart")));
}

TEST(ConfigChangesTest, KeysAreNotTurnedOnOrOffWhileTheDaemonRuns) {
  const DaemonConfig with = Parse("tenants:\n" + Tenant("a", kKeyA));
  EXPECT_THAT(Changes(with, DaemonConfig()).waiting, ElementsAre("tenants"));
  EXPECT_THAT(Changes(with, DaemonConfig()).config.tenants[0].keys, testing::SizeIs(1));
  EXPECT_THAT(Changes(DaemonConfig(), with).waiting, ElementsAre("tenants"));
}

TEST(ConfigChangesTest, AdministratorsKeysTakeEffectButTheirPortIsNotOpenedWhileTheDaemonRuns) {
  const DaemonConfig with = Parse("admin:\n  keys: [\"sha256:" + kKeyA + "\"]\n");
  const DaemonConfig other = Parse("admin:\n  keys: [\"sha256:" + kKeyB + "\"]\n");
  EXPECT_THAT(Changes(with, other).applied, ElementsAre("admin.keys"));
  EXPECT_THAT(Changes(with, other).config.admin.keys, ElementsAre(KeyHash{kKeyB}));
  EXPECT_THAT(Changes(with, Parse("")).applied, ElementsAre("admin.keys")) << "it knows none";
  const ConfigChanges opened = Changes(Parse(""), with);
  EXPECT_THAT(opened.applied, IsEmpty());
  EXPECT_THAT(opened.waiting, ElementsAre("admin.keys"));
  EXPECT_THAT(opened.config.admin.keys, IsEmpty());
}

TEST(ConfigChangesTest, TheLogsLevelTakesEffectAndEveryOtherSettingOfTheDaemonWaits) {
  const ConfigChanges changes =
      Changes(Parse("listen:\n  tls:\n    certificate_path: a\n    key_path: b\n"),
              Parse("listen:\n  tls:\n    certificate_path: a\n    key_path: c\n"
                    "engine:\n  threads: 3\nlog:\n  level: debug\n"));
  EXPECT_THAT(changes.applied, ElementsAre("log.level"));
  EXPECT_THAT(changes.waiting, ElementsAre("engine.threads", "listen.tls.key_path"));
  EXPECT_EQ(changes.config.log.level, "debug");
  EXPECT_EQ(changes.config.engine.threads, 0);
}

}  // namespace
}  // namespace holdfast
