#include "server/tenant_auth.h"

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "config/base/concat.h"
#include "config/daemon_config.h"
#include "gtest/gtest.h"
#include "server/tenant_key.h"

namespace holdfast {
namespace {

KeyHash StoredHash(const NewTenantKey& key) { return {.sha256_hex = key.stored_hash.substr(7)}; }

NewTenantKey Make() {
  auto key = MakeTenantKey();
  EXPECT_TRUE(key.ok()) << key.status();
  return *key;
}

TEST(TenantKeyTest, AKeyIsLongAndEachIsNew) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const NewTenantKey key = Make();
    EXPECT_EQ(key.key.size(), 3u + 43u);
    EXPECT_EQ(key.key.substr(0, 3), "hf-");
    EXPECT_EQ(key.key.find_first_not_of(
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
              std::string::npos);
    EXPECT_TRUE(seen.insert(key.key).second);
  }
}

// FIPS 180-2, appendix B.1.
TEST(TenantKeyTest, TheHashIsSha256) {
  const auto known =
      DigestFromHex("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015ad");
  ASSERT_TRUE(known.ok());
  EXPECT_EQ(HashTenantKey("abc"), *known);
  EXPECT_FALSE(DigestFromHex("abc").ok());
  EXPECT_FALSE(DigestFromHex(std::string(64, 'g')).ok());
}

TEST(TenantKeyTest, TheStoredHashIsWhatTheConfigurationTakes) {
  const NewTenantKey key = Make();
  const auto config = ParseDaemonConfig(
      Concat("tenants:\n  - name: a\n    keys:\n      - \"", key.stored_hash, "\"\n"), "f");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto auth = TenantAuth::Create(config->tenants);
  ASSERT_TRUE(auth.ok());
  EXPECT_TRUE((*auth)->Authenticate(key.key).ok());
}

TEST(TenantAuthTest, WithoutTenantsEveryoneIsTheDefaultTenant) {
  const auto auth = TenantAuth::Create({});
  ASSERT_TRUE(auth.ok());
  for (const char* key : {"", "none", "sk-whatever"}) {
    const auto who = (*auth)->Authenticate(key);
    ASSERT_TRUE(who.ok());
    EXPECT_EQ(who->tenant, TenantIndex{0});
  }
}

TEST(TenantAuthTest, EachKeyOpensForItsTenantAlone) {
  std::vector<NewTenantKey> keys;
  for (int i = 0; i < 6; ++i) keys.push_back(Make());
  const std::vector<TenantConfig> tenants = {
      {.name = "a", .keys = {StoredHash(keys[0]), StoredHash(keys[1])}},
      {.name = "b", .keys = {StoredHash(keys[2])}},
      {.name = "c", .keys = {StoredHash(keys[3]), StoredHash(keys[4])}},
  };
  const auto auth = TenantAuth::Create(tenants);
  ASSERT_TRUE(auth.ok());
  const int kOwner[] = {0, 0, 1, 2, 2};
  for (int i = 0; i < 5; ++i) {
    const auto who = (*auth)->Authenticate(keys[i].key);
    ASSERT_TRUE(who.ok()) << i;
    EXPECT_EQ(Number(who->tenant), kOwner[i]);
  }
  EXPECT_EQ((*auth)->Authenticate(keys[5].key).status().code(), absl::StatusCode::kUnauthenticated);
}

TEST(TenantAuthTest, WrongKeysAreRefusedWithoutBeingRepeated) {
  const NewTenantKey key = Make();
  const std::vector<TenantConfig> tenants = {{.name = "a", .keys = {StoredHash(key)}}};
  const auto auth = TenantAuth::Create(tenants);
  ASSERT_TRUE(auth.ok());
  for (const std::string& wrong :
       {std::string(), key.key + "x", key.key.substr(1), key.key + std::string(1, '\0'),
        key.stored_hash, key.stored_hash.substr(7), std::string("none"),
        std::string(1 << 20, 'x')}) {
    const auto who = (*auth)->Authenticate(wrong);
    EXPECT_EQ(who.status().code(), absl::StatusCode::kUnauthenticated);
    if (wrong.size() > 8) {
      EXPECT_EQ(who.status().message().find(wrong), absl::string_view::npos);
    }
  }
}

TEST(TenantAuthTest, AHashThatIsNoneIsAnErrorAtStart) {
  const std::vector<TenantConfig> tenants = {{.name = "a", .keys = {{.sha256_hex = "12"}}}};
  EXPECT_FALSE(TenantAuth::Create(tenants).ok());
}

TEST(TenantAuthTest, NewKeysHoldAtOnceOldOnesBesideThemAsLongAsTheyAreListed) {
  const NewTenantKey old_key = Make(), new_key = Make();
  std::vector<TenantConfig> tenants = {{.name = "a", .keys = {StoredHash(old_key)}}};
  const auto auth = TenantAuth::Create(tenants);
  ASSERT_TRUE(auth.ok());
  const auto knows = [&](const NewTenantKey& key) { return (*auth)->Authenticate(key.key).ok(); };
  tenants[0].keys.push_back(StoredHash(new_key));
  ASSERT_TRUE((*auth)->SetKeys(tenants).ok());
  EXPECT_TRUE(knows(old_key));
  EXPECT_TRUE(knows(new_key));
  tenants[0].keys = {StoredHash(new_key)};
  ASSERT_TRUE((*auth)->SetKeys(tenants).ok());
  EXPECT_FALSE(knows(old_key));
  EXPECT_TRUE(knows(new_key));

  tenants[0].keys = {{.sha256_hex = "no digest"}};
  EXPECT_FALSE((*auth)->SetKeys(tenants).ok());
  EXPECT_TRUE(knows(new_key));
  tenants[0].keys.clear();  // who is gone from the file
  ASSERT_TRUE((*auth)->SetKeys(tenants).ok());
  EXPECT_FALSE(knows(new_key));
}

}  // namespace
}  // namespace holdfast
