#include "server/http_router.h"

#include <gtest/gtest.h>

namespace holdfast {
namespace {

TEST(HttpRouterTest, OnePathMayHaveSeveralMethods) {
  const RouteMatch list = MatchRoute("GET", "/admin/v1/pins");
  ASSERT_NE(list.route, nullptr);
  EXPECT_TRUE(list.method_allowed);
  EXPECT_EQ(list.route->endpoint, HttpEndpoint::kAdminPins);
  const RouteMatch drop = MatchRoute("DELETE", "/admin/v1/pins");
  EXPECT_TRUE(drop.method_allowed);
  EXPECT_EQ(drop.route->endpoint, HttpEndpoint::kAdminDropPins);
  const RouteMatch other = MatchRoute("POST", "/admin/v1/pins");
  ASSERT_NE(other.route, nullptr);
  EXPECT_FALSE(other.method_allowed);
  EXPECT_EQ(AllowedMethods(*other.route), "GET, HEAD, DELETE, OPTIONS");
  EXPECT_EQ(AllowedMethods(*MatchRoute("GET", "/v1/models").route), "GET, HEAD, OPTIONS");
  EXPECT_EQ(AllowedMethods(*MatchRoute("POST", "/tokenize").route), "POST, OPTIONS");
}

TEST(HttpRouterTest, TheQueueHasTwoPaths) {
  for (const char* path : {"/admin/queue", "/admin/v1/queue"}) {
    const RouteMatch match = MatchRoute("GET", path);
    ASSERT_NE(match.route, nullptr) << path;
    EXPECT_EQ(match.route->endpoint, HttpEndpoint::kAdminQueue);
    EXPECT_EQ(match.route->key, KeyNeed::kAlways);
  }
}

TEST(HttpRouterTest, ASessionInAPathMayHoldAnything) {
  EXPECT_EQ(MatchRoute("DELETE", "/admin/v1/pins/a%2Fb/c%20d%3F").param, "a/b/c d?");
  EXPECT_EQ(MatchRoute("DELETE", "/admin/v1/pins/").route, nullptr);
}

TEST(HttpRouterTest, AnIdMayStandWithinAPath) {
  const RouteMatch match = MatchRoute("POST", "/v1/chat/completions/chatcmpl-7/cancel");
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->endpoint, HttpEndpoint::kCancelChat);
  EXPECT_EQ(match.param, "chatcmpl-7");
  EXPECT_EQ(MatchRoute("POST", "/v1/chat/completions//cancel").route, nullptr);
  EXPECT_EQ(MatchRoute("POST", "/v1/chat/completions/cancel").route, nullptr);
  EXPECT_EQ(MatchRoute("POST", "/v1/chat/completions").route->endpoint,
            HttpEndpoint::kChatCompletions);
  EXPECT_EQ(MatchRoute("POST", "/v1/chat/completions/x").route, nullptr);
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
