// The HTTP front before a fake GenerationService, through real sockets on a port that the system
// picks. Nothing here waits for time to pass, only for what must come.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/http_server.h"
#include "server/json_body.h"

namespace holdfast {
inline constexpr absl::Duration kPatience =
    absl::Seconds(20);  // a test that waits so long has failed

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
  // Who has a text tokenised, in place of the answer; set before the server begins.
  std::function<void(TextCaller)> on_tokenize;

  std::shared_ptr<GenerationStream> Start(GenerationRequest request) override {
    auto stream = std::make_shared<FakeStream>();
    if (on_start) on_start(request, *stream);
    absl::MutexLock lock(&mutex_);
    requests_.push_back(std::move(request));
    streams_.push_back(stream);
    return stream;
  }
  bool CancelByWireId(TenantIndex, const std::string& id) override {
    absl::MutexLock lock(&mutex_);
    cancelled_ids_.push_back(id);
    return false;
  }
  std::vector<std::string> cancelled_ids() {
    absl::MutexLock lock(&mutex_);
    return cancelled_ids_;
  }
  void Tokenize(TextCaller caller, std::variant<ChatInput, std::string> text,
                bool add_special_tokens,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) override {
    if (on_tokenize) return on_tokenize(std::move(caller));
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
                           .has_chat_template = true,
                           .embedding_size = 2};
  absl::Mutex mutex_;
  std::vector<std::shared_ptr<FakeStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::vector<GenerationRequest> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> cancelled_ids_ ABSL_GUARDED_BY(mutex_);
};

class FakeAuthenticator final : public Authenticator {
 public:
  absl::StatusOr<Authenticated> Authenticate(std::string_view key) const override {
    if (key == "k1") return Authenticated{TenantIndex{1}};
    if (key == "other") return Authenticated{TenantIndex{2}};
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

inline std::string Post(const std::string& path, const std::string& body,
                        const std::string& more = "") {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n", more,
                      "Content-Length: ", body.size(), "\r\n\r\n", body);
}
inline std::string Get(const std::string& path, const std::string& more = "") {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n", more,
                      "\r\n");
}
inline std::string Chat(const std::string& more = "") {
  return absl::StrCat(R"({"messages":[{"role":"user","content":"hi"}])", more, "}");
}

class HttpServerFixture : public testing::Test {
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

}  // namespace holdfast
