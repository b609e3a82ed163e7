// /v1/responses of the HTTP front, with and without a state.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/background_service.h"
#include "tests/unit/server/full_disk.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class HttpResponsesTest : public HttpServerFixture {
 protected:
  ~HttpResponsesTest() override {
    server_.reset();
    background_.reset();
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }
  void BeginWithState() {
    auto state = State::Open(path_, {}, clock_);
    ASSERT_TRUE(state.ok()) << state.status();
    background_ = std::make_unique<BackgroundService>(BackgroundOptions{.tenants = {"zero", "one"}},
                                                      *std::move(state), service_, metrics_);
    background_->BeginRunning();
    HttpServerOptions options;
    options.background = background_.get();
    Begin(options);
  }
  Json Create(const std::string& more = "") {
    const Response response =
        Ask(Post("/v1/responses", absl::StrCat(R"({"input":"hi")", more, "}")));
    EXPECT_EQ(response.status, 200) << response.body;
    return *ParseJson(response.body);
  }
  Response Show(const Json& response, const std::string& more = "") {
    return Ask(Get("/v1/responses/" + response["id"].get<std::string>() + more));
  }
  // A stream in the background, the first call, whose client has left: its response, by the id.
  Json LeaveInBackground() {
    Client client(server_->port());
    client.Send(Post("/v1/responses", kStreamInBackground));
    service_.stream(0)->Push(PromptInfo{});
    const Json made = IdIn(client.Until("response.in_progress"));
    client.Leave();
    return made;
  }
  static Json IdIn(const std::string& events) {
    return {{"id", events.substr(events.find("resp_"), 37)}};
  }
  // Once it is at its end.
  Json Ended(const Json& response) {
    const absl::Time deadline = absl::Now() + kPatience;
    Json now = *ParseJson(Show(response).body);
    while ((now["status"] == "queued" || now["status"] == "in_progress") &&
           absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(5));
      now = *ParseJson(Show(response).body);
    }
    return now;
  }
  std::string Prompt(size_t index) {
    return std::get<ChatInput>(service_.request(index).prompt).messages_json;
  }

  static constexpr char kStreamInBackground[] = R"({"input":"hi","stream":true,"background":true})";
  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/http-responses-", getpid(), "-",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".sqlite");
  WallClock clock_;
  std::unique_ptr<BackgroundService> background_;
};

TEST_F(HttpResponsesTest, AResponseIsAnsweredKeptShownAndDeleted) {
  service_.on_start = AnswerWithText;
  BeginWithState();
  const Json made = Create();
  EXPECT_THAT(made["id"].get<std::string>(), StartsWith("resp_"));
  EXPECT_EQ(made["status"], "completed");
  EXPECT_EQ(made["output"][0]["content"][0]["text"], "Paris");
  EXPECT_EQ(*ParseJson(Show(made).body), made);
  const Json items = *ParseJson(Show(made, "/input_items").body);
  EXPECT_EQ(items["data"][0]["content"][0]["text"], "hi");
  EXPECT_EQ(Ask("DELETE /v1/responses/" + made["id"].get<std::string>() +
                " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n\r\n")
                .status,
            200);
  EXPECT_EQ(Show(made).status, 404);
}

TEST_F(HttpResponsesTest, AResponseGoesOnFromAnother) {
  service_.on_start = AnswerWithText;
  BeginWithState();
  const std::string id = Create()["id"];
  Create(absl::StrCat(R"(,"previous_response_id":")", id, "\""));
  EXPECT_EQ(Prompt(1), R"([{"role":"user","content":"hi"},{"role":"assistant","content":"Paris"},)"
                       R"({"role":"user","content":"hi"}])");
  const Response unknown =
      Ask(Post("/v1/responses", R"({"input":"hi","previous_response_id":"resp_none"})"));
  EXPECT_EQ(unknown.status, 404);
}

TEST_F(HttpResponsesTest, WhatIsNotToBeStoredIsNot) {
  service_.on_start = AnswerWithText;
  BeginWithState();
  const Json made = Create(R"(,"store":false)");
  EXPECT_EQ(made["store"], false);
  EXPECT_EQ(Show(made).status, 404);
}

