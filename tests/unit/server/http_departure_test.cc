// Who leaves, stalls or breaks takes its own generation along and nobody else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <string>

#include "absl/synchronization/notification.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

using HttpDepartureTest = HttpServerFixture;

TEST_F(HttpDepartureTest, AClientThatLeavesCancelsItsGeneration) {
  Begin();
  for (const char* more : {"", R"(,"stream":true)"}) {
    const size_t index = service_.num_started();
    Client client(server_->port());
    client.Send(Post("/v1/chat/completions", Chat(more)));
    const auto stream = service_.stream(index);
    stream->Push(PromptInfo{});
    if (*more != '\0') client.Until("assistant");
    client.Leave();
    EXPECT_TRUE(stream->cancelled.WaitForNotificationWithTimeout(kPatience)) << more;
  }
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  EXPECT_THAT(
      metrics_.Serialize(),
      HasSubstr(R"(holdfast_http_requests_total{code="499",route="/v1/chat/completions"} 2)"));
}

TEST_F(HttpDepartureTest, AClientMayLeaveWhileItsPromptIsStillATask) {
  Begin();
  for (const char* more : {"", R"(,"stream":true)"}) {
    const size_t index = service_.num_started();
    Client client(server_->port());
    client.Send(Post("/v1/chat/completions", Chat(more)));
    const auto stream = service_.stream(index);  // which has said nothing yet
    client.Leave();
    EXPECT_TRUE(stream->cancelled.WaitForNotificationWithTimeout(kPatience)) << more;
  }
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
}

TEST_F(HttpDepartureTest, AClientThatLeavesHasItsTextDroppedFromTheTokenizersQueue) {
  absl::Notification asked;
  TextCaller waiting;
  service_.on_tokenize = [&](TextCaller caller) {
    waiting = std::move(caller);
    asked.Notify();
  };
  Begin();
  Client client(server_->port());
  client.Send(Post("/tokenize", R"({"prompt":"ab"})"));
  ASSERT_TRUE(asked.WaitForNotificationWithTimeout(kPatience));
  EXPECT_EQ(waiting.tenant, TenantIndex{1});
  client.Leave();
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  EXPECT_TRUE(waiting.gone->load());
}

TEST_F(HttpDepartureTest, AReaderThatStallsIsCancelled) {
  Begin({.write_timeout = absl::Milliseconds(100)});
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  stream->Push(PromptInfo{});
  const std::string much(1 << 20, 'x');  // more than the two sockets buffer, in the end
  for (int i = 0; i < 32; ++i) stream->PushText(much);
  EXPECT_TRUE(stream->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpDepartureTest, WhatThrowsEndsItsConnectionAndIsNoLongerInFlight) {
  service_.on_start = [](const GenerationRequest&, FakeStream&) { throw std::bad_alloc(); };
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat()));
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  EXPECT_EQ(Ask(Get("/v1/models")).status, 200);
}

}  // namespace
}  // namespace holdfast
