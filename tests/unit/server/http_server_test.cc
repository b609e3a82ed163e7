// The endpoints of the HTTP front, their answers and who may ask.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/http_router.h"
#include "server/openai_codec.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using HttpServerTest = HttpServerFixture;

TEST_F(HttpServerTest, AnswersAChatRequestWithTheTenantOfItsKey) {
  service_.on_start = AnswerWithText;
  Begin();
  const Response response = Ask(Post("/v1/chat/completions", Chat(), "X-Request-Id: my-1\r\n"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("x-request-id"), "my-1");
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
  const Json body = *ParseJson(response.body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Paris");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["model"], "org/tiny");
  EXPECT_EQ(body["usage"]["total_tokens"], 5);
  EXPECT_EQ(service_.request(0).tenant, TenantIndex{1});
  EXPECT_EQ(service_.request(0).wire_id, body["id"]);
  EXPECT_THAT(body["id"].get<std::string>(), StartsWith("chatcmpl-"));
}

TEST_F(HttpServerTest, StreamsEventsAsTheyCome) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  stream->Push(PromptInfo{.prompt_tokens = 3});
  const std::string head = client.Until("\r\n\r\n");
  EXPECT_THAT(head, AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("text/event-stream"),
                          HasSubstr("Cache-Control: no-cache\r\n"),
                          HasSubstr("X-Accel-Buffering: no\r\n")));
  EXPECT_THAT(client.Until("\n\n"), HasSubstr(R"("role":"assistant")"));
  stream->PushText("one");
  EXPECT_THAT(client.Until("\n\n"), HasSubstr(R"({"content":"one"})"));
  stream->PushEnd();
  EXPECT_THAT(client.Until("0\r\n\r\n"),
              AllOf(HasSubstr(R"("finish_reason":"stop")"), HasSubstr("data: [DONE]\n\n")));
  EXPECT_FALSE(stream->cancelled.HasBeenNotified());
  client.Send(Get("/version"));  // the connection lives on
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpServerTest, ARefusedStreamHasAnHttpStatus) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    absl::Status full = absl::ResourceExhaustedError("the queue is full");
    full.SetPayload(kRetryAfterUrl, absl::Cord("3"));
    stream.Push(GenerationDone{.status = full});
  };
  Begin();
  for (const char* more : {"", R"(,"stream":true)"}) {
    const Response response = Ask(Post("/v1/chat/completions", Chat(more)));
    EXPECT_EQ(response.status, 429);
    EXPECT_EQ(response.headers.at("retry-after"), "3");
    EXPECT_EQ(ErrorField(response, "code"), "rate_limit_exceeded");
  }
}

TEST_F(HttpServerTest, AnErrorAfterTheFirstByteIsAnEvent) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  stream->Push(PromptInfo{});
  client.Until("assistant");
  stream->Push(GenerationDone{.status = absl::UnavailableError("device lost")});
  EXPECT_THAT(
      client.Until("0\r\n\r\n"),
      AllOf(HasSubstr("data: {\"error\":{\"message\":\"device lost\""), Not(HasSubstr("[DONE]"))));
}

