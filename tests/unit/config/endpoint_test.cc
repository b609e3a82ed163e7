#include "config/endpoint.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(EndpointTest, AddressesInNumbersAreTaken) {
  const struct {
    const char* text;
    const char* host;
    int port;
    bool is_loopback;
  } kCases[] = {
      {"127.0.0.1:8080", "127.0.0.1", 8080, true},
      {"127.9.9.9:0", "127.9.9.9", 0, true},
      {"localhost:1", "127.0.0.1", 1, true},
      {"[::1]:65535", "::1", 65535, true},
      {"0.0.0.0:80", "0.0.0.0", 80, false},
      {"[::]:80", "::", 80, false},
      {"10.0.0.1:80", "10.0.0.1", 80, false},
      {"[2001:db8::1]:80", "2001:db8::1", 80, false},
      {"[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80, true},
      {"[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80, false},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.text);
    const auto endpoint = ParseEndpoint(c.text);
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    EXPECT_EQ(endpoint->host, c.host);
    EXPECT_EQ(endpoint->port, c.port);
    EXPECT_EQ(endpoint->is_loopback, c.is_loopback);
  }
}

TEST(EndpointTest, EverythingElseIsRefused) {
  for (const char* text : {"",
                           ":",
                           "8080",
                           ":8080",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:65536",
                           "127.0.0.1:-1",
                           "127.0.0.1:+1",
                           "127.0.0.1:1x",
                           "127.0.0.1: 1",
                           "127.0.0.1:000001",
                           "127.1:80",
                           "256.0.0.1:80",
                           "::1:80",
                           "[::1]80",
                           "[::1",
                           "[]:80",
                           "[127.0.0.1]:80",
                           "example.org:80",
                           "127.0.0.1 :80"}) {
    EXPECT_FALSE(ParseEndpoint(text).ok()) << text;
  }
}

}  // namespace
}  // namespace holdfast