TEST_F(HttpResponsesTest, AStreamIsKeptTooAndEndsWithTheResponse) {
  service_.on_start = AnswerWithText;
  BeginWithState();
  const Response stream = Ask(Post("/v1/responses", R"({"input":"hi","stream":true})"));
  const size_t at = stream.body.rfind("data: ");
  const Json last = *ParseJson(stream.body.substr(at + 6));
  EXPECT_EQ(last["type"], "response.completed");
  EXPECT_EQ(*ParseJson(Show(last["response"]).body), last["response"]);
}

TEST_F(HttpResponsesTest, OneInTheBackgroundIsAnsweredAtOnceAndComputedLater) {
  BeginWithState();
  const Json made = Create(R"(,"background":true)");
  EXPECT_EQ(made["status"], "queued");
  const auto stream = service_.stream(0);
  EXPECT_EQ(service_.request(0).wire_id, made["id"]);
  EXPECT_EQ(service_.request(0).tenant, TenantIndex{1});
  stream->PushText("Paris");
  stream->PushEnd();
  const Json ended = Ended(made);
  EXPECT_EQ(ended["status"], "completed");
  EXPECT_EQ(ended["output"][0]["content"][0]["text"], "Paris");
}

TEST_F(HttpResponsesTest, OneInTheBackgroundThatFailsSaysWhy) {
  BeginWithState();
  const Json made = Create(R"(,"background":true)");
  service_.stream(0)->Push(GenerationDone{.status = absl::InternalError("broken")});
  const Json ended = Ended(made);
  EXPECT_EQ(ended["status"], "failed");
  EXPECT_EQ(ended["error"]["code"], "server_error");
}

TEST_F(HttpResponsesTest, OneInTheBackgroundEndsAlsoWhenTheDiskIsFull) {
  BeginWithState();
  const Json streamed = LeaveInBackground();
  const Json at_once = Create(R"(,"background":true)");
  const Json cancelled = Create(R"(,"background":true)");
  const auto id = cancelled["id"].get<std::string>();
  {
    const FullDisk full;
    EXPECT_EQ(Ask(Post("/v1/responses/" + id + "/cancel", "")).status, 200);
    for (const size_t i : {0, 1}) {
      service_.stream(i)->PushText("Paris");
      service_.stream(i)->PushEnd();
    }
    EXPECT_EQ(Ended(streamed)["status"], "completed");
    EXPECT_EQ(Ended(at_once)["output"][0]["content"][0]["text"], "Paris");
  }
  // It is gone on from once it is written, which is tried again.
  const std::string more = absl::StrCat(R"({"input":"hi","background":true,)",
                                        R"("previous_response_id":)", DumpJson(at_once["id"]), "}");
  const absl::Time deadline = absl::Now() + kPatience;
  int status = Ask(Post("/v1/responses", more)).status;
  while (status == 503 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(5));
    status = Ask(Post("/v1/responses", more)).status;
  }
  EXPECT_EQ(status, 200);
  server_.reset();
  background_.reset();
  BeginWithState();
  EXPECT_EQ(Ended(streamed)["status"], "completed");
  EXPECT_EQ(Ended(at_once)["status"], "completed");
  EXPECT_EQ(Ended(cancelled)["status"], "cancelled");
}

TEST_F(HttpResponsesTest, AStreamInTheBackgroundThatIsRefusedIsNotKept) {
  BeginWithState();
  EXPECT_EQ(
      Ask(Post("/v1/responses", kStreamInBackground, "X-Holdfast-Resume: perhaps\r\n")).status,
      400);
  server_.reset();
  background_.reset();
  auto database = Database::Open(path_, "");
  ASSERT_TRUE(database.ok()) << database.status();
  auto rows = (*database)->Query("SELECT count(*) FROM responses");
  ASSERT_TRUE(rows.ok() && rows->Next());
  EXPECT_EQ(rows->Integer(0), 0);
}

TEST_F(HttpResponsesTest, OneInTheBackgroundIsCancelled) {
  BeginWithState();
  const Json made = Create(R"(,"background":true)");
  const std::string path = "/v1/responses/" + made["id"].get<std::string>() + "/cancel";
  const Response cancelled = Ask(Post(path, ""));
  EXPECT_EQ(cancelled.status, 200);
  EXPECT_EQ(ParseJson(cancelled.body)->at("status"), "cancelled");
  EXPECT_THAT(service_.cancelled_ids(), testing::ElementsAre(made["id"].get<std::string>()));
  service_.stream(0)->PushEnd();  // too late
  EXPECT_EQ(ParseJson(Show(made).body)->at("status"), "cancelled");
  EXPECT_EQ(Ask(Post(path, "")).status, 400);
}