TEST_F(HttpServerTest, ManyPromptsAreNumberedThroughAndFailTogether) {
  service_.on_start = AnswerWithText;
  Begin();
  const Response response = Ask(Post("/v1/completions", R"({"prompt":["a","b"]})"));
  const Json body = *ParseJson(response.body);
  EXPECT_EQ(body["choices"].size(), 2u);
  EXPECT_EQ(body["choices"][1]["index"], 1);
  EXPECT_EQ(body["choices"][1]["text"], "Paris");
  EXPECT_NE(service_.request(0).wire_id, service_.request(1).wire_id);

  service_.on_start = nullptr;
  Client client(server_->port());
  client.Send(Post("/v1/completions", R"({"prompt":["a","b"],"stream":true})"));
  service_.stream(3)->Push(GenerationDone{.status = absl::InvalidArgumentError("too long")});
  EXPECT_EQ(client.Read().status, 400);
  EXPECT_TRUE(service_.stream(2)->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpServerTest, ConnectionsBeyondTheBoundAreTurnedAway) {
  Begin({.connections_max = 1});
  Client first(server_->port());
  first.Send(Get("/version"));
  EXPECT_EQ(first.Read().status, 200);
  Client second(server_->port());
  EXPECT_EQ(second.Read().status, 503);
  first.Send(Get("/version"));
  EXPECT_EQ(first.Read().status, 200);
}

TEST_F(HttpServerTest, MethodsAndPathsAreToldApart) {
  Begin();
  Response response = Ask(Get("/v1/chat/completions"));
  EXPECT_EQ(response.status, 405);
  EXPECT_EQ(response.headers.at("allow"), "POST, OPTIONS");
  response = Ask("HEAD /version HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-length"), "19");
  response = Ask("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.headers.at("allow"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(Ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").status, 204);
  response = Ask(Get("/v1/wonder?x=1"));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(ErrorField(response, "code"), "unknown_url");
  EXPECT_EQ(Ask(Get("/version?x=1")).status, 200);
  EXPECT_EQ(Ask(Get("http://x/version")).status, 200);
  EXPECT_EQ(Ask(Get("version")).status, 400);
}

TEST_F(HttpServerTest, KeysAreAskedForWhereTheyMatter) {
  Begin();
  const auto get = [this](const std::string& path, const std::string& header) {
    return Ask(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", header, "\r\n"));
  };
  for (const char* header : {"Authorization: Bearer k1\r\n", "authorization: bearer  k1\r\n",
                             "api-key: k1\r\n", "X-Api-Key: k1\r\n"}) {
    EXPECT_EQ(get("/v1/models", header).status, 200) << header;
  }
  for (const char* header : {"", "Authorization: Bearer k2\r\n", "Authorization: Basic azE=\r\n",
                             "Authorization: k2\r\napi-key: k1\r\n"}) {
    const Response response = get("/v1/models", header);
    EXPECT_EQ(response.status, 401) << header;
    EXPECT_EQ(response.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(ErrorField(response, "code"), "invalid_api_key");
  }
  for (const char* path :
       {"/health", "/health/live", "/health/ready", "/version", "/metrics", "/openapi.json"}) {
    EXPECT_EQ(get(path, "").status, 200) << path;
  }
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(Ask(absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\n\r\n")).status, 401) << path;
  }
}

TEST_F(HttpServerTest, MetricsTellWhatReadinessTells) {
  Begin();
  for (const auto& [readiness, state] : {std::pair(Readiness::kLoading, "loading"),
                                         {Readiness::kReady, "ready"},
                                         {Readiness::kFailing, "failing"},
                                         {Readiness::kLeaving, "leaving"},
                                         {Readiness::kDraining, "draining"}}) {
    readiness_ = readiness;
    const std::string text = Ask(Get("/metrics")).body;
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("holdfast_server_readiness{state=\"", state, "\"} 1\n")));
    size_t others = 0;
    for (const char* other : {"loading", "ready", "failing", "leaving", "draining"}) {
      others += absl::StrContains(
          text, absl::StrCat("holdfast_server_readiness{state=\"", other, "\"} 0\n"));
    }
    EXPECT_EQ(others, 4u);
  }
}

// What a web page can make a browser send: its own name as Host after rebinding it, or its Origin.

TEST_F(HttpServerTest, WithoutKeysARequestMustNameThisMachine) {
  const auto get = [](const std::string& path, const std::string& header) {
    return absl::StrCat("GET ", path, " HTTP/1.1\r\nx-api-key: k1\r\n", header, "\r\n\r\n");
  };
  Begin({.loopback_names_only = true});
  const std::string port = absl::StrCat(":", server_->port());
  for (const char* host : {"127.0.0.1", "localhost", "[::1]", "chat.localhost", "127.0.0.1:1"}) {
    EXPECT_EQ(Ask(get("/v1/models", absl::StrCat("Host: ", host))).status, 200) << host;
  }
  EXPECT_EQ(Ask("GET /v1/models HTTP/1.0\r\nx-api-key: k1\r\n\r\n").status, 200);
  EXPECT_EQ(Ask(get("/v1/models", "Host: localhost\r\nOrigin: http://localhost:3000")).status, 200);
  EXPECT_EQ(Ask(get("http://localhost/v1/models", "Host: localhost")).status, 200);

  for (const char* path : {"/v1/models", "/metrics"}) {
    EXPECT_EQ(Ask(get(path, "Host: evil.example" + port)).status, 403) << path;
    EXPECT_EQ(Ask(get(path, "Host: localhost\r\nOrigin: https://evil.example")).status, 403);
    EXPECT_EQ(Ask(get(path, "Host: localhost\r\nOrigin: null")).status, 403);
  }
  EXPECT_EQ(Ask(get("http://evil.example/v1/models", "Host: localhost")).status, 403);
  const Response refused = Ask(get("/v1/models", "Host: evil.example" + port));
  EXPECT_EQ(ErrorField(refused, "code"), "host_not_allowed");
  EXPECT_THAT(ErrorField(refused, "message"), AllOf(HasSubstr("evil.example"), HasSubstr("keys")));
  for (const char* path : {"/health/live", "/health/ready", "/version", "/openapi.json"}) {
    EXPECT_EQ(Ask(get(path, "Host: node-7.internal")).status, 200) << path;
  }

  Begin({.metrics_for_all = true, .loopback_names_only = true});
  EXPECT_EQ(Ask(get("/metrics", "Host: node-7.internal")).status, 200);
}

// An address of this machine that is not loopback, if it has one.
std::optional<in_addr_t> OuterAddress() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return std::nullopt;
  std::optional<in_addr_t> found;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    const in_addr_t host = ntohl(reinterpret_cast<sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr);
    if (host >> 24 != 127) found = host;
  }
  ::freeifaddrs(all);
  return found;
}

