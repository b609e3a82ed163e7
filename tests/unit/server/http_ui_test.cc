// The page at /ui through real sockets: what its answers are on the wire, and what each port says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/admin.h"
#include "server/ui_files.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

constexpr std::array kFiles = {
    UiFile{"index.html", "text/html; charset=utf-8", "11", "<p>page</p>", "packed"}};

class HttpUiTest : public HttpServerFixture {
 protected:
  // Without a key.
  Response Fetch(int port, const std::string& path, const std::string& more = "",
                 const std::string& method = "GET") {
    Client client(port);
    client.Send(absl::StrCat(method, " ", path, " HTTP/1.1\r\nHost: node-7\r\n", more, "\r\n"));
    return client.Read(method == "HEAD");
  }
};

TEST_F(HttpUiTest, ThePageNeedsNoKeyAndGoesOutPackedOrNot) {
  Begin({.loopback_names_only = true, .ui = kFiles});
  const int port = server_->port();
  Response page = Fetch(port, "/ui/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.body, "<p>page</p>");
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.headers.at("x-content-type-options"), "nosniff");
  page = Fetch(port, "/ui/", "Accept-Encoding: gzip, br\r\n");
  EXPECT_EQ(page.body, "packed");
  EXPECT_EQ(page.headers.at("content-encoding"), "gzip");
  page = Fetch(port, "/ui/", "", "HEAD");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.at("content-length"), "11");
  EXPECT_EQ(Fetch(port, "/ui").headers.at("location"), "ui/");
  EXPECT_EQ(Fetch(port, "/ui/none").status, 404);
  EXPECT_EQ(Fetch(port, "/ui/", "", "POST").status, 405);
}

TEST_F(HttpUiTest, WhatIsKnownIsNotSentAndTheConnectionGoesOn) {
  Begin({.ui = kFiles});
  Client client(server_->port());
  for (int i = 0; i < 2; ++i) {
    client.Send("GET /ui/ HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"11\"\r\n\r\n");
    const Response known = client.Read();
    EXPECT_EQ(known.status, 304);
    EXPECT_EQ(known.headers.at("etag"), "\"11\"");
    EXPECT_EQ(known.headers.count("content-length"), 0u);
  }
}

TEST_F(HttpUiTest, APortSaysWhatIsBehindIt) {
  const KvAdmin kv_admin({});
  const auto port_of = [this](int port) {
    const auto json = ParseJson(Fetch(port, "/ui/port").body);
    EXPECT_TRUE(json.ok());
    return absl::StrCat((*json)["chat"].get<bool>() ? "chat " : "",
                        (*json)["admin"].get<bool>() ? "admin " : "",
                        (*json)["metrics"].get<bool>() ? "metrics " : "",
                        (*json)["needs_key"].get<bool>() ? "key" : "");
  };
  Begin();
  EXPECT_EQ(port_of(server_->port()), "chat metrics key");
  Begin({.kv_admin = &kv_admin});
  EXPECT_EQ(port_of(server_->port()), "chat admin metrics key");
  Begin({.kv_admin = &kv_admin,
         .admin = HttpServerOptions::AdminPort{"127.0.0.1:0", &authenticator_},
         .ui = kFiles});
  EXPECT_EQ(port_of(server_->port()), "chat metrics key");
  EXPECT_EQ(port_of(server_->admin_port()), "admin metrics key");
  EXPECT_EQ(Fetch(server_->admin_port(), "/ui/").status, 200);
}

}  // namespace
}  // namespace holdfast
