#include "server/http_router.h"

#include <gtest/gtest.h>

#include <string_view>

namespace holdfast {
namespace {

TEST(HttpRouterTest, OnePathMayHaveSeveralMethods) {
  const RouteMatch list = MatchRoute(HttpDoor::kOnly, "GET", "/admin/v1/pins");
  ASSERT_NE(list.route, nullptr);
  EXPECT_TRUE(list.method_allowed);
  EXPECT_EQ(list.route->endpoint, HttpEndpoint::kAdminPins);
  const RouteMatch drop = MatchRoute(HttpDoor::kOnly, "DELETE", "/admin/v1/pins");
  EXPECT_TRUE(drop.method_allowed);
  EXPECT_EQ(drop.route->endpoint, HttpEndpoint::kAdminDropPins);
  const RouteMatch other = MatchRoute(HttpDoor::kOnly, "POST", "/admin/v1/pins");
  ASSERT_NE(other.route, nullptr);
  EXPECT_FALSE(other.method_allowed);
  EXPECT_EQ(AllowedMethods(*other.route), "GET, HEAD, DELETE, OPTIONS");
  EXPECT_EQ(AllowedMethods(*MatchRoute(HttpDoor::kOnly, "GET", "/v1/models").route),
            "GET, HEAD, OPTIONS");
  EXPECT_EQ(AllowedMethods(*MatchRoute(HttpDoor::kOnly, "POST", "/tokenize").route),
            "POST, OPTIONS");
}

TEST(HttpRouterTest, TheQueueHasTwoPaths) {
  for (const char* path : {"/admin/queue", "/admin/v1/queue"}) {
    const RouteMatch match = MatchRoute(HttpDoor::kOnly, "GET", path);
    ASSERT_NE(match.route, nullptr) << path;
    EXPECT_EQ(match.route->endpoint, HttpEndpoint::kAdminQueue);
    EXPECT_EQ(match.route->key, KeyNeed::kAlways);
  }
}

TEST(HttpRouterTest, WhereAdministrationHasAPortOfItsOwnItIsThereAloneAndAloneThere) {
  int administration = 0;
  for (const Route& route : Routes()) {
    const auto is_behind = [&](HttpDoor door) {
      const RouteMatch match = MatchRoute(door, route.method, route.path);
      return match.route != nullptr && match.route->endpoint == route.endpoint;
    };
    const bool is_admin = std::string_view(route.path).starts_with("/admin");
    administration += is_admin ? 1 : 0;
    EXPECT_EQ(is_behind(HttpDoor::kTenants), !is_admin) << route.path;
    EXPECT_EQ(is_behind(HttpDoor::kAdministrators), is_admin || route.key != KeyNeed::kAlways)
        << route.path;
    // To reload is no tenant's affair.
    EXPECT_EQ(is_behind(HttpDoor::kOnly), route.endpoint != HttpEndpoint::kAdminReload)
        << route.path;
  }
  EXPECT_EQ(administration, 8);
}

TEST(HttpRouterTest, ASessionInAPathMayHoldAnything) {
  EXPECT_EQ(MatchRoute(HttpDoor::kOnly, "DELETE", "/admin/v1/pins/a%2Fb/c%20d%3F").param,
            "a/b/c d?");
  EXPECT_EQ(MatchRoute(HttpDoor::kOnly, "DELETE", "/admin/v1/pins/").route, nullptr);
}

TEST(HttpRouterTest, AnIdMayStandWithinAPath) {
  const RouteMatch match =
      MatchRoute(HttpDoor::kOnly, "POST", "/v1/chat/completions/chatcmpl-7/cancel");
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->endpoint, HttpEndpoint::kCancelChat);
  EXPECT_EQ(match.param, "chatcmpl-7");
  EXPECT_EQ(MatchRoute(HttpDoor::kOnly, "POST", "/v1/chat/completions//cancel").route, nullptr);
  EXPECT_EQ(MatchRoute(HttpDoor::kOnly, "POST", "/v1/chat/completions/cancel").route, nullptr);
  EXPECT_EQ(MatchRoute(HttpDoor::kOnly, "POST", "/v1/chat/completions").route->endpoint,
            HttpEndpoint::kChatCompletions);
  EXPECT_EQ(MatchRoute(HttpDoor::kOnly, "POST", "/v1/chat/completions/x").route, nullptr);
}

TEST(HttpRouterTest, QueryValuesAreFoundByName) {
  EXPECT_EQ(QueryValue("", "tenant"), "");
  EXPECT_EQ(QueryValue("tenant=red", "tenant"), "red");
  EXPECT_EQ(QueryValue("a=1&tenant=r%65d&tenant=blue", "tenant"), "red");
  EXPECT_EQ(QueryValue("tenant", "tenant"), "");
  EXPECT_EQ(QueryValue("&&=&tenants=red&", "tenant"), "");
}

}  // namespace
}  // namespace holdfast