TEST_F(HttpServerTest, MetricsOfAllTenantsAreForLoopbackUnlessOpenedAndNoKeyChangesThat) {
  const std::optional<in_addr_t> outer = OuterAddress();
  if (!outer.has_value()) GTEST_SKIP() << "this machine has no address but loopback";
  const auto ask = [&](const std::string& request) {
    Client client(server_->port(), *outer);
    client.Send(request);
    return client.Read();
  };
  const std::string no_key = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
  address_ = "0.0.0.0";
  Begin();
  for (const std::string& request : {no_key, Get("/metrics")}) {
    const Response response = ask(request);
    EXPECT_EQ(response.status, 403);
    EXPECT_EQ(ErrorField(response, "code"), "permission_denied");
    EXPECT_THAT(ErrorField(response, "message"), HasSubstr("listen.metrics: all"));
    EXPECT_THAT(response.body, Not(HasSubstr("holdfast_")));
  }
  EXPECT_EQ(ask(Get("/v1/models")).status, 200);
  EXPECT_EQ(Ask(no_key).status, 200) << "loopback";
  server_.reset();
  Begin({.metrics_for_all = true});
  EXPECT_EQ(ask(no_key).status, 200);
}

TEST_F(HttpServerTest, ModelsAreListedAndFoundByNameWithSlash) {
  Begin();
  const Json list = *ParseJson(Ask(Get("/v1/models")).body);
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["data"][0]["id"], "org/tiny");
  EXPECT_EQ(list["data"][1]["id"], "small");
  EXPECT_EQ(list["data"][0]["max_model_len"], 100);
  EXPECT_EQ(Ask(Get("/v1/models/org/tiny")).status, 200);
  EXPECT_EQ(Ask(Get("/v1/models/org%2Ftiny")).status, 200);
  const Response unknown = Ask(Get("/v1/models/none"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(ErrorField(unknown, "code"), "model_not_found");
  EXPECT_EQ(Ask(Post("/v1/chat/completions", Chat(R"(,"model":"none")"))).status, 404);
}

TEST_F(HttpServerTest, TokenizesAndBack) {
  Begin();
  EXPECT_EQ(Ask(Post("/tokenize", R"({"prompt":"ab"})")).body,
            R"({"count":3,"max_model_len":100,"tokens":[1,97,98],"token_strs":null})");
  EXPECT_THAT(Ask(Post("/tokenize",
                       R"({"prompt":"ab","add_special_tokens":false,"return_token_strs":true})"))
                  .body,
              HasSubstr(R"("tokens":[97,98],"token_strs":["a","b"])"));
  EXPECT_EQ(Ask(Post("/tokenize", Chat())).status, 400);
  const std::string much = absl::StrCat("{\"prompt\":\"", std::string(kTokenStringsMax, 'x'), "\"");
  EXPECT_EQ(Ask(Post("/tokenize", much + "}")).status, 200);
  const Response refused = Ask(Post("/tokenize", much + R"(,"return_token_strs":true})"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(ErrorField(refused, "param"), "return_token_strs");
  EXPECT_EQ(Ask(Post("/detokenize", R"({"tokens":[97,98]})")).body, R"({"prompt":"ab"})");
}

TEST_F(HttpServerTest, RequestIdsAreKeptWhenCleanAndMadeOtherwise) {
  Begin();
  const auto id = [this](const std::string& sent) {
    return Ask(Get("/version", "X-Request-Id: " + sent + "\r\n")).headers.at("x-request-id");
  };
  EXPECT_EQ(id("abc-1.2:3/x"), "abc-1.2:3/x");
  EXPECT_THAT(id("a b"), StartsWith("req_"));
  EXPECT_THAT(id("a\"b"), StartsWith("req_"));
  EXPECT_THAT(id(std::string(129, 'a')), StartsWith("req_"));
  EXPECT_NE(id(""), id(""));
}

TEST_F(HttpServerTest, TheApiDescriptionNamesEveryRoute) {
  Begin();
  const auto document = ParseJson(Ask(Get("/openapi.json")).body);
  ASSERT_TRUE(document.ok()) << document.status();
  for (const Route& route : Routes()) {
    const std::string method = absl::AsciiStrToLower(route.method);
    EXPECT_TRUE((*document)["paths"].contains(route.path) &&
                (*document)["paths"][route.path].contains(method))
        << method << " " << route.path;
  }
  size_t num_operations = 0;
  for (const auto& [path, operations] : (*document)["paths"].items()) {
    num_operations += operations.size();
  }
  EXPECT_EQ(num_operations, Routes().size());
}

TEST_F(HttpServerTest, AccessIsTold) {
  std::vector<std::string> told;
  absl::Mutex mutex;
  HttpServerOptions options;
  options.on_access = [&](const HttpAccess& access) {
    absl::MutexLock lock(&mutex);
    told.push_back(absl::StrCat(access.method, " ", access.route, " ", access.code, " ",
                                access.tenant.has_value() ? "known" : "unknown"));
  };
  Begin(options);
  Ask(Get("/v1/models/none"));
  Ask(Get("/nowhere/with/secret"));
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  absl::MutexLock lock(&mutex);
  EXPECT_THAT(told, testing::ElementsAre("GET /v1/models/{id} 404 known", "GET other 404 unknown"));
}

TEST(HttpServerCreateTest, BadAddressesAndTlsFilesAreErrors) {
  FakeService service;
  FakeAuthenticator authenticator;
  MetricsRegistry metrics;
  const auto create = [&](HttpServerOptions options) {
    return HttpServer::Create(std::move(options), service, authenticator, metrics,
                              [] { return Readiness::kReady; })
        .status();
  };
  EXPECT_EQ(create({.address = "nowhere"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.address = "127.0.0.1:0",
                    .tls = TlsConfig{.certificate_path = "/none", .key_path = "/none"}})
                .code(),
            absl::StatusCode::kInvalidArgument);
  auto first = HttpServer::Create({.address = "127.0.0.1:0"}, service, authenticator, metrics,
                                  [] { return Readiness::kReady; });
  ASSERT_TRUE(first.ok());
  const absl::Status taken = create({.address = absl::StrCat("127.0.0.1:", (*first)->port())});
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("--http ADDR:PORT"));
}

}  // namespace
}  // namespace holdfast
