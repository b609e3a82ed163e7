#include "server/background_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "config/base/clock.h"
#include "server/json_body.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

std::string Line(int id, const std::string& more = "") {
  return absl::StrCat(R"({"custom_id": "id)", id,
                      R"(", "method": "POST", "url": "/v1/completions", "body": {"prompt": "p)", id,
                      "\"", more, "}}\n");
}

std::string EmbeddingsLine(int id, const std::string& input, const std::string& more = "") {
  return absl::StrCat(R"({"custom_id": "id)", id,
                      R"(", "method": "POST", "url": "/v1/embeddings", "body": {"input": )", input,
                      more, "}}\n");
}

// A service that the test drives, over a store in a file of its own.
class BackgroundServiceTest : public testing::Test {
 protected:
  ~BackgroundServiceTest() override {
    batches_.reset();
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + end);
  }
  void Begin(int32_t lines_at_once = 4, std::function<absl::Time()> now = SteadyNow) {
    batches_.reset();
    auto store = State::Open(path_, {}, clock_);
    ASSERT_TRUE(store.ok()) << store.status();
    metrics_ = std::make_unique<MetricsRegistry>();
    batches_ = std::make_unique<BackgroundService>(
        BackgroundOptions{.tenants = {"red", "blue"},
                          .lines_at_once = lines_at_once,
                          .on_fault = [](const absl::Status& s) { ADD_FAILURE() << s; },
                          .now = std::move(now)},
        *std::move(store), service_, *metrics_);
    batches_->BeginRunning();
  }
  // On the batch thread; its result.
  template <typename F>
  auto Ask(const F& ask) {
    decltype(ask(std::declval<State&>())) result{};
    absl::Notification done;
    EXPECT_TRUE(batches_->Ask([&](State& state) {
      result = ask(state);
      done.Notify();
    }));
    EXPECT_TRUE(done.WaitForNotificationWithTimeout(kPatience));
    return result;
  }
  std::string Add(const std::string& tenant, const std::string& content,
                  const std::string& endpoint = "/v1/completions") {
    return Ask([&](State& state) {
      const auto file = state.batches().AddFile(tenant, "a", "batch", content, std::nullopt);
      const auto batch =
          state.batches().AddBatch(tenant, {.endpoint = endpoint, .input_file = file->id});
      return batch->id;
    });
  }
  Batch Find(const std::string& tenant, const std::string& id) {
    return Ask([&](State& state) { return *state.batches().FindBatch(tenant, id); });
  }
  Batch Ended(const std::string& tenant, const std::string& id) {
    const absl::Time deadline = absl::Now() + kPatience;
    Batch batch = Find(tenant, id);
    while (!IsEnd(batch.status) && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(5));
      batch = Find(tenant, id);
    }
    return batch;
  }
  std::vector<Json> Answers(const std::string& file) {
    const std::string text =
        Ask([&](State& state) { return *state.batches().FileContent("red", file); });
    std::vector<Json> lines;
    for (const auto line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      lines.push_back(*ParseJson(line));
    }
    return lines;
  }
  void AnswerAll() {
    service_.on_start = [](const GenerationRequest& request, FakeStream& stream) {
      stream.PushText(absl::StrCat("to ", std::get<std::string>(request.prompt)));
      stream.PushEnd();
    };
  }

  // A text's embedding: its length, and a one.
  static void Embed(const GenerationRequest& request, FakeStream& stream) {
    const auto length = static_cast<float>(std::get<std::string>(request.prompt).size());
    stream.Push(PromptInfo{.prompt_tokens = 2, .embedding = {length, 1}});
    stream.Push(GenerationDone{.prompt_tokens = 2});
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/service-", getpid(), "-",
                   testing::UnitTest::GetInstance()->current_test_info()->name(), ".sqlite");
  WallClock clock_;
  FakeService service_;
  std::unique_ptr<MetricsRegistry> metrics_;
  std::unique_ptr<BackgroundService> batches_;
};

