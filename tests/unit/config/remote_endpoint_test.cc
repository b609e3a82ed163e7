#include "config/remote_endpoint.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(RemoteEndpointTest, ReadsHostsAddressesAndSockets) {
  const struct {
    const char* text;
    const char* host;
    int port;
  } kCases[] = {{"cache.internal:6379", "cache.internal", 6379},
                {"10.0.0.7:1", "10.0.0.7", 1},
                {"[::1]:65535", "::1", 65535},
                {"redis://cache:6379", "cache", 6379},
                {"valkey://[fe80::1]:6379", "fe80::1", 6379}};
  for (const auto& c : kCases) {
    const auto endpoint = ParseRemoteEndpoint(c.text);
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    EXPECT_EQ(endpoint->host, c.host);
    EXPECT_EQ(endpoint->port, c.port);
    EXPECT_EQ(endpoint->socket_path, "");
  }
  EXPECT_EQ(ParseRemoteEndpoint("unix:/run/a b.sock")->socket_path, "/run/a b.sock");
}

TEST(RemoteEndpointTest, RefusesWhatNamesNoServer) {
  for (const char* text : {"", "cache", "cache:", ":6379", "cache:0", "cache:65536", "cache:6379x",
                           "::1:6379", "[::1:6379", "unix:", "rediss://cache:6379",
                           "redis://me:secret@cache:6379", "redis://cache:6379/0", "a b:1"}) {
    EXPECT_FALSE(ParseRemoteEndpoint(text).ok()) << text;
  }
}

}  // namespace
}  // namespace holdfast
