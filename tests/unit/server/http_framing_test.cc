// Where one HTTP request ends and the next begins, whatever the bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using HttpFramingTest = HttpServerFixture;

TEST_F(HttpFramingTest, APipelinedRequestIsNoDepartureAndWaitsItsTurn) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat()));
  const auto first = service_.stream(0);
  client.Send(Get("/version") + Get("/health/live"));
  first->Push(PromptInfo{});
  first->PushText("slow");
  first->PushEnd();
  EXPECT_THAT(client.Read().body, HasSubstr("slow"));
  EXPECT_THAT(client.Read().body, HasSubstr("1.2.3"));
  EXPECT_THAT(client.Read().body, HasSubstr("live"));
  EXPECT_FALSE(first->cancelled.HasBeenNotified());
}

TEST_F(HttpFramingTest, RequestsMayComeByteByByteAndInChunks) {
  service_.on_start = AnswerWithText;
  Begin();
  Client client(server_->port());
  for (const char byte : Post("/v1/chat/completions", Chat())) client.Send(std::string(1, byte));
  EXPECT_EQ(client.Read().status, 200);
  const std::string body = Chat();
  client.Send(
      absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\n",
                   body.substr(0, 5), "\r\n", absl::Hex(body.size() - 5), "\r\n", body.substr(5),
                   "\r\n0\r\nTrailer: x\r\n\r\n"));
  EXPECT_EQ(client.Read().status, 200);
  client.Send("\r\n" + Get("/version"));
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpFramingTest, ContinuesWhenAskedAndOnlyThen) {
  service_.on_start = AnswerWithText;
  Begin();
  const std::string body = Chat();
  const std::string header =
      absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n",
                   "Content-Length: ", body.size(), "\r\n");
  Client client(server_->port());
  client.Send(header + "Authorization: Bearer k1\r\n\r\n");
  EXPECT_EQ(client.Until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(body);
  EXPECT_EQ(client.Read().status, 200);
  // Without a key nobody is asked for a body.
  client.Send(header + "\r\n");
  EXPECT_EQ(client.Read().status, 401);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(HttpFramingTest, MalformedFramingIsRefusedAndTheConnectionClosed) {
  Begin({.header_bytes_max = 1024, .body_bytes_max = 100});
  const std::string start = "POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer k1\r\n";
  const std::string host = start + "Host: x\r\n";
  const std::vector<std::pair<std::string, int>> cases = {
      {"nonsense\r\n\r\n", 400},
      {"GET /version HTTP/2.0\r\nHost: x\r\n\r\n", 505},
      {start + "Content-Length: 2\r\n\r\n{}", 400},  // no Host
      {host + "Host: y\r\nContent-Length: 2\r\n\r\n{}", 400},
      {host + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {host + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", 400},
      {host + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
      {host + "Content-Length: -2\r\n\r\n", 400},
      {host + "Content-Length: 99999999999999999999999\r\n\r\n", 400},
      {host + "Transfer-Encoding: gzip\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n", 501},
      {"POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
      {host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {host + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}--\r\n", 400},
      {host + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", 413},
      {host + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(2000, 'e'), 431},
      {host + "Content-Length: 101\r\n\r\n", 413},
      {host + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415},
      {host + "Expect: wonders\r\nContent-Length: 2\r\n\r\n{}", 417},
      {host + "X: " + std::string(2000, 'x'), 431},
  };
  for (const auto& [request, status] : cases) {
    Client client(server_->port());
    client.Send(request);
    const Response response = client.Read();
    EXPECT_EQ(response.status, status) << request.substr(0, 200);
    EXPECT_TRUE(response.ended);
    EXPECT_THAT(response.headers, testing::Contains(testing::Pair("connection", "close")));
    EXPECT_TRUE(client.AtEnd()) << "what follows must not be taken for a request";
  }
  EXPECT_EQ(service_.num_started(), 0u);
}

TEST_F(HttpFramingTest, ABodyOfTheMostBytesIsRead) {
  service_.on_start = AnswerWithText;
  const std::string body = Chat();
  Begin({.body_bytes_max = body.size()});
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body)).status, 200);
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body + " ")).status, 413);
}

TEST_F(HttpFramingTest, AllBodiesTogetherHaveABound) {
  Begin({.bodies_bytes_max = 10});
  const Response response = Ask(Post("/v1/chat/completions", Chat()));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(ErrorField(response, "code"), "overloaded");
}

TEST_F(HttpFramingTest, OldClientsGetAStreamThatEndsWithItsConnection) {
  service_.on_start = AnswerWithText;
  Begin();
  Client client(server_->port());
  const std::string body = Chat(R"(,"stream":true)");
  client.Send(absl::StrCat("POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer k1\r\n",
                           "Content-Length: ", body.size(), "\r\n\r\n", body));
  const std::string head = client.Until("\r\n\r\n");
  EXPECT_THAT(head, AllOf(HasSubstr("Connection: close"), Not(HasSubstr("chunked"))));
  EXPECT_THAT(client.Until("[DONE]\n\n"), StartsWith("data: {"));
  EXPECT_TRUE(client.AtEnd());
}

}  // namespace
}  // namespace holdfast
