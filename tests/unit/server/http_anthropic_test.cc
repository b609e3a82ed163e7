// Anthropic's endpoints of the HTTP front, and their errors wherever they arise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using HttpAnthropicTest = HttpServerFixture;

std::string Message(const std::string& more = "") {
  return absl::StrCat(R"({"max_tokens":9,"messages":[{"role":"user","content":"hi"}])", more, "}");
}

std::string PostWithKey(const std::string& header, const std::string& body) {
  return absl::StrCat("POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\n", header,
                      "anthropic-version: 2023-06-01\r\nanthropic-beta: a,b\r\nContent-Length: ",
                      body.size(), "\r\n\r\n", body);
}

TEST_F(HttpAnthropicTest, AMessageIsAnsweredToTheTenantOfItsKey) {
  service_.on_start = AnswerWithText;
  Begin();
  for (const char* key : {"x-api-key: k1\r\n", "Authorization: Bearer k1\r\n"}) {
    const Response response = Ask(PostWithKey(key, Message()));
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.headers.at("request-id"), response.headers.at("x-request-id"));
    const Json body = *ParseJson(response.body);
    EXPECT_EQ(body["content"][0]["text"], "Paris");
    EXPECT_EQ(body["stop_reason"], "end_turn");
    EXPECT_EQ(body["model"], "org/tiny");
    EXPECT_THAT(body["id"].get<std::string>(), StartsWith("msg_"));
  }
  EXPECT_EQ(service_.request(1).tenant, TenantIndex{1});
  EXPECT_NE(service_.request(0).sampling.seed, service_.request(1).sampling.seed);
}

TEST_F(HttpAnthropicTest, AStreamGoesOutAsItComesAndCanBeLeft) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/messages", Message(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  EXPECT_THAT(service_.request(0).wire_id, StartsWith("msg_"));
  stream->Push(PromptInfo{.prompt_tokens = 3});
  EXPECT_THAT(client.Until("\r\n\r\n"), HasSubstr("text/event-stream"));
  EXPECT_THAT(client.Until("\n\n"), HasSubstr("event: message_start\n"));
  stream->PushText("one");
  EXPECT_THAT(client.Until("text_delta"), HasSubstr("event: content_block_start\n"));
  stream->PushEnd();
  EXPECT_THAT(client.Until("0\r\n\r\n"),
              AllOf(HasSubstr("event: message_delta\n"), HasSubstr("event: message_stop\n")));
  client.Send(Post("/v1/messages", Message(R"(,"stream":true)")));
  const auto left = service_.stream(1);
  left->Push(PromptInfo{});
  client.Until("message_start");
  client.Leave();
  EXPECT_TRUE(left->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpAnthropicTest, AnErrorAfterTheFirstByteIsAnEvent) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/messages", Message(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  stream->Push(PromptInfo{});
  client.Until("message_start");
  stream->Push(GenerationDone{.status = absl::UnavailableError("device lost")});
  EXPECT_THAT(client.Until("0\r\n\r\n"),
              AllOf(HasSubstr("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
                              "\"overloaded_error\",\"message\":\"device lost\""),
                    Not(HasSubstr("message_stop"))));
}

TEST_F(HttpAnthropicTest, ErrorsHaveItsFormWhereverTheyArise) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("the queue is full")});
  };
  Begin({.body_bytes_max = 200});
  const auto check = [this](const std::string& request, int status, const char* type) {
    const Response response = Ask(request);
    EXPECT_EQ(response.status, status) << request;
    const auto body = ParseJson(response.body);
    ASSERT_TRUE(body.ok()) << response.body;
    EXPECT_EQ((*body)["type"], "error");
    EXPECT_EQ((*body)["error"]["type"], type) << response.body;
    EXPECT_EQ((*body)["request_id"], response.headers.at("request-id"));
  };
  check(PostWithKey("", Message()), 401, "authentication_error");
  check(PostWithKey("x-api-key: k2\r\n", Message()), 401, "authentication_error");
  check(Get("/v1/messages"), 405, "invalid_request_error");
  check(Post("/v1/messages", std::string(201, ' ')), 413, "request_too_large");
  check(Post("/v1/messages", "{"), 400, "invalid_request_error");
  check(Post("/v1/messages", Message(R"(,"model":"huge")")), 404, "not_found_error");
  check(Post("/v1/messages", Message()), 429, "rate_limit_error");
  check(Post("/v1/messages", Message(R"(,"stream":true)")), 429, "rate_limit_error");
  check(Post("/v1/messages/count_tokens", "{}"), 400, "invalid_request_error");
  readiness_ = Readiness::kDraining;
  check(Post("/v1/messages", Message()), 503, "overloaded_error");
}

TEST_F(HttpAnthropicTest, TokensOfAConversationAreCounted) {
  Begin();
  // The fake refuses conversations: what comes back is what a text worker said.
  const Response response = Ask(Post("/v1/messages/count_tokens", Message()));
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(ErrorField(response, "message"), HasSubstr("the template refused"));
}

}  // namespace
}  // namespace holdfast
