#include "server/embedding_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/embedding.h"
#include "server/http_status.h"
#include "server/request_validator.h"

namespace holdfast {
namespace {

using testing::HasSubstr;
using Decoder = std::function<absl::StatusOr<EmbeddingCall>(const std::string&)>;

GenerationService::ModelInfo Model() {
  return {.name = "tiny",
          .aliases = {"small"},
          .context_tokens = 64,
          .vocab_size = 1000,
          .embedding_size = 4,
          .pooling = Pooling::kLast};
}
Decoder Of(absl::StatusOr<EmbeddingCall> (*decode)(std::string_view,
                                                   const GenerationService::ModelInfo&),
           GenerationService::ModelInfo info = Model()) {
  return [=](const std::string& body) { return decode(body, info); };
}

// "" when accepted, else the parameter that the refusal names.
std::string Refused(const Decoder& decode, const std::string& body) {
  const absl::Status status = decode(body).status();
  if (status.ok()) return "";
  const OpenAiError error = ToOpenAiError(status);
  EXPECT_TRUE(error.http_status == 400 || error.http_status == 404) << status;
  return error.param.empty() ? "?" : error.param;
}

std::string Many(int64_t count, const std::string& item) {
  std::string list;
  for (int64_t i = 0; i < count; ++i) absl::StrAppend(&list, i > 0 ? "," : "", item);
  return list;
}

TEST(EmbeddingCodecTest, InputIsATextOrTokensOrAListOfEither) {
  const Decoder decode = Of(DecodeEmbeddings);
  struct Case {
    const char* input;
    size_t count;
    const char* last_param;
  };
  for (const Case& c : {Case{R"("hi")", 1, "input"}, Case{R"(["a","b","c"])", 3, "input[2]"},
                        Case{"[1,2,3]", 1, "input"}, Case{"[[1],[2,3]]", 2, "input[1]"}}) {
    const auto call = decode(absl::StrCat(R"({"model":"small","input":)", c.input, "}"));
    ASSERT_TRUE(call.ok()) << call.status();
    EXPECT_EQ(call->model, "small");
    ASSERT_EQ(call->requests.size(), c.count);
    const GenerationRequest& last = call->requests.back();
    EXPECT_EQ(last.embedding->param, c.last_param);
    EXPECT_EQ(last.embedding->pooling, Pooling::kLast);
    EXPECT_EQ(last.max_tokens, 0);
    EXPECT_FALSE(last.want_text);
  }
}

TEST(EmbeddingCodecTest, WhatEmbeddingsDoNotTakeIsRefusedByName) {
  const Decoder decode = Of(DecodeEmbeddings);
  const auto refused = [&](const std::string& more) {
    return Refused(decode, absl::StrCat(R"({"input":"hi",)", more, "}"));
  };
  EXPECT_EQ(refused(R"("user":"u","encoding_format":"base64","cache_salt":"s","priority":2)"), "");
  EXPECT_EQ(refused(R"("encoding_format":"float","offline":true)"), "");
  EXPECT_EQ(refused(R"("encoding_format":"int8")"), "encoding_format");
  EXPECT_EQ(refused(R"("dimensions":4)"), "");
  for (const char* dimensions : {"0", "-1", "3", "5", "\"4\""}) {
    EXPECT_EQ(refused(absl::StrCat("\"dimensions\":", dimensions)), "dimensions") << dimensions;
  }
  EXPECT_EQ(refused(R"("model":"other")"), "model");
  EXPECT_EQ(refused(R"("temperature":1)"), "temperature");
  EXPECT_EQ(Refused(decode, "{}"), "input");
  for (const char* input : {"7", "{}", "[]", R"([1,"a"])", R"(["a",[1]])", "[1.5]", "[null]"}) {
    EXPECT_EQ(Refused(decode, absl::StrCat("{\"input\":", input, "}")), "input") << input;
  }
  EXPECT_EQ(Refused(decode, R"({"input":""})"), "input");
  EXPECT_EQ(Refused(decode, R"({"input":["a",""]})"), "input[1]");
  EXPECT_EQ(Refused(decode, R"({"input":[[1],[]]})"), "input[1]");
  EXPECT_EQ(Refused(decode, R"({"input":[[1],[1000]]})"), "input[1]");
  const absl::Status cut = decode(R"({"input":"a","dimensions":3})").status();
  EXPECT_THAT(std::string(cut.message()), HasSubstr("model.matryoshka"));
}

TEST(EmbeddingCodecTest, AModelThatWasTrainedForItMayBeCutShort) {
  GenerationService::ModelInfo info = Model();
  info.matryoshka = true;
  const auto call = DecodeEmbeddings(R"({"input":"a","dimensions":3})", info);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests[0].embedding->dimensions, 3);
  EXPECT_EQ(Refused(Of(DecodeEmbeddings, info), R"({"input":"a","dimensions":5})"), "dimensions");
}

TEST(EmbeddingCodecTest, AModelThatGivesNoneSaysSo) {
  GenerationService::ModelInfo info = Model();
  info.embedding_size = 0;
  EXPECT_EQ(Refused(Of(DecodeEmbeddings, info), R"({"input":"a"})"), "model");
}

TEST(EmbeddingCodecTest, TextsAndNumbersOfABodyAreBounded) {
  const auto inputs = [](int64_t count) { return "{\"input\":[" + Many(count, "\"a\"") + "]}"; };
  EXPECT_EQ(Refused(Of(DecodeEmbeddings), inputs(kEmbeddingInputsMax)), "");
  EXPECT_EQ(Refused(Of(DecodeEmbeddings), inputs(kEmbeddingInputsMax + 1)), "input");
  GenerationService::ModelInfo wide = Model();
  wide.embedding_size = 8192;
  EXPECT_EQ(Refused(Of(DecodeEmbeddings, wide), inputs(512)), "");
  EXPECT_EQ(Refused(Of(DecodeEmbeddings, wide), inputs(513)), "input");
  const auto documents = [](int64_t count) {
    return R"({"query":"q","documents":[)" + Many(count, "\"a\"") + "]}";
  };
  EXPECT_EQ(Refused(Of(DecodeRerank), documents(kEmbeddingInputsMax - 1)), "");
  EXPECT_EQ(Refused(Of(DecodeRerank), documents(kEmbeddingInputsMax)), "documents");
}

TEST(EmbeddingCodecTest, ATextTooLongIsNamedWithItsTokens) {
  auto call = DecodeEmbeddings(R"({"input":["a","b"]})", Model());
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_TRUE(FitToContext(call->requests[1], 64, 64).ok());
  const OpenAiError error = ToOpenAiError(FitToContext(call->requests[1], 65, 64));
  EXPECT_EQ(error.http_status, 400);
  EXPECT_EQ(error.param, "input[1]");
  EXPECT_EQ(error.code, "context_length_exceeded");
  EXPECT_EQ(error.message, "input[1] has 65 tokens; the model takes 64; shorten it");
}

TEST(EmbeddingCodecTest, ScoresAreOfOneQueryWithEachDocumentOrOfPairs) {
  const Decoder decode = Of(DecodeScore);
  const auto queries = [&](const std::string& body) -> size_t {
    const auto call = decode(body);
    EXPECT_TRUE(call.ok()) << call.status();
    return call.ok() ? std::get<ScoreShape>(call->shape).num_queries : 0;
  };
  EXPECT_EQ(queries(R"({"text_1":"a","text_2":"b"})"), 1u);
  EXPECT_EQ(queries(R"({"text_1":"a","text_2":["b","c"]})"), 1u);
  EXPECT_EQ(queries(R"({"queries":["a","b"],"documents":["b","c"]})"), 2u);
  EXPECT_EQ(Refused(decode, R"({"text_1":["a","b"],"text_2":"b"})"), "text_2");
  EXPECT_EQ(Refused(decode, R"({"text_1":"a"})"), "text_2");
  EXPECT_EQ(Refused(decode, R"({"text_1":[],"text_2":"b"})"), "text_1");
  EXPECT_EQ(Refused(decode, R"({"text_1":[1],"text_2":"b"})"), "text_1");
  EXPECT_EQ(Refused(decode, R"({"text_1":7,"text_2":"b"})"), "text_1");
  EXPECT_EQ(Refused(decode, R"({"text_1":"a","text_2":["b",""]})"), "text_2[1]");
  EXPECT_EQ(Refused(decode, R"({"text_1":"a","queries":"a","text_2":"b"})"), "queries");
}

TEST(EmbeddingCodecTest, RerankTakesDocumentsAsTextsOrObjects) {
  const Decoder decode = Of(DecodeRerank);
  const auto call =
      decode(R"({"query":"q","documents":["a",{"text":"b"}],"top_n":5,"return_documents":false})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests.size(), 3u);
  const auto& shape = std::get<RerankShape>(call->shape);
  EXPECT_EQ(shape.results_max, 2u);
  EXPECT_TRUE(shape.documents.empty());
  EXPECT_EQ(Refused(decode, R"({"documents":["a"]})"), "query");
  EXPECT_EQ(Refused(decode, R"({"query":"q"})"), "documents");
  EXPECT_EQ(Refused(decode, R"({"query":"q","documents":[]})"), "documents");
  EXPECT_EQ(Refused(decode, R"({"query":"q","documents":["a",7]})"), "documents");
  EXPECT_EQ(Refused(decode, R"({"query":"q","documents":[{"image":"x"}]})"), "documents[0].text");
  EXPECT_EQ(Refused(decode, R"({"query":"q","documents":["a"],"top_n":-1})"), "top_n");
  EXPECT_EQ(Refused(decode, R"({"query":"","documents":["a"]})"), "query");
}

// ---- Answers
// -------------------------------------------------------------------------------------

Json Answer(EmbeddingShape shape, const std::vector<std::vector<float>>& embeddings) {
  EmbeddingBody body({.id = "embd-1", .model = "tiny", .created_unix = 9}, std::move(shape),
                     embeddings.size());
  for (size_t i = embeddings.size(); i-- > 0;) {  // in any order
    body.Add(static_cast<int32_t>(i), PromptInfo{.prompt_tokens = 2 + static_cast<int32_t>(i),
                                                 .cached_tokens = 1,
                                                 .embedding = embeddings[i]});
    body.Add(static_cast<int32_t>(i), ChoiceDelta{.finish = FinishReason::kLength});
    body.Add(static_cast<int32_t>(i), GenerationDone{});
  }
  const absl::StatusOr<Json> json = ParseOwnJson(body.Finish());
  EXPECT_TRUE(json.ok()) << json.status();
  return json.ok() ? *json : Json();
}

const std::vector<std::vector<float>> kEmbeddings = {
    {0.6f, 0.8f, -1e-9f}, {1.0f / 3, 0, 0.1f}, {0.6f, 0.8f, -1e-9f}, {-0.6f, -0.8f, 1e-9f}};

TEST(EmbeddingBodyTest, NumbersReadAsTheFloatsThatTheyWere) {
  const Json json = Answer(EmbeddingsShape{}, kEmbeddings);
  EXPECT_EQ(json["object"], "list");
  EXPECT_EQ(json["model"], "tiny");
  ASSERT_EQ(json["data"].size(), kEmbeddings.size());
  for (size_t i = 0; i < kEmbeddings.size(); ++i) {
    EXPECT_EQ(json["data"][i]["index"], i);
    EXPECT_EQ(json["data"][i]["object"], "embedding");
    EXPECT_EQ(json["data"][i]["embedding"].get<std::vector<float>>(), kEmbeddings[i]);
  }
  EXPECT_EQ(json["usage"]["prompt_tokens"], 2 + 3 + 4 + 5);
  EXPECT_EQ(json["usage"]["total_tokens"], 14);
  EXPECT_EQ(json["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
}

TEST(EmbeddingBodyTest, Base64HoldsTheSameFloats) {
  const Json json = Answer(EmbeddingsShape{.base64 = true}, kEmbeddings);
  for (size_t i = 0; i < kEmbeddings.size(); ++i) {
    std::string bytes;
    ASSERT_TRUE(absl::Base64Unescape(json["data"][i]["embedding"].get<std::string>(), &bytes));
    std::vector<float> numbers(bytes.size() / sizeof(float));
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
    EXPECT_EQ(numbers, kEmbeddings[i]);
  }
}

TEST(EmbeddingBodyTest, ScoresAreCosines) {
  const Json one = Answer(ScoreShape{.num_queries = 1}, kEmbeddings);
  EXPECT_EQ(one["id"], "embd-1");
  EXPECT_EQ(one["created"], 9);
  ASSERT_EQ(one["data"].size(), 3u);
  EXPECT_EQ(one["data"][1]["score"], 1.0);
  EXPECT_EQ(one["data"][2]["score"], -1.0);
  EXPECT_EQ(one["data"][2]["index"], 2);
  const Json pairs = Answer(ScoreShape{.num_queries = 2}, kEmbeddings);
  ASSERT_EQ(pairs["data"].size(), 2u);
  EXPECT_EQ(pairs["data"][0]["score"], 1.0);
  EXPECT_NEAR(pairs["data"][1]["score"].get<double>(), -0.5747, 1e-3);
}

TEST(EmbeddingBodyTest, DocumentsComeByRelevanceAndAmongEqualsAsTheyStood) {
  const RerankShape all{.results_max = 3, .documents = {"x", "y", "z"}};
  const Json json = Answer(all, kEmbeddings);
  ASSERT_EQ(json["results"].size(), 3u);
  EXPECT_EQ(json["results"][0]["index"], 1);
  EXPECT_EQ(json["results"][0]["relevance_score"], 1.0);
  EXPECT_EQ(json["results"][0]["document"]["text"], "y");
  EXPECT_EQ(json["results"][2]["index"], 2);
  const Json equal = Answer(RerankShape{.results_max = 2}, {{1, 0}, {0, 1}, {2, 0}, {3, 0}});
  ASSERT_EQ(equal["results"].size(), 2u);
  EXPECT_EQ(equal["results"][0]["index"], 1);
  EXPECT_EQ(equal["results"][1]["index"], 2);
  EXPECT_FALSE(equal["results"][0].contains("document"));
}

TEST(EmbeddingTest, HasLengthOneAlsoWhenItIsCutShort) {
  EXPECT_EQ(ToEmbedding({3, 4, 12}, std::nullopt)[0], 3.0f / 13);
  const std::vector<float> cut = ToEmbedding({3, 4, 12}, 2);
  ASSERT_EQ(cut.size(), 2u);
  EXPECT_EQ(cut[1], 0.8f);
  EXPECT_EQ(ToEmbedding({0, 0}, std::nullopt), (std::vector<float>{0, 0}));
  EXPECT_EQ(CosineOf(std::vector<float>{0, 0}, std::vector<float>{1, 0}), 0.0f);
}

}  // namespace
}  // namespace holdfast