TEST_F(HttpResponsesTest, AStreamInTheBackgroundGoesOnUnreadAndIsResumedAndKept) {
  BeginWithState();
  const Json made = LeaveInBackground();
  const auto id = made["id"].get<std::string>();
  const auto stream = service_.stream(0);
  EXPECT_EQ(ParseJson(Show(made).body)->at("status"), "in_progress");
  stream->PushText("Paris");
  stream->PushEnd();
  EXPECT_EQ(Ended(made)["output"][0]["content"][0]["text"], "Paris");
  EXPECT_FALSE(stream->cancelled.HasBeenNotified());
  const Response rest = Show(made, "?stream=true&starting_after=1");
  EXPECT_THAT(rest.body, StartsWith("id: 2\nevent: response.output_item.added\n"));
  EXPECT_THAT(rest.body, HasSubstr("response.completed"));
  EXPECT_EQ(Show(made, "?starting_after=1").status, 400);
  EXPECT_EQ(Show(made, "?stream=perhaps").status, 400);
  EXPECT_EQ(
      Ask("DELETE /v1/responses/" + id + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1\r\n\r\n")
          .status,
      200);
  EXPECT_EQ(Show(made, "?stream=true").status, 404);
}

TEST_F(HttpResponsesTest, AStreamInTheBackgroundThatFailsIsKeptAsFailed) {
  BeginWithState();
  Client client(server_->port());
  client.Send(Post("/v1/responses", kStreamInBackground));
  service_.stream(0)->Push(GenerationDone{.status = absl::InternalError("broken")});
  const Response response = client.Read();
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, HasSubstr("event: error\n"));
  const Json ended = Ended(IdIn(response.body));
  EXPECT_EQ(ended["status"], "failed");
  EXPECT_EQ(ended["error"]["code"], "server_error");
}

TEST_F(HttpResponsesTest, ADrainWaitsForAStreamInTheBackground) {
  BeginWithState();
  const Json made = LeaveInBackground();
  const auto stream = service_.stream(0);
  server_->BeginDrain();
  EXPECT_EQ(Ask(Get("/health/ready")).status, 503);
  EXPECT_FALSE(server_->WaitIdle(absl::Now()));
  stream->PushText("Paris");
  stream->PushEnd();
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  EXPECT_EQ(Ended(made)["status"], "completed");
}

TEST_F(HttpResponsesTest, WithoutAStateWhatNeedsNoneIsAnsweredAndTheRestNamesTheSetting) {
  service_.on_start = AnswerWithText;
  Begin();
  const Json made = Create();
  EXPECT_EQ(made["store"], false);
  EXPECT_THAT(Show(made).body, HasSubstr("state.path"));
  for (const char* more :
       {R"("store":true)", R"("background":true)", R"("previous_response_id":"resp_1")"}) {
    const Response refused =
        Ask(Post("/v1/responses", absl::StrCat(R"({"input":"hi",)", more, "}")));
    EXPECT_EQ(refused.status, 400) << more;
    EXPECT_THAT(refused.body, HasSubstr("state.path"));
  }
}

TEST_F(HttpResponsesTest, PagesOfItemsAreBounded) {
  service_.on_start = AnswerWithText;
  BeginWithState();
  const Response response = Ask(Post("/v1/responses", R"({"input":[
    {"role":"user","content":"1"},{"role":"user","content":"2"},{"role":"user","content":"3"}]})"));
  const Json made = *ParseJson(response.body);
  const Json page = *ParseJson(Show(made, "/input_items?limit=2&order=asc").body);
  EXPECT_EQ(page["data"].size(), 2u);
  EXPECT_EQ(page["has_more"], true);
  const std::string last = page["last_id"];
  const Json rest = *ParseJson(Show(made, "/input_items?order=asc&after=" + last).body);
  EXPECT_EQ(rest["data"].size(), 1u);
  EXPECT_EQ(rest["data"][0]["content"][0]["text"], "3");
  EXPECT_EQ(Show(made, "/input_items?limit=0").status, 400);
}

}  // namespace
}  // namespace holdfast
