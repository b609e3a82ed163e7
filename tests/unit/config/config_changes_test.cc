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

std::string Tenant(const std::string& name, const std::string& key, const std::string& more = "") {
  return Concat("  - name: ", name, "\n    keys: [\"sha256:", key, "\"]\n", more);
}

TEST(ConfigChangesTest, TheSameFileChangesNothing) {
  const DaemonConfig config = Parse("tenants:\n" + Tenant("a", kKeyA));
  const ConfigChanges changes = ChangesOf(config, config);
  EXPECT_THAT(changes.applied, IsEmpty());
  EXPECT_THAT(changes.waiting, IsEmpty());
}

TEST(ConfigChangesTest, ATenantsKeysAndBoundsTakeEffectAndItsPartOfTheCacheWaits) {
  const ConfigChanges changes =
      ChangesOf(Parse("tenants:\n" + Tenant("a", kKeyA) + Tenant("b", kKeyB)),
                Parse("tenants:\n" + Tenant("b", kKeyB) +
                      Tenant("a", std::string(64, 'c'),
                             "    weight: 3\n    kv:\n      device:\n        floor: 10%\n")));
  EXPECT_THAT(changes.applied, ElementsAre("tenants.keys of `a`", "tenants.weight of `a`"));
  EXPECT_THAT(changes.waiting, ElementsAre("tenants.kv.device.floor of `a`"));
  const TenantConfig& a = changes.config.tenants[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.weight, 3);
  EXPECT_THAT(a.keys, ElementsAre(KeyHash{std::string(64, 'c')}));
  EXPECT_FALSE(a.kv.device.floor.has_value());
}

TEST(ConfigChangesTest, ATenantThatIsGoneKeepsItsPlaceWithoutKeysAndANewOneWaits) {
  const DaemonConfig running = Parse("tenants:\n" + Tenant("a", kKeyA) + Tenant("b", kKeyB));
  const DaemonConfig wanted =
      Parse("tenants:\n" + Tenant("b", kKeyB) + Tenant("new", std::string(64, 'd')));
  const ConfigChanges changes = ChangesOf(running, wanted);
  EXPECT_THAT(changes.applied, ElementsAre("tenant `a`"));
  EXPECT_THAT(changes.waiting, ElementsAre("tenant `new`"));
  ASSERT_EQ(changes.config.tenants.size(), 2u);
  EXPECT_THAT(changes.config.tenants[0].keys, IsEmpty());

  const ConfigChanges again = ChangesOf(changes.config, wanted);
  EXPECT_THAT(again.applied, IsEmpty());
  const ConfigChanges back = ChangesOf(changes.config, running);
  EXPECT_THAT(back.applied, ElementsAre("tenants.keys of `a`"));
  EXPECT_THAT(back.config.tenants[0].keys, ElementsAre(KeyHash{kKeyA}));
}

TEST(ConfigChangesTest, KeysAreNotTurnedOnOrOffWhileTheDaemonRuns) {
  const DaemonConfig with = Parse("tenants:\n" + Tenant("a", kKeyA));
  EXPECT_THAT(ChangesOf(with, DaemonConfig()).waiting, ElementsAre("tenants"));
  EXPECT_THAT(ChangesOf(with, DaemonConfig()).config.tenants[0].keys, testing::SizeIs(1));
  EXPECT_THAT(ChangesOf(DaemonConfig(), with).waiting, ElementsAre("tenants"));
}

TEST(ConfigChangesTest, AdministratorsKeysTakeEffectButTheirPortIsNotOpenedWhileTheDaemonRuns) {
  const DaemonConfig with = Parse("admin:\n  keys: [\"sha256:" + kKeyA + "\"]\n");
  const DaemonConfig other = Parse("admin:\n  keys: [\"sha256:" + kKeyB + "\"]\n");
  EXPECT_THAT(ChangesOf(with, other).applied, ElementsAre("admin.keys"));
  EXPECT_THAT(ChangesOf(with, other).config.admin.keys, ElementsAre(KeyHash{kKeyB}));
  EXPECT_THAT(ChangesOf(with, Parse("")).applied, ElementsAre("admin.keys")) << "it knows none";
  const ConfigChanges opened = ChangesOf(Parse(""), with);
  EXPECT_THAT(opened.applied, IsEmpty());
  EXPECT_THAT(opened.waiting, ElementsAre("admin.keys"));
  EXPECT_THAT(opened.config.admin.keys, IsEmpty());
}

TEST(ConfigChangesTest, TheLogsLevelTakesEffectAndEveryOtherSettingOfTheDaemonWaits) {
  const ConfigChanges changes =
      ChangesOf(Parse("listen:\n  tls:\n    certificate_path: a\n    key_path: b\n"),
                Parse("listen:\n  tls:\n    certificate_path: a\n    key_path: c\n"
                      "engine:\n  threads: 3\nlog:\n  level: debug\n"));
  EXPECT_THAT(changes.applied, ElementsAre("log.level"));
  EXPECT_THAT(changes.waiting, ElementsAre("engine.threads", "listen.tls.key_path"));
  EXPECT_EQ(changes.config.log.level, "debug");
  EXPECT_EQ(changes.config.engine.threads, 0);
}

}  // namespace
}  // namespace holdfast
