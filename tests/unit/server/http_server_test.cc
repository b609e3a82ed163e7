// The HTTP front before a fake GenerationService, through real sockets on a port that the system
// picks. Nothing here waits for time to pass, only for what must come.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/http_router.h"
#include "server/json_body.h"
#include "server/openai_codec.h"

namespace holdfast {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr absl::Duration kPatience = absl::Seconds(20);  // a test that waits so long has failed

// A stream that the test feeds by hand, from its own thread.
class FakeStream final : public GenerationStream {
 public:
  std::optional<GenerationEvent> TryNext() override {
    absl::MutexLock lock(&mutex_);
    if (events_.empty()) return std::nullopt;
    GenerationEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  void NotifyReady(absl::AnyInvocable<void()> ready) override {
    {
      absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(ready_) << "one at a time";
      if (events_.empty()) {
        ready_ = std::move(ready);
        return;
      }
    }
    ready();
  }
  void Cancel() override {
    if (!cancelled.HasBeenNotified()) cancelled.Notify();
  }
  void Push(GenerationEvent event) {
    absl::AnyInvocable<void()> ready;
    {
      absl::MutexLock lock(&mutex_);
      events_.push_back(std::move(event));
      ready = std::exchange(ready_, nullptr);
    }
    if (ready) ready();
  }
  void PushText(const std::string& text) { Push(ChoiceDelta{.text = text, .tokens = {1}}); }
  void PushEnd() {
    Push(ChoiceDelta{.finish = FinishReason::kStop});
    Push(GenerationDone{.prompt_tokens = 3, .completion_tokens = 2});
  }

  absl::Notification cancelled;

 private:
  absl::Mutex mutex_;
  std::deque<GenerationEvent> events_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void()> ready_ ABSL_GUARDED_BY(mutex_);
};

class FakeService final : public GenerationService {
 public:
  // What each new stream gets at once; empty: the test feeds it.
  std::function<void(const GenerationRequest&, FakeStream&)> on_start;

  std::shared_ptr<GenerationStream> Start(GenerationRequest request) override {
    auto stream = std::make_shared<FakeStream>();
    if (on_start) on_start(request, *stream);
    absl::MutexLock lock(&mutex_);
    requests_.push_back(std::move(request));
    streams_.push_back(stream);
    return stream;
  }
  bool CancelByWireId(TenantIndex, const std::string&) override { return false; }
  void Tokenize(TextCaller, std::variant<ChatInput, std::string> text, bool add_special_tokens,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) override {
    if (std::holds_alternative<ChatInput>(text)) {
      return done(absl::InvalidArgumentError("the template refused"));
    }
    std::vector<TokenId> tokens;
    if (add_special_tokens) tokens.push_back(1);
    for (const char c : std::get<std::string>(text)) tokens.push_back(c);
    done(std::move(tokens));
  }
  void Detokenize(TextCaller, std::vector<TokenId> tokens,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)> done) override {
    done(std::string(tokens.begin(), tokens.end()));
  }
  std::string TokenText(TokenId token) const override {
    return std::string(1, static_cast<char>(token));
  }
  const ModelInfo& model_info() const override { return info_; }

  // Waits until the stream has been started.
  std::shared_ptr<FakeStream> stream(size_t index) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return streams_.size() > index;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&there), kPatience));
    return streams_.at(index);
  }
  GenerationRequest request(size_t index) {
    absl::MutexLock lock(&mutex_);
    return requests_.at(index);
  }
  size_t num_started() {
    absl::MutexLock lock(&mutex_);
    return streams_.size();
  }

 private:
  const ModelInfo info_ = {.name = "org/tiny",
                           .aliases = {"small"},
                           .context_tokens = 100,
                           .vocab_size = 256,
                           .created_unix = 7,
                           .has_chat_template = true};
  absl::Mutex mutex_;
  std::vector<std::shared_ptr<FakeStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::vector<GenerationRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

class FakeAuthenticator final : public Authenticator {
 public:
  absl::StatusOr<Authenticated> Authenticate(std::string_view key) const override {
    if (key == "k1") return Authenticated{TenantIndex{1}};
    return absl::UnauthenticatedError("wrong or missing key");
  }
};

struct Response {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks put together
  bool ended = false;                          // the last chunk came, or the length was reached
};

class Client final {
 public:
  explicit Client(int port, in_addr_t host = INADDR_LOOPBACK)
      : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(host);
    timeval patience{.tv_sec = absl::ToInt64Seconds(kPatience), .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { Leave(); }
  void Leave() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  int socket() const { return socket_; }
  void Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;  // refused midway; the answer tells
      sent += static_cast<size_t>(n);
    }
  }
  // False: the server closed (or nothing came for too long).
  bool More() {
    char bytes[4096];
    const ssize_t n = ::recv(socket_, bytes, sizeof bytes, 0);
    EXPECT_FALSE(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) << "timed out: " << in_;
    if (n > 0) in_.append(bytes, static_cast<size_t>(n));
    return n > 0;
  }
  std::string Until(const std::string& mark) {
    while (in_.find(mark) == in_.npos) {
      if (!More()) return std::exchange(in_, "");
    }
    const size_t end = in_.find(mark) + mark.size();
    const std::string taken = in_.substr(0, end);
    in_.erase(0, end);
    return taken;
  }
  bool AtEnd() { return in_.empty() && !More(); }
  Response Read(bool head = false) {
    Response response;
    const std::string header = Until("\r\n\r\n");
    const std::vector<std::string> lines = absl::StrSplit(header, "\r\n");
    if (lines[0].size() < 12) return response;
    EXPECT_TRUE(absl::SimpleAtoi(lines[0].substr(9, 3), &response.status)) << lines[0];
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::vector<std::string> field = absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      if (field.size() == 2) response.headers[absl::AsciiStrToLower(field[0])] = field[1];
    }
    if (response.headers.contains("transfer-encoding")) {
      ReadChunks(response);
    } else if (!head && response.headers.contains("content-length")) {
      const size_t length = std::stoul(response.headers["content-length"]);
      while (in_.size() < length && More()) {
      }
      response.ended = in_.size() >= length;
      response.body = in_.substr(0, length);
      in_.erase(0, length);
    }
    return response;
  }

 private:
  void ReadChunks(Response& response) {
    while (true) {
      const std::string line = Until("\r\n");
      if (line.size() < 3) return;
      const size_t length = std::stoul(line, nullptr, 16);
      while (in_.size() < length + 2 && More()) {
      }
      response.body += in_.substr(0, length);
      in_.erase(0, std::min(in_.size(), length + 2));
      if (length == 0) {
        response.ended = true;
        return;
      }
    }
  }

  int socket_;
  std::string in_;
};

