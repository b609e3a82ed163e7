// Embeddings over HTTP: one body of many texts, all or none.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

class HttpEmbeddingsTest : public HttpServerFixture {
 protected:
  static void Answer(const GenerationRequest& request, FakeStream& stream) {
    const auto bytes = static_cast<float>(std::get<std::string>(request.prompt).size());
    stream.Push(PromptInfo{.prompt_tokens = 2, .embedding = {1, bytes}});
    stream.Push(ChoiceDelta{.finish = FinishReason::kLength});
    stream.Push(GenerationDone{.prompt_tokens = 2});
  }
};

TEST_F(HttpEmbeddingsTest, EachTextOfABodyBecomesARequestAndABodyOneAnswer) {
  service_.on_start = Answer;
  Begin();
  const Response response = Ask(Post("/v1/embeddings", R"({"input":["a","bb","ccc"]})"));
  EXPECT_EQ(response.status, 200) << response.body;
  const auto body = ParseJson(response.body);
  ASSERT_TRUE(body.ok()) << body.status();
  ASSERT_EQ((*body)["data"].size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ((*body)["data"][i]["embedding"][1], i + 1);
  EXPECT_EQ((*body)["model"], "org/tiny");
  EXPECT_EQ((*body)["usage"]["total_tokens"], 6);
  ASSERT_EQ(service_.num_started(), 3u);
  EXPECT_EQ(service_.request(1).tenant, TenantIndex{1});
  EXPECT_EQ(service_.request(0).wire_id.substr(0, 5), "embd-");
}

TEST_F(HttpEmbeddingsTest, ScoreAndRerankAnswerByTheSameRequests) {
  service_.on_start = Answer;
  Begin();
  const auto score =
      ParseJson(Ask(Post("/v1/score", R"({"text_1":"bb","text_2":["a","bb"]})")).body);
  ASSERT_TRUE(score.ok()) << score.status();
  EXPECT_EQ((*score)["data"][1]["score"], 1.0);
  const auto rerank =
      ParseJson(Ask(Post("/v1/rerank", R"({"query":"bb","documents":["a","bb"],"top_n":1})")).body);
  ASSERT_TRUE(rerank.ok()) << rerank.status();
  ASSERT_EQ((*rerank)["results"].size(), 1u);
  EXPECT_EQ((*rerank)["results"][0]["index"], 1);
}

TEST_F(HttpEmbeddingsTest, OneTextThatFailsFailsTheBodyAndCancelsTheOthers) {
  service_.on_start = [](const GenerationRequest& request, FakeStream& stream) {
    if (std::get<std::string>(request.prompt) != "bad") return;
    stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("the queue is full")});
  };
  Begin();
  const Response response = Ask(Post("/v1/embeddings", R"({"input":["a","bad","c"]})"));
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(ErrorField(response, "message"), "the queue is full");
  EXPECT_TRUE(service_.stream(0)->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(service_.stream(2)->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpEmbeddingsTest, AClientThatLeavesCancelsAllOfItsTexts) {
  Begin();
  Client client(server_->port());
  client.Send(Post("/v1/embeddings", R"({"input":["a","b"]})"));
  const auto first = service_.stream(0), second = service_.stream(1);
  client.Leave();
  EXPECT_TRUE(first->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(second->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpEmbeddingsTest, AFaultNamesWhatIsWrong) {
  Begin();
  const Response response = Ask(Post("/v1/embeddings", R"({"input":["a",""]})"));
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(ErrorField(response, "param"), "input[1]");
  EXPECT_EQ(Ask(Post("/v1/embeddings", "{}")).status, 400);
  EXPECT_EQ(Ask(Get("/v1/embeddings")).status, 405);
  EXPECT_EQ(service_.num_started(), 0u);
}

}  // namespace
}  // namespace holdfast
