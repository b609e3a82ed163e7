#include "server/ui_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>

namespace holdfast {
namespace {

using testing::HasSubstr;

constexpr std::array kFiles = {
    UiFile{"assets/index-abc.js", "text/javascript; charset=utf-8", "22", "let a;", "packed js"},
    UiFile{"index.html", "text/html; charset=utf-8", "11", "<p>page</p>", "packed page"},
};

HttpRequest RequestOf(const std::string& path) {
  const RouteMatch match = MatchRoute(HttpDoor::kOnly, "GET", path);
  EXPECT_NE(match.route, nullptr) << path;
  HttpRequest request;
  request.route = match.route;
  request.param = match.param;
  return request;
}

std::map<std::string, std::string> HeadersOf(const HttpReply& reply) {
  return {reply.headers.begin(), reply.headers.end()};
}

TEST(UiFilesTest, ThePageLiesBehindASlashSoThatItsFilesAreBesideIt) {
  const HttpReply leads = UiReply(kFiles, RequestOf("/ui"));
  EXPECT_EQ(leads.status, 308);
  EXPECT_EQ(HeadersOf(leads)["Location"], "ui/");
  const HttpReply page = UiReply(kFiles, RequestOf("/ui/"));
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.body, "<p>page</p>");
  EXPECT_STREQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_EQ(UiReply(kFiles, RequestOf("/ui/index.html")).body, page.body);
}

TEST(UiFilesTest, WhatIsNotThereIsNotFound) {
  for (const char* path : {"/ui/assets/", "/ui/assets/index-abd.js", "/ui/../ui_files.cc",
                           "/ui/%2e%2e/index.html", "/ui/ index.html"}) {
    const HttpReply reply = UiReply(kFiles, RequestOf(path));
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_TRUE(reply.headers.empty()) << path;
  }
}

TEST(UiFilesTest, WithoutAPageEachPathSaysHowToHaveIt) {
  for (const char* path : {"/ui", "/ui/", "/ui/assets/index-abc.js"}) {
    const HttpReply reply = UiReply({}, RequestOf(path));
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_THAT(reply.body, HasSubstr("./dev build"));
    EXPECT_STREQ(reply.content_type, "text/plain; charset=utf-8");
  }
}

TEST(UiFilesTest, NothingFromElsewhereIsAllowedIn) {
  for (const char* path : {"/ui/", "/ui/assets/index-abc.js"}) {
    auto headers = HeadersOf(UiReply(kFiles, RequestOf(path)));
    const std::string policy = headers["Content-Security-Policy"];
    EXPECT_TRUE(policy.starts_with("default-src 'none'")) << policy;
    for (const char* part : {"script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
                             "base-uri 'none'", "form-action 'none'"}) {
      EXPECT_THAT(policy, HasSubstr(part));
    }
    EXPECT_THAT(policy, testing::Not(HasSubstr("unsafe")));
    EXPECT_EQ(headers["Referrer-Policy"], "no-referrer");
  }
}

TEST(UiFilesTest, OnlyWhatHasItsHashInItsNameIsKeptUnasked) {
  EXPECT_THAT(HeadersOf(UiReply(kFiles, RequestOf("/ui/assets/index-abc.js")))["Cache-Control"],
              HasSubstr("immutable"));
  EXPECT_EQ(HeadersOf(UiReply(kFiles, RequestOf("/ui/")))["Cache-Control"], "no-cache");
}

TEST(UiFilesTest, WhoTakesGzipGetsIt) {
  HttpRequest request = RequestOf("/ui/");
  for (const char* takes : {"gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.5", "*", "*;q=0.1",
                            "identity, gzip ; q=0.001"}) {
    request.accept_encoding = takes;
    const HttpReply reply = UiReply(kFiles, request);
    EXPECT_EQ(reply.body, "packed page") << takes;
    EXPECT_EQ(HeadersOf(reply)["Content-Encoding"], "gzip") << takes;
  }
  for (const char* takes :
       {"", "br", "gzip;q=0", "gzip; q=0.0, *", "identity", "*;q=0", "gzipped", "gzip;q=x"}) {
    request.accept_encoding = takes;
    const HttpReply reply = UiReply(kFiles, request);
    EXPECT_EQ(reply.body, "<p>page</p>") << takes;
    EXPECT_EQ(HeadersOf(reply).count("Content-Encoding"), 0u) << takes;
    EXPECT_EQ(HeadersOf(reply)["Vary"], "Accept-Encoding");
  }
}

TEST(UiFilesTest, WhoHasItAlreadyIsToldSo) {
  HttpRequest request = RequestOf("/ui/");
  EXPECT_EQ(HeadersOf(UiReply(kFiles, request))["ETag"], "\"11\"");
  for (const char* has : {"\"11\"", "W/\"11\"", "\"10\", \"11\"", "*"}) {
    request.if_none_match = has;
    const HttpReply reply = UiReply(kFiles, request);
    EXPECT_EQ(reply.status, 304) << has;
    EXPECT_EQ(reply.body, "") << has;
    EXPECT_EQ(HeadersOf(reply)["ETag"], "\"11\"") << has;
  }
  for (const char* has : {"", "\"10\"", "11", "\"11-gzip\""}) {
    request.if_none_match = has;
    EXPECT_EQ(UiReply(kFiles, request).status, 200) << has;
  }
  // Packed it is other bytes, hence another tag.
  request.accept_encoding = "gzip";
  request.if_none_match = "\"11-gzip\"";
  EXPECT_EQ(UiReply(kFiles, request).status, 304);
}

}  // namespace
}  // namespace holdfast
