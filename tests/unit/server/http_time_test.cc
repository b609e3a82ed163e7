// What is too slow is cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using HttpTimeTest = HttpServerFixture;

TEST_F(HttpTimeTest, ARequestThatTakesTooLongIsAnswered504) {
  Begin({.request_timeout = absl::Milliseconds(20)});
  const Response response = Ask(Post("/v1/chat/completions", Chat()));
  EXPECT_EQ(response.status, 504);
  EXPECT_TRUE(service_.stream(0)->cancelled.HasBeenNotified());
}

TEST_F(HttpTimeTest, SlowClientsAreCutOff) {
  Begin({.header_timeout = absl::Milliseconds(30),
         .body_timeout = absl::Milliseconds(30),
         .idle_timeout = absl::Milliseconds(30)});
  Client silent(server_->port());
  EXPECT_TRUE(silent.AtEnd());
  Client half_header(server_->port());
  half_header.Send("GET /version HT");
  EXPECT_EQ(half_header.Read().status, 408);
  EXPECT_TRUE(half_header.AtEnd());
  Client half_body(server_->port());
  half_body.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n"
      "Content-Length: 9\r\n\r\n{");
  EXPECT_EQ(half_body.Read().status, 408);
  EXPECT_TRUE(half_body.AtEnd());
  Client idle(server_->port());
  idle.Send(Get("/version"));
  EXPECT_EQ(idle.Read().status, 200);
  EXPECT_TRUE(idle.AtEnd());
}

}  // namespace
}  // namespace holdfast