TEST_F(BackgroundServiceTest, EachLineIsRunOfflineForItsTenantAndAnswered) {
  AnswerAll();
  Begin();
  std::string content;
  for (int i = 0; i < 10; ++i) content += Line(i);
  const Batch batch = Ended("red", Add("red", content));
  EXPECT_EQ(batch.status, BatchStatus::kCompleted);
  const std::vector<Json> lines = Answers(*batch.output_file);
  ASSERT_EQ(lines.size(), 10u);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(lines[i]["custom_id"], absl::StrCat("id", i));
    EXPECT_EQ(lines[i]["response"]["body"]["choices"][0]["text"], absl::StrCat("to p", i));
  }
  for (size_t i = 0; i < service_.num_started(); ++i) {
    EXPECT_TRUE(service_.request(i).offline);
    EXPECT_EQ(service_.request(i).tenant, TenantIndex{0});
  }
}

TEST_F(BackgroundServiceTest, NoMoreLinesRunAtATimeThanWereAskedFor) {
  Begin(3);
  std::string content;
  for (int i = 0; i < 5; ++i) content += Line(i);
  const std::string id = Add("red", content);
  service_.stream(2);
  Find("red", id);
  EXPECT_EQ(service_.num_started(), 3u);
  service_.stream(0)->PushEnd();
  service_.stream(3);
  for (const size_t i : {1, 2, 3, 4}) service_.stream(i)->PushEnd();
  EXPECT_EQ(Ended("red", id).completed, 5);
}

TEST_F(BackgroundServiceTest, TenantsHaveEqualShares) {
  Begin(4);
  std::string content;
  for (int i = 0; i < 50; ++i) content += Line(i);
  const std::string red = Add("red", content);
  service_.stream(3);  // alone, red has all four
  const std::string blue = Add("blue", content);
  std::map<TenantIndex, int> running = {{TenantIndex{0}, 4}};
  // As red's lines end, blue's take their places, up to half.
  service_.stream(0)->PushEnd();
  service_.stream(1)->PushEnd();
  service_.stream(5);
  for (size_t i = 4; i < 6; ++i) ++running[service_.request(i).tenant];
  EXPECT_EQ(running[TenantIndex{1}], 2);
}

TEST_F(BackgroundServiceTest, ALineThatIsRefusedForLackOfRoomIsTriedAgain) {
  std::atomic<int> num_refused{0};
  service_.on_start = [&](const GenerationRequest&, FakeStream& stream) {
    if (num_refused.fetch_add(1) < 3) {
      stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("full")});
    } else {
      stream.PushEnd();
    }
  };
  Begin();
  const Batch batch = Ended("red", Add("red", Line(0) + Line(1)));
  EXPECT_EQ(batch.completed, 2);
  EXPECT_EQ(batch.failed, 0);
}

TEST_F(BackgroundServiceTest, LinesBehindOneThatIsRefusedGoOn) {
  std::atomic<int> num_others{0};
  service_.on_start = [&](const GenerationRequest& request, FakeStream& stream) {
    const bool is_first = std::get<std::string>(request.prompt) == "p0";
    if (is_first && num_others < 3) {
      stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("full")});
    } else {
      num_others += is_first ? 0 : 1;
      stream.PushEnd();
    }
  };
  Begin(1);
  EXPECT_EQ(Ended("red", Add("red", Line(0) + Line(1) + Line(2) + Line(3))).completed, 4);
}

TEST_F(BackgroundServiceTest, OfLinesThatAreAllRefusedFewAreTried) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("full")});
  };
  Begin(4);
  std::string content;
  for (int i = 0; i < 50; ++i) content += Line(i);
  const std::string id = Add("red", content);
  service_.stream(60);  // some of them again
  std::set<std::string> tried;
  for (size_t i = 0; i < service_.num_started(); ++i) {
    tried.insert(std::get<std::string>(service_.request(i).prompt));
  }
  EXPECT_LE(tried.size(), 32u + 4u);
  EXPECT_EQ(Find("red", id).failed, 0);
}

