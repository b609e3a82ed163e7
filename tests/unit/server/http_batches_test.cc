// /v1/files and /v1/batches of the HTTP front: forms, bounds, and who sees what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/background_service.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class HttpBatchesTest : public HttpServerFixture {
 protected:
  ~HttpBatchesTest() override {
    server_.reset();
    batches_.reset();
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }
  void BeginWithState(size_t upload_bytes_max = 1 << 20) {
    auto store = State::Open(path_, {.batches = {.tenant_files_max = 2}}, clock_);
    ASSERT_TRUE(store.ok()) << store.status();
    batches_ = std::make_unique<BackgroundService>(BackgroundOptions{.tenants = {"zero", "one"}},
                                                   *std::move(store), service_, metrics_);
    HttpServerOptions options;
    options.body_bytes_max = 4096;
    options.upload_bytes_max = upload_bytes_max;
    options.background = batches_.get();
    Begin(options);
  }
  Response Upload(const std::string& content, const std::string& purpose = "batch",
                  const std::string& more = "") {
    const std::string body = absl::StrCat(
        "--xx\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n", purpose, "\r\n", more,
        "--xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n",
        content, "\r\n--xx--\r\n");
    return Ask(Post("/v1/files", body, "Content-Type: multipart/form-data; boundary=xx\r\n"));
  }
  static std::string Field(const std::string& name, const std::string& value) {
    return absl::StrCat("--xx\r\nContent-Disposition: form-data; name=\"", name, "\"\r\n\r\n",
                        value, "\r\n");
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/http-batches-", getpid(), "-",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".sqlite");
  WallClock clock_;
  std::unique_ptr<BackgroundService> batches_;
};

TEST_F(HttpBatchesTest, AFileGoesInAndComesOut) {
  BeginWithState();
  const Response sent = Upload("some\r\nlines");
  ASSERT_EQ(sent.status, 200) << sent.body;
  const Json file = *ParseJson(sent.body);
  EXPECT_EQ(file["object"], "file");
  EXPECT_EQ(file["filename"], "in.jsonl");
  EXPECT_EQ(file["bytes"], 11);
  const std::string path = "/v1/files/" + file["id"].get<std::string>();
  EXPECT_EQ(ParseJson(Ask(Get(path)).body)->at("id"), file["id"]);
  const Response content = Ask(Get(path + "/content"));
  EXPECT_EQ(content.body, "some\r\nlines");
  EXPECT_EQ(content.headers.at("content-type"), "application/octet-stream");
  EXPECT_EQ(ParseJson(Ask(Get("/v1/files?limit=1&order=asc")).body)->at("data").size(), 1u);
  EXPECT_EQ(
      Ask("DELETE " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n\r\n").status,
      200);
  EXPECT_EQ(Ask(Get(path)).status, 404);
}

TEST_F(HttpBatchesTest, AnUploadMayBeLargerThanOtherBodiesButIsBounded) {
  BeginWithState(64 << 10);
  EXPECT_EQ(Upload(std::string(32 << 10, 'x')).status, 200);
  const Response refused = Upload(std::string(65 << 10, 'x'));
  EXPECT_EQ(refused.status, 413);
  EXPECT_THAT(refused.body, HasSubstr("65536 bytes"));
  EXPECT_EQ(Ask(Post("/v1/batches", std::string(8 << 10, ' '))).status, 413);
}

TEST_F(HttpBatchesTest, AFormThatIsWrongIsRefusedByTheNameOfItsField) {
  BeginWithState();
  EXPECT_EQ(ErrorField(Upload("x", "fine-tune"), "param"), "purpose");
  EXPECT_EQ(ErrorField(Upload("x", "batch", Field("colour", "red")), "param"), "colour");
  const std::string seconds = "expires_after[seconds]";
  for (const char* wrong : {"3599", "2592001", "soon", ""}) {
    EXPECT_EQ(ErrorField(Upload("x", "batch", Field(seconds, wrong)), "param"), seconds) << wrong;
  }
  EXPECT_EQ(Upload("x", "batch", Field(seconds, "3600")).status, 200);
  const Response json = Ask(Post("/v1/files", "{}", "Content-Type: application/json\r\n"));
  EXPECT_EQ(json.status, 400);
  EXPECT_THAT(json.body, HasSubstr("multipart/form-data"));
}

TEST_F(HttpBatchesTest, ABatchThatIsWrongIsRefusedByTheNameOfItsField) {
  BeginWithState();
  const std::string id = ParseJson(Upload("x").body)->at("id");
  const auto refused = [&](const std::string& more) {
    const Response response =
        Ask(Post("/v1/batches", absl::StrCat(R"({"input_file_id":")", id, R"(")", more, "}")));
    EXPECT_GE(response.status, 400) << more;
    return ErrorField(response, "param");
  };
  const std::string good = R"(,"endpoint":"/v1/completions","completion_window":"24h")";
  EXPECT_EQ(refused(""), "endpoint");
  EXPECT_EQ(refused(R"(,"endpoint":"/v1/responses","completion_window":"24h")"), "endpoint");
  EXPECT_EQ(refused(R"(,"endpoint":"/v1/completions")"), "completion_window");
  EXPECT_EQ(refused(good + R"(,"metadata":{"a":1})"), "metadata");
  EXPECT_EQ(refused(good + R"(,"output_expires_after":{"anchor":"created_at"})"),
            "output_expires_after.seconds");
  EXPECT_EQ(refused(good + R"(,"priority":1)"), "priority");
  const Response made =
      Ask(Post("/v1/batches", absl::StrCat(R"({"input_file_id":")", id, "\"", good, "}")));
  EXPECT_EQ(made.status, 200) << made.body;
  EXPECT_THAT(ParseJson(made.body)->at("id").get<std::string>(), StartsWith("batch_"));
}

TEST_F(HttpBatchesTest, PagesAreBounded) {
  BeginWithState();
  for (const char* wrong : {"limit=0", "limit=10001", "limit=x", "order=up"}) {
    EXPECT_EQ(Ask(Get(absl::StrCat("/v1/files?", wrong))).status, 400) << wrong;
  }
  EXPECT_EQ(Ask(Get("/v1/batches?limit=101")).status, 400);
  EXPECT_EQ(Ask(Get("/v1/batches?limit=100")).status, 200);
}

TEST_F(HttpBatchesTest, ATenantWhoseRoomIsFullIsTold) {
  BeginWithState();
  EXPECT_EQ(Upload("1").status, 200);
  EXPECT_EQ(Upload("2").status, 200);
  EXPECT_EQ(Upload("3").status, 429);
}

TEST_F(HttpBatchesTest, WithoutAKeyNothingIsTaken) {
  BeginWithState();
  EXPECT_EQ(Ask("GET /v1/files HTTP/1.1\r\nHost: x\r\n\r\n").status, 401);
  EXPECT_EQ(Ask("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status, 401);
}

TEST_F(HttpBatchesTest, WithoutAStateTheSettingIsNamed) {
  Begin();
  for (const char* path : {"/v1/files", "/v1/batches", "/v1/batches/x"}) {
    const Response response = Ask(Get(path));
    EXPECT_EQ(response.status, 501);
    EXPECT_THAT(response.body, HasSubstr("state.path"));
  }
}

TEST_F(HttpBatchesTest, WhileItStopsRequestsAreToldToComeAgain) {
  BeginWithState();
  batches_->Stop();
  EXPECT_EQ(Ask(Get("/v1/files")).status, 503);
}

}  // namespace
}  // namespace holdfast
