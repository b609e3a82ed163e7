// The HTTP front under TLS, with a certificate made for the test.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/health_check.h"
#include "server/http_client.h"
#include "server/http_server.h"
#include "tests/unit/server/self_signed_certificate.h"

namespace holdfast {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Answers nothing: these tests ask what needs no generation.
class NoService final : public GenerationService {
 public:
  std::shared_ptr<GenerationStream> Start(GenerationRequest) override { return nullptr; }
  bool CancelByWireId(TenantIndex, const std::string&) override { return false; }
  void Tokenize(TextCaller, std::variant<ChatInput, std::string>, bool,
                absl::AnyInvocable<void(absl::StatusOr<std::vector<TokenId>>)> done) override {
    done(std::vector<TokenId>(100'000, 7));  // an answer of many TLS records
  }
  void Detokenize(TextCaller, std::vector<TokenId>,
                  absl::AnyInvocable<void(absl::StatusOr<std::string>)>) override {}
  std::string TokenText(TokenId) const override { return ""; }
  const ModelInfo& model_info() const override { return info_; }

 private:
  const ModelInfo info_ = {.name = "tiny", .vocab_size = 10};
};

class Anyone final : public Authenticator {
 public:
  absl::StatusOr<Authenticated> Authenticate(std::string_view) const override {
    return Authenticated{};
  }
};

class HttpTlsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = HttpServer::Create({.address = "127.0.0.1:0",
                                      .tls = certificate_.files(),
                                      .version = "1.2.3",
                                      .header_timeout = absl::Milliseconds(200)},
                                     service_, anyone_, metrics_, [] { return Readiness::kReady; });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  int Connect() const {
    const int connection = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return connection;
  }

  // All that the server says until it ends the TLS session, which it must do properly.
  std::string Ask(const std::string& request, int version_max = TLS1_3_VERSION) {
    const int connection = Connect();
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, 0);
    SSL_CTX_set_max_proto_version(context, version_max);
    SSL* tls = SSL_new(context);
    SSL_set_fd(tls, connection);
    std::string answer;
    if (SSL_connect(tls) == 1) {
      SSL_write(tls, request.data(), static_cast<int>(request.size()));
      char bytes[4096];
      int n = 0;
      while ((n = SSL_read(tls, bytes, sizeof bytes)) > 0) answer.append(bytes, n);
      EXPECT_EQ(SSL_get_error(tls, n), SSL_ERROR_ZERO_RETURN) << "no close_notify";
    } else {
      answer = "no handshake";
    }
    SSL_free(tls);
    SSL_CTX_free(context);
    ::close(connection);
    return answer;
  }

  const SelfSignedCertificate certificate_;
  NoService service_;
  Anyone anyone_;
  MetricsRegistry metrics_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTlsTest, AClientThatChecksWantsACertificateOfTheNameThatItAsked) {
  HttpQuestion question{.host = "localhost",
                        .port = static_cast<uint16_t>(server_->port()),
                        .tls = HttpQuestion::Tls::kChecked,
                        .tls_ca = certificate_.files().certificate_path,
                        .target = "/health/live"};
  const auto answer = AskHttp(question);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->status, 200);
  question.host = "127.0.0.1";  // which the certificate does not have
  EXPECT_THAT(std::string(AskHttp(question).status().message()),
              HasSubstr("does not agree on TLS: certificate verify failed"));
  question.host = "localhost";
  question.tls_ca = "";  // nobody vouches for it
  EXPECT_FALSE(AskHttp(question).ok());
  question.tls_ca = "/nowhere.pem";
  EXPECT_THAT(std::string(AskHttp(question).status().message()),
              HasSubstr("/nowhere.pem: cannot be read as certificates"));
}

TEST_F(HttpTlsTest, AHealthCheckAsksUnderTlsToo) {
  DaemonConfig config;
  config.listen.http = absl::StrCat("127.0.0.1:", server_->port());
  EXPECT_FALSE(CheckHealth(config).ok());  // in plain text
  config.listen.tls = TlsConfig{};         // the files are the server's to read
  const auto health = CheckHealth(config);
  ASSERT_TRUE(health.ok()) << health.status();
  EXPECT_THAT(*health, HasSubstr("ready"));
}

TEST_F(HttpTlsTest, AnswersAndSaysGoodbye) {
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    const std::string answer =
        Ask("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", version);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr(R"({"version":"1.2.3"})"));
  }
}

TEST_F(HttpTlsTest, LongBodiesGoBothWays) {
  const std::string body = absl::StrCat(R"({"prompt":")", std::string(300'000, 'x'), "\"}");
  const std::string answer = Ask(absl::StrCat(
      "POST /tokenize HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ", body.size(),
      "\r\n\r\n", body));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"({"count":100000,)"));
  EXPECT_GT(answer.size(), 200'000u);
}

TEST_F(HttpTlsTest, OldVersionsAreRefused) {
  EXPECT_EQ(Ask("GET /version HTTP/1.1\r\nHost: x\r\n\r\n", TLS1_1_VERSION), "no handshake");
}

TEST_F(HttpTlsTest, WhoSpeaksNoTlsOrNothingIsCutOff) {
  for (const char* bytes : {"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", ""}) {
    const int connection = Connect();
    const std::string text = bytes;
    ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    char answer[256];
    ssize_t n = 0;
    while ((n = ::recv(connection, answer, sizeof answer, 0)) > 0) {  // perhaps a TLS alert
      EXPECT_EQ(std::string(answer, n).find("HTTP"), std::string::npos);
    }
    EXPECT_TRUE(n == 0 || errno == ECONNRESET);
    ::close(connection);
  }
}

}  // namespace
}  // namespace holdfast
