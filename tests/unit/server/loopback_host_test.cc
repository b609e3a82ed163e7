#include "server/loopback_host.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(LoopbackHostTest, NamesAndAddressesOfThisMachineAreKnownWithAndWithoutPort) {
  for (const char* host :
       {"localhost", "localhost:8080", "LocalHost:1", "localhost.", "localhost.:80",
        "chat.localhost", "a.b.localhost:3000", "127.0.0.1", "127.0.0.1:8080", "127.255.1.2:1",
        "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]:80", "[0:0:0:0:0:0:0:1]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
}

TEST(LoopbackHostTest, WhatOnlyLooksAlikeIsNot) {
  for (const char* host : {"evil.example",
                           "evil.example:8080",
                           "localhost.evil.example",
                           "evil-localhost",
                           "localhost:8080:80x",
                           "localhost@evil.example",
                           "evil.example/localhost",
                           "127.0.0.1.nip.io",
                           "127.1",
                           "2130706433",
                           "0x7f000001",
                           "0177.0.0.1",
                           "0.0.0.0:8080",
                           "[::]",
                           "[::2]:80",
                           "[::1",
                           "::1",
                           "[::1].evil.example",
                           "[::1]evil",
                           "[::ffff:10.0.0.1]",
                           "10.0.0.1",
                           "",
                           ":80",
                           "[]",
                           "]:80",
                           "."}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

TEST(LoopbackHostTest, AnOriginIsItsHostAndNullIsNowhere) {
  for (const char* origin : {"http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080",
                             "http://app.localhost", "tauri://localhost"}) {
    EXPECT_TRUE(IsLoopbackOrigin(origin)) << origin;
  }
  for (const char* origin : {"null", "", "localhost", "https://evil.example", "file://", "http://",
                             "https://evil.example://localhost", "chrome-extension://abcdef"}) {
    EXPECT_FALSE(IsLoopbackOrigin(origin)) << origin;
  }
}

}  // namespace
}  // namespace holdfast
