#include "server/reuse_scope.h"

#include <gtest/gtest.h>

#include <set>

#include "absl/strings/escaping.h"

namespace holdfast {
namespace {

ReuseScopeParts Parts() {
  ReuseScopeParts parts{.owner_name = "team", .cache_salt = "", .kv_layout = "f16/30/3/64"};
  parts.model_digest.fill(7);
  return parts;
}

TEST(ReuseScopeTest, IsEqualForEqualParts) {
  EXPECT_EQ(MakeReuseScope(Parts()), MakeReuseScope(Parts()));
}

TEST(ReuseScopeTest, DiffersInEachPart) {
  std::set<ReuseScope> scopes = {MakeReuseScope(Parts())};
  auto add = [&](auto change) {
    ReuseScopeParts parts = Parts();
    change(parts);
    EXPECT_TRUE(scopes.insert(MakeReuseScope(parts)).second);
  };
  add([](auto& p) { p.owner = ReuseScopeParts::Owner::kSharingGroup; });
  add([](auto& p) { p.owner_name = "team2"; });
  add([](auto& p) { p.cache_salt = "s"; });
  add([](auto& p) { p.model_digest[31] = 8; });
  add([](auto& p) { p.kv_layout = "f32/30/3/64"; });
}

TEST(ReuseScopeTest, ASaltCannotSpeakForAnotherTenant) {
  ReuseScopeParts a = Parts(), b = Parts();
  a.owner_name = "ab";
  a.cache_salt = "c";
  b.owner_name = "a";
  b.cache_salt = "bc";
  EXPECT_NE(MakeReuseScope(a), MakeReuseScope(b));
}

}  // namespace
}  // namespace holdfast
