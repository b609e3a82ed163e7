// Loading, failing, draining and stopping, as a client sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/health_check.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using HttpDrainTest = HttpServerFixture;

TEST_F(HttpDrainTest, NotReadyRefusesWorkAndSaysSo) {
  readiness_ = Readiness::kLoading;
  Begin();
  Response response = Ask(Get("/health/ready"));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.body, R"({"status":"loading"})");
  EXPECT_EQ(Ask(Get("/health/live")).status, 200);
  response = Ask(Post("/v1/chat/completions", Chat()));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(ErrorField(response, "code"), "not_ready");
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  readiness_ = Readiness::kFailing;
  EXPECT_EQ(Ask(Get("/health/ready")).body, R"({"status":"failing"})");
  response = Ask(Post("/v1/chat/completions", Chat()));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(ErrorField(response, "code"), "engine_failing");
  readiness_ = Readiness::kReady;
  EXPECT_EQ(Ask(Get("/health")).status, 200);
}

TEST_F(HttpDrainTest, AHealthCheckSaysWhatReadinessSays) {
  Begin();
  DaemonConfig config;
  config.listen.http = absl::StrCat("0.0.0.0:", server_->port());  // by loopback all the same
  auto health = CheckHealth(config);
  ASSERT_TRUE(health.ok()) << health.status();
  EXPECT_EQ(*health, R"({"status":"ready"})");
  readiness_ = Readiness::kLeaving;
  health = CheckHealth(config);
  EXPECT_EQ(health.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(health.status().message()),
              HasSubstr(R"(is not ready: {"status":"leaving"})"));
  server_.reset();
  EXPECT_THAT(std::string(CheckHealth(config).status().message()), HasSubstr("does not answer"));
  config.listen.http = "127.0.0.1:0";
  EXPECT_EQ(CheckHealth(config).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HttpDrainTest, LeavingSaysSoAndStillTakesWork) {
  Begin();
  Client waiting(server_->port());
  waiting.Send(Get("/version"));
  EXPECT_EQ(waiting.Read().status, 200);
  readiness_ = Readiness::kLeaving;
  EXPECT_EQ(Ask(Get("/health/ready")).status, 503);
  EXPECT_EQ(Ask(Get("/health/ready")).body, R"({"status":"leaving"})");
  // Also on a connection that a balancer has kept, and which then has to open another elsewhere.
  waiting.Send(Post("/v1/chat/completions", Chat()));
  const auto stream = service_.stream(0);
  stream->Push(PromptInfo{});
  stream->PushText("taken");
  stream->PushEnd();
  const Response response = waiting.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(waiting.AtEnd());
}

TEST_F(HttpDrainTest, DrainingFinishesWhatRunsAndClosesAfterIt) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  Client waiting(server_->port());
  waiting.Send(Get("/version"));
  EXPECT_EQ(waiting.Read().status, 200);
  server_->BeginDrain();
  EXPECT_FALSE(server_->WaitIdle(absl::Now()));
  Response response = Ask(Get("/health/ready"));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.at("connection"), "close");
  waiting.Send(Post("/v1/chat/completions", Chat()));
  response = waiting.Read();
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(ErrorField(response, "code"), "draining");
  EXPECT_TRUE(waiting.AtEnd());
  stream->Push(PromptInfo{});
  stream->PushText("still here");
  stream->PushEnd();
  EXPECT_THAT(client.Read().body, AllOf(HasSubstr("still here"), HasSubstr("[DONE]")));
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
}

TEST_F(HttpDrainTest, StoppingCutsConnectionsAndCancelsTheirGenerations) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  Client idle(server_->port());
  server_->Stop();
  server_->Stop();
  EXPECT_TRUE(stream->cancelled.HasBeenNotified());
  EXPECT_TRUE(client.AtEnd());
  server_.reset();
  stream->PushText("late");  // what comes late finds nobody, and harms nobody
}

}  // namespace
}  // namespace holdfast