TEST_F(BackgroundServiceTest, ALineIsTriedAgainAfterLongerAndLongerPauses) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("full")});
  };
  std::atomic<int64_t> seconds{0};
  const absl::Time begin = SteadyNow();
  Begin(4, [&] { return begin + absl::Seconds(seconds.load()); });
  const std::string id = Add("red", Line(0));
  // What the first question finds may be from before the second last look.
  const auto look = [&] {
    for (int i = 0; i < 3; ++i) Find("red", id);
  };
  service_.stream(0);
  look();
  size_t tries = 1;
  for (const int pause : {1, 2, 4, 8, 16, 32, 60, 60}) {
    seconds += pause - 1;
    look();
    EXPECT_EQ(service_.num_started(), tries) << "within a pause of " << pause;
    ++seconds;
    look();
    EXPECT_EQ(service_.num_started(), ++tries) << "after a pause of " << pause;
  }
}

TEST_F(BackgroundServiceTest, AnErrorOfALineIsThatLinesAlone) {
  service_.on_start = [](const GenerationRequest& request, FakeStream& stream) {
    if (std::get<std::string>(request.prompt) == "p1") {
      stream.Push(GenerationDone{.status = absl::InternalError("broken")});
    } else {
      stream.PushEnd();
    }
  };
  Begin();
  const Batch batch =
      Ended("red", Add("red", Line(0) + Line(1) + Line(2, R"(, "temperature": 9)")));
  EXPECT_EQ(batch.completed, 1);
  EXPECT_EQ(batch.failed, 2);
  const std::vector<Json> errors = Answers(*batch.error_file);
  EXPECT_EQ(errors[0]["response"]["status_code"], 500);
  EXPECT_EQ(errors[1]["response"]["status_code"], 400);
  EXPECT_EQ(errors[1]["response"]["body"]["error"]["param"], "temperature");
}

TEST_F(BackgroundServiceTest, AnAnswerMayBeLargerThanARequest) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    const TokenText token{.token = 1, .bytes = "a", .logprob = -1};
    ChoiceDelta delta;
    delta.logprobs.assign(110'000, {.chosen = token, .top = {token}});
    stream.Push(std::move(delta));
    stream.PushEnd();
  };
  Begin();
  const Batch batch = Ended("red", Add("red", Line(0, R"(, "logprobs": 1)")));
  EXPECT_EQ(batch.completed, 1);
  const int64_t bytes =
      Ask([&](State& state) { return state.batches().FindFile("red", *batch.output_file)->bytes; });
  EXPECT_GT(bytes, 1'000'000);
}

TEST_F(BackgroundServiceTest, EmbeddingsAreMadeOfEachTextOfALineOfflineAndAnswered) {
  service_.on_start = Embed;
  Begin();
  const Batch batch =
      Ended("red", Add("red",
                       EmbeddingsLine(0, R"(["a", "bcd"])") +
                           EmbeddingsLine(1, R"("ef")", R"(, "encoding_format": "base64")"),
                       "/v1/embeddings"));
  EXPECT_EQ(batch.status, BatchStatus::kCompleted);
  EXPECT_EQ(batch.completed, 2);
  const std::vector<Json> lines = Answers(*batch.output_file);
  ASSERT_EQ(lines.size(), 2u);
  const Json& body = lines[0]["response"]["body"];
  EXPECT_EQ(body["object"], "list");
  EXPECT_EQ(body["data"][0]["embedding"], Json({1, 1}));
  EXPECT_EQ(body["data"][1]["embedding"], Json({3, 1}));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 4);
  EXPECT_TRUE(lines[1]["response"]["body"]["data"][0]["embedding"].is_string());
  std::set<std::string> ids;
  for (size_t i = 0; i < service_.num_started(); ++i) {
    EXPECT_TRUE(service_.request(i).offline);
    EXPECT_EQ(service_.request(i).tenant, TenantIndex{0});
    ids.insert(service_.request(i).wire_id);
  }
  EXPECT_EQ(ids.size(), 3u);
}

