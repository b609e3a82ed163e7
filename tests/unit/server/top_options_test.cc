#include "server/top_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

absl::StatusOr<TopOptions> Options(std::vector<std::string> words,
                                   const DaemonConfig& config = {}) {
  words.insert(words.begin(), "top");
  const auto line = ParseCommandLine(words);
  if (!line.ok()) return line.status();
  return TopOptionsOf(*line, config);
}

std::string Refusal(std::vector<std::string> words, const DaemonConfig& config = {}) {
  const auto options = Options(std::move(words), config);
  return options.ok() ? "" : std::string(options.status().message());
}

TEST(TopOptionsTest, WithoutFlagsTheDaemonOfThisMachineIsLookedAt) {
  const auto options = Options({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->url, "http://127.0.0.1:8080");
  EXPECT_EQ(options->interval, absl::Seconds(2));
  EXPECT_EQ(options->frames, TopOptions::Frames::kUntilStopped);
  EXPECT_TRUE(options->daemon.headers.empty());
}

TEST(TopOptionsTest, AUrlNamesTheDaemon) {
  struct Case {
    std::string url, shown, host;
    int port;
    HttpQuestion::Tls tls;
  };
  for (const Case& c :
       {Case{"http://localhost:81/", "http://localhost:81", "localhost", 81,
             HttpQuestion::Tls::kNone},
        Case{"HTTP://h", "http://h:80", "h", 80, HttpQuestion::Tls::kNone},
        Case{"https://[::1]:8443", "https://[::1]:8443", "::1", 8443, HttpQuestion::Tls::kChecked},
        Case{"https://h", "https://h:443", "h", 443, HttpQuestion::Tls::kChecked}}) {
    const auto options = Options({"--url", c.url});
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->url, c.shown);
    EXPECT_EQ(options->daemon.host, c.host);
    EXPECT_EQ(options->daemon.port, c.port);
    EXPECT_EQ(options->daemon.tls, c.tls);
  }
  for (const char* url : {"127.0.0.1:8080", "localhost:8080", "ftp://h", "http://", "http://h:0",
                          "http://h:65536", "http://h/admin", "http://h?q", "http://u:p@h", "h"}) {
    EXPECT_THAT(Refusal({"--url", url}), HasSubstr("wanted http://HOST:PORT")) << url;
  }
}

TEST(TopOptionsTest, AConfigurationNamesItsPortForAdministratorsWhereItHasOne) {
  DaemonConfig config;
  config.listen.http = "0.0.0.0:9000";
  EXPECT_EQ(Options({}, config)->url, "http://127.0.0.1:9000");
  config.listen.http = "[::]:9000";
  config.listen.tls.emplace();
  EXPECT_EQ(Options({}, config)->url, "https://[::1]:9000");
  EXPECT_EQ(Options({}, config)->daemon.tls, HttpQuestion::Tls::kUnchecked);
  config.admin.keys.emplace_back();
  EXPECT_EQ(Options({}, config)->url, "https://127.0.0.1:8081");
  config.admin.http = "127.0.0.1:0";
  EXPECT_THAT(Refusal({}, config), HasSubstr("`admin.http` has port 0"));
}

TEST(TopOptionsTest, TimesAndFilesThatCannotBeAreRefused) {
  EXPECT_EQ(Options({"--interval", "100ms", "--once"})->frames, TopOptions::Frames::kOnce);
  EXPECT_THAT(Refusal({"--interval", "99ms"}), HasSubstr("--interval: wanted a time from 100ms"));
  EXPECT_THAT(Refusal({"--interval", "2h"}), HasSubstr("to 1h, found `2h`"));
  EXPECT_THAT(Refusal({"--interval", "often"}), HasSubstr("found `often`"));
  EXPECT_THAT(Refusal({"--tls-ca", "ca.pem"}), HasSubstr("it is for --url https://"));
  EXPECT_THAT(Refusal({"--key-file", "/nowhere"}), HasSubstr("/nowhere: wanted a key"));
}

class TopKeyTest : public testing::Test {
 protected:
  ~TopKeyTest() override { std::remove(path_.c_str()); }
  void Write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }
  const std::string path_ = absl::StrCat(testing::TempDir(), "/top_key_", getpid());
};

TEST_F(TopKeyTest, AKeyIsTheFirstLineOfItsFile) {
  Write(" hf-abc\r\nmore\n");
  const auto options = Options({"--key-file", path_});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->has_key);
  EXPECT_THAT(options->daemon.headers, ElementsAre(Pair("Authorization", "Bearer hf-abc")));
}

TEST_F(TopKeyTest, WhatCannotBeAKeyIsRefusedAndNotShown) {
  for (const char* text : {"\n", "  \nhf-abc\n", "two words\n", "esc\x1b[m\n", "\xc3\xa9\n"}) {
    Write(text);
    EXPECT_THAT(Refusal({"--key-file", path_}), HasSubstr("its first line is no key")) << text;
  }
}

TEST_F(TopKeyTest, AKeyGoesOverANetworkUnderTlsAlone) {
  Write("hf-abc\n");
  EXPECT_THAT(Refusal({"--key-file", path_, "--url", "http://10.0.0.1:8080"}),
              HasSubstr("for all to read on the way"));
  DaemonConfig config;
  config.listen.http = "10.0.0.1:8080";
  config.listen.tls.emplace();
  EXPECT_THAT(Refusal({"--key-file", path_}, config), HasSubstr("whoever that is"));
  for (const char* url : {"https://10.0.0.1:8080", "http://localhost:1", "http://[::1]:1"}) {
    EXPECT_EQ(Refusal({"--key-file", path_, "--url", url}), "");
  }
}

}  // namespace
}  // namespace holdfast
