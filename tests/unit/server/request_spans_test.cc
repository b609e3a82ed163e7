#include "server/request_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "tests/unit/server/trace_collector.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::Pair;
using Json = nlohmann::json;

class RequestSpansTest : public testing::Test {
 protected:
  RequestSpansTest() {
    record_.id = "chatcmpl-1";
    record_.trace = tracer_->Begin("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    record_.prompt_tokens = 31;
    record_.cached_tokens = 16;
    record_.completion_tokens = 12;
    record_.arrival = At(10);
    record_.times = {.admitted = At(12)};
    record_.first_token = At(15);
    record_.end = At(20);
  }
  static absl::Time At(int second) { return absl::FromUnixSeconds(second); }

  // By name: all that was sent.
  std::map<std::string, Json> Sent() {
    AddGenerationSpans(record_, "acme", "tiny", *tracer_);
    tracer_.reset();
    std::map<std::string, Json> sent;
    for (const Json& span : collector_.spans()) sent[span["name"].get<std::string>()] = span;
    return sent;
  }
  // By name of the stage: seconds from and to, less what the machine's clock was set meanwhile.
  std::map<std::string, std::pair<int64_t, int64_t>> Stages() {
    std::map<std::string, std::pair<int64_t, int64_t>> stages;
    for (const auto& [name, span] : Sent()) {
      stages[name] = {SecondOf(span["startTimeUnixNano"]), SecondOf(span["endTimeUnixNano"])};
    }
    stages.erase("generation");
    return stages;
  }
  static int64_t SecondOf(const Json& told) {
    int64_t nanoseconds = 0;
    EXPECT_TRUE(absl::SimpleAtoi(told.get<std::string>(), &nanoseconds));
    return (nanoseconds + 500'000'000) / 1'000'000'000;
  }
  static std::map<std::string, std::string> ValuesOf(const Json& span) {
    std::map<std::string, std::string> values;
    for (const Json& one : span["attributes"]) {
      values[one["key"].get<std::string>()] = one["value"].begin()->get<std::string>();
    }
    return values;
  }

  MetricsRegistry metrics_;
  TraceCollector collector_;
  std::unique_ptr<Tracer> tracer_ = std::make_unique<Tracer>(
      TracerOptions{.otlp_http = collector_.address(), .linger = absl::InfiniteDuration()},
      metrics_);
  GenerationRecord record_;
};

TEST_F(RequestSpansTest, AGenerationHasItsStages) {
  EXPECT_THAT(Stages(), ElementsAre(Pair("decode", Pair(15, 20)), Pair("prefill", Pair(12, 15)),
                                    Pair("queue", Pair(10, 12))));
}

TEST_F(RequestSpansTest, WhatCameBackFromLowerTiersIsAStageBeforeThePrefill) {
  record_.times.restored = At(13);
  record_.times.restored_tokens = 16;
  EXPECT_THAT(Stages(), ElementsAre(Pair("decode", Pair(15, 20)), Pair("kv_restore", Pair(12, 13)),
                                    Pair("prefill", Pair(13, 15)), Pair("queue", Pair(10, 12))));
}

TEST_F(RequestSpansTest, TheGapOfAToolLiesBeforeTheGeneration) {
  record_.times.tool_called = At(3);
  record_.times.tool = "search";
  const auto sent = Sent();
  const Json& gap = sent.at("tool_gap");
  EXPECT_EQ(SecondOf(gap["startTimeUnixNano"]), 3);
  EXPECT_EQ(SecondOf(gap["endTimeUnixNano"]), 10);
  EXPECT_EQ(gap["parentSpanId"], sent.at("generation")["spanId"]);
  EXPECT_THAT(ValuesOf(gap), ElementsAre(Pair("gen_ai.tool.name", "search")));
}

TEST_F(RequestSpansTest, WhoNeverRanWasInTheQueueToTheEnd) {
  record_.times = {};
  record_.first_token = absl::InfinitePast();
  record_.outcome = Outcome::kShed;
  EXPECT_THAT(Stages(), ElementsAre(Pair("queue", Pair(10, 20))));
}

TEST_F(RequestSpansTest, WhoEndedBeforeItsFirstTokenHasNoDecode) {
  record_.first_token = absl::InfinitePast();
  EXPECT_THAT(Stages(), ElementsAre(Pair("prefill", Pair(12, 20)), Pair("queue", Pair(10, 12))));
}

TEST_F(RequestSpansTest, AGenerationSaysIdsAndSizes) {
  const Json generation = Sent().at("generation");
  EXPECT_EQ(generation["traceId"], "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(generation["parentSpanId"], "b7ad6b7169203331");
  EXPECT_EQ(generation["kind"], 2);  // its caller is another program
  EXPECT_FALSE(generation.contains("status"));
  EXPECT_THAT(
      ValuesOf(generation),
      ElementsAre(Pair("gen_ai.request.model", "tiny"), Pair("gen_ai.response.id", "chatcmpl-1"),
                  Pair("gen_ai.usage.input_tokens", "31"), Pair("gen_ai.usage.output_tokens", "12"),
                  Pair("holdfast.cached_tokens", "16"), Pair("holdfast.outcome", "ok"),
                  Pair("holdfast.tenant", "acme")));
}

TEST_F(RequestSpansTest, OfAnHttpRequestItIsAPart) {
  record_.trace->is_callers = false;
  record_.outcome = Outcome::kError;
  const Json generation = Sent().at("generation");
  EXPECT_EQ(generation["kind"], 1);
  EXPECT_EQ(generation["status"]["code"], 2);
}

TEST_F(RequestSpansTest, WhatAClientDidIsNoErrorOfTheServers) {
  record_.outcome = Outcome::kCancelled;
  EXPECT_FALSE(Sent().at("generation").contains("status"));
}

TEST_F(RequestSpansTest, WhoIsNotSampledOrNotTracedLeavesNothing) {
  record_.trace->sampled = false;
  AddHttpSpan({.method = "POST", .route = "/x", .trace = record_.trace}, "acme", *tracer_);
  AddGenerationSpans(record_, "acme", "tiny", *tracer_);
  record_.trace.reset();
  AddHttpSpan({.method = "POST", .route = "/x"}, "acme", *tracer_);
  EXPECT_TRUE(Sent().empty());
}

TEST_F(RequestSpansTest, AnHttpRequestSaysItsRouteAndStatusAndFailsFrom500On) {
  HttpAccess access{.method = "POST",
                    .route = "/v1/chat/completions",
                    .code = 429,
                    .request_id = "req_1",
                    .begin = At(10),
                    .elapsed = absl::Seconds(2),
                    .body_bytes = 83,
                    .trace = record_.trace,
                    .trace_parent = SpanId{1}};
  AddHttpSpan(access, "acme", *tracer_);
  access.code = 500;
  AddHttpSpan(access, "acme", *tracer_);
  tracer_.reset();
  const auto spans = collector_.spans();
  ASSERT_EQ(spans.size(), 2);
  EXPECT_EQ(spans[0]["name"], "POST /v1/chat/completions");
  EXPECT_EQ(spans[0]["spanId"], "b7ad6b7169203331");
  EXPECT_EQ(spans[0]["parentSpanId"], "0100000000000000");
  EXPECT_FALSE(spans[0].contains("status"));
  EXPECT_EQ(spans[1]["status"]["message"], "status 500");
  EXPECT_THAT(ValuesOf(spans[0]),
              ElementsAre(Pair("holdfast.request_id", "req_1"), Pair("holdfast.tenant", "acme"),
                          Pair("http.request.body.size", "83"), Pair("http.request.method", "POST"),
                          Pair("http.response.status_code", "429"),
                          Pair("http.route", "/v1/chat/completions")));
}

}  // namespace
}  // namespace holdfast