TEST_F(BackgroundServiceTest, ALineOfEmbeddingsThatIsWrongFailsAlone) {
  service_.on_start = [](const GenerationRequest& request, FakeStream& stream) {
    if (std::get<std::string>(request.prompt) == "broken") {
      stream.Push(GenerationDone{.status = absl::InternalError("broken")});
    } else {
      Embed(request, stream);
    }
  };
  Begin();
  const Batch batch =
      Ended("red", Add("red",
                       EmbeddingsLine(0, R"("a")") + EmbeddingsLine(1, R"(["a", "broken"])") +
                           EmbeddingsLine(2, R"(["a", ""])") + EmbeddingsLine(3, "[]") +
                           EmbeddingsLine(4, R"("a")", R"(, "stream": true)"),
                       "/v1/embeddings"));
  EXPECT_EQ(batch.status, BatchStatus::kCompleted);
  EXPECT_EQ(batch.completed, 1);
  EXPECT_EQ(batch.failed, 4);
  const std::vector<Json> errors = Answers(*batch.error_file);
  ASSERT_EQ(errors.size(), 4u);
  EXPECT_EQ(errors[0]["response"]["status_code"], 500);
  EXPECT_EQ(errors[1]["response"]["body"]["error"]["param"], "input[1]");
  EXPECT_EQ(errors[2]["response"]["body"]["error"]["param"], "input");
  EXPECT_EQ(errors[3]["response"]["body"]["error"]["param"], "stream");
}

TEST_F(BackgroundServiceTest, EachTextOfALineOfEmbeddingsCountsAsARequestThatRuns) {
  Begin(3);
  const std::string id = Add("red",
                             EmbeddingsLine(0, R"(["a", "b"])") +
                                 EmbeddingsLine(1, R"(["c", "d"])") + EmbeddingsLine(2, R"("e")"),
                             "/v1/embeddings");
  service_.stream(3);  // one more was begun while there was room for one
  Find("red", id);
  EXPECT_EQ(service_.num_started(), 4u);
  for (const size_t i : {0, 1, 2, 3, 4}) {
    const auto stream = service_.stream(i);
    Embed(service_.request(i), *stream);
  }
  EXPECT_EQ(Ended("red", id).completed, 3);
}

TEST_F(BackgroundServiceTest, EmbeddingsThatRanWhenItWasStoppedAreMadeAgainByTheNext) {
  Begin(2);
  const std::string id =
      Add("red", EmbeddingsLine(0, R"("a")") + EmbeddingsLine(1, R"("bc")"), "/v1/embeddings");
  service_.stream(1);
  Embed(service_.request(0), *service_.stream(0));
  while (Find("red", id).completed == 0) absl::SleepFor(absl::Milliseconds(5));
  batches_->Stop();
  EXPECT_TRUE(service_.stream(1)->cancelled.HasBeenNotified());
  const size_t before = service_.num_started();
  service_.on_start = Embed;
  Begin();
  EXPECT_EQ(Ended("red", id).completed, 2);
  ASSERT_EQ(service_.num_started(), before + 1);
  EXPECT_EQ(std::get<std::string>(service_.request(before).prompt), "bc");
}

TEST_F(BackgroundServiceTest, CancellingStopsWhatRuns) {
  Begin();
  const std::string id = Add("red", Line(0) + Line(1));
  service_.stream(0)->PushEnd();
  service_.stream(1);
  Ask([&](State& state) { return state.batches().CancelBatch("red", id).ok(); });
  EXPECT_TRUE(service_.stream(1)->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_EQ(Ended("red", id).status, BatchStatus::kCancelled);
}

TEST_F(BackgroundServiceTest, WhatRanWhenItWasStoppedIsRunAgainByTheNext) {
  Begin(2);
  const std::string id = Add("red", Line(0) + Line(1) + Line(2));
  service_.stream(0)->PushEnd();
  while (Find("red", id).completed == 0) absl::SleepFor(absl::Milliseconds(5));
  batches_->Stop();
  EXPECT_TRUE(service_.stream(1)->cancelled.HasBeenNotified());
  EXPECT_FALSE(batches_->Ask([](State&) {}));
  const size_t before = service_.num_started();
  AnswerAll();
  Begin();
  const Batch batch = Ended("red", id);
  EXPECT_EQ(batch.completed, 3);
  std::multiset<std::string> again;
  for (size_t i = before; i < service_.num_started(); ++i) {
    again.insert(std::get<std::string>(service_.request(i).prompt));
  }
  EXPECT_THAT(again, testing::ElementsAre("p1", "p2"));
}

}  // namespace
}  // namespace holdfast