std::string Post(const std::string& path, const std::string& body, const std::string& more = "") {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n", more,
                      "Content-Length: ", body.size(), "\r\n\r\n", body);
}
std::string Get(const std::string& path, const std::string& more = "") {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n", more,
                      "\r\n");
}
std::string Chat(const std::string& more = "") {
  return absl::StrCat(R"({"messages":[{"role":"user","content":"hi"}])", more, "}");
}

class HttpServerTest : public testing::Test {
 protected:
  void Begin(HttpServerOptions options = {}) {
    options.address = absl::StrCat(address_, ":0");
    options.version = "1.2.3";
    auto server = HttpServer::Create(options, service_, authenticator_, metrics_,
                                     [this] { return readiness_.load(); });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  Response Ask(const std::string& request) {
    Client client(server_->port());
    client.Send(request);
    return client.Read(absl::StartsWith(request, "HEAD"));
  }
  std::string ErrorField(const Response& response, const char* field) {
    const auto body = ParseJson(response.body);
    if (!body.ok() || !body->contains("error")) return "no error object: " + response.body;
    const Json& value = (*body)["error"][field];
    return value.is_string() ? value.get<std::string>() : DumpJson(value);
  }
  static void AnswerWithText(const GenerationRequest&, FakeStream& stream) {
    stream.Push(PromptInfo{.prompt_tokens = 3, .cached_tokens = 1});
    stream.PushText("Paris");
    stream.PushEnd();
  }

  std::string address_ = "127.0.0.1";
  FakeService service_;
  FakeAuthenticator authenticator_;
  MetricsRegistry metrics_;
  std::atomic<Readiness> readiness_{Readiness::kReady};
  std::unique_ptr<HttpServer> server_;
};

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

TEST_F(HttpServerTest, AClientThatLeavesCancelsItsGeneration) {
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

TEST_F(HttpServerTest, APipelinedRequestIsNoDepartureAndWaitsItsTurn) {
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

TEST_F(HttpServerTest, AReaderThatStallsIsCancelled) {
  Begin({.write_timeout = absl::Milliseconds(100)});
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat(R"(,"stream":true)")));
  const auto stream = service_.stream(0);
  stream->Push(PromptInfo{});
  const std::string much(1 << 20, 'x');  // more than the two sockets buffer, in the end
  for (int i = 0; i < 32; ++i) stream->PushText(much);
  EXPECT_TRUE(stream->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpServerTest, ARequestThatTakesTooLongIsAnswered504) {
  Begin({.request_timeout = absl::Milliseconds(20)});
  const Response response = Ask(Post("/v1/chat/completions", Chat()));
  EXPECT_EQ(response.status, 504);
  EXPECT_TRUE(service_.stream(0)->cancelled.HasBeenNotified());
}

TEST_F(HttpServerTest, RequestsMayComeByteByByteAndInChunks) {
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

TEST_F(HttpServerTest, ContinuesWhenAskedAndOnlyThen) {
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

TEST_F(HttpServerTest, MalformedFramingIsRefusedAndTheConnectionClosed) {
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

TEST_F(HttpServerTest, ABodyOfTheMostBytesIsRead) {
  service_.on_start = AnswerWithText;
  const std::string body = Chat();
  Begin({.body_bytes_max = body.size()});
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body)).status, 200);
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body + " ")).status, 413);
}

TEST_F(HttpServerTest, AllBodiesTogetherHaveABound) {
  Begin({.bodies_bytes_max = 10});
  const Response response = Ask(Post("/v1/chat/completions", Chat()));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(ErrorField(response, "code"), "overloaded");
}

TEST_F(HttpServerTest, SlowClientsAreCutOff) {
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

TEST_F(HttpServerTest, WhatThrowsEndsItsConnectionAndIsNoLongerInFlight) {
  service_.on_start = [](const GenerationRequest&, FakeStream&) { throw std::bad_alloc(); };
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/chat/completions", Chat()));
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  EXPECT_EQ(Ask(Get("/v1/models")).status, 200);
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

TEST_F(HttpServerTest, NotReadyRefusesWorkAndSaysSo) {
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

TEST_F(HttpServerTest, DrainingFinishesWhatRunsAndClosesAfterIt) {
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

TEST_F(HttpServerTest, StoppingCutsConnectionsAndCancelsTheirGenerations) {
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

TEST_F(HttpServerTest, OldClientsGetAStreamThatEndsWithItsConnection) {
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
  EXPECT_EQ((*document)["paths"].size(), Routes().size());
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
