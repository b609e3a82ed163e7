#include "server/tracer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "tests/unit/server/trace_collector.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kPatience = TraceCollector::kPatience;
constexpr char kParent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

class TracerTest : public testing::Test {
 protected:
  void Begin(TracerOptions options = {}) {
    if (options.otlp_http.empty()) options.otlp_http = collector_.address();
    options.version = "9.9";
    tracer_ = std::make_unique<Tracer>(std::move(options), metrics_);
  }
  void Add(size_t count) {
    for (size_t i = 0; i < count; ++i) tracer_->Add({.id = tracer_->NewSpan(), .name = "queue"});
  }
  double Counted(const char* result) {
    return metrics_.AddCounter("holdfast_tracing_spans_total", "", {{"result", result}}).value();
  }

  MetricsRegistry metrics_;
  TraceCollector collector_;
  std::unique_ptr<Tracer> tracer_;
};

TEST_F(TracerTest, WhatWaitsAtTheEndIsSent) {
  Begin({.linger = absl::InfiniteDuration()});
  Add(3);
  tracer_.reset();
  ASSERT_EQ(collector_.requests().size(), 1);
  const auto request = collector_.requests().front();
  EXPECT_EQ(request.method_string(), "POST");
  EXPECT_EQ(request.target(), "/v1/traces");
  EXPECT_EQ(request["Content-Type"], "application/json");
  EXPECT_EQ(collector_.spans().size(), 3);
  EXPECT_EQ(Counted("sent"), 3);
}

TEST_F(TracerTest, SpansBeyondTheQueueAreDroppedAndCounted) {
  collector_.Hold();
  Begin({.linger = absl::InfiniteDuration(), .patience = kPatience});
  Add(kSpansOfBatchMax);
  ASSERT_TRUE(collector_.WaitForRequests(1));  // these are no longer in the queue
  Add(kSpansWaitingMax + 3);
  EXPECT_EQ(Counted("dropped"), 3);
  collector_.Answer(200);
  tracer_.reset();
  EXPECT_EQ(collector_.spans().size(), kSpansOfBatchMax + kSpansWaitingMax);
  EXPECT_EQ(collector_.requests().size(), 1 + kSpansWaitingMax / kSpansOfBatchMax);
  EXPECT_EQ(Counted("sent"), kSpansOfBatchMax + kSpansWaitingMax);
}

TEST_F(TracerTest, ACollectorThatRefusesIsToldOfOnceAndSpansAreNotSentAgain) {
  absl::Mutex mutex;
  std::vector<absl::Status> told;
  absl::Notification is_well;
  collector_.Answer(500);
  Begin({.linger = absl::ZeroDuration(), .on_change = [&](const absl::Status& status) {
           absl::MutexLock lock(&mutex);
           told.push_back(status);
           if (status.ok()) is_well.Notify();
         }});
  for (size_t i = 1; i <= 2; ++i) {
    Add(1);
    ASSERT_TRUE(collector_.WaitForRequests(i));
  }
  collector_.Hold();
  Add(1);
  ASSERT_TRUE(collector_.WaitForRequests(3));
  EXPECT_EQ(Counted("failed"), 2);
  collector_.Answer(200);
  ASSERT_TRUE(is_well.WaitForNotificationWithTimeout(kPatience));
  tracer_.reset();
  EXPECT_EQ(collector_.spans().size(), 3);
  ASSERT_EQ(told.size(), 2);
  EXPECT_EQ(told[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(told[0].message()), testing::HasSubstr("answers with status 500"));
}

TEST_F(TracerTest, WhereNobodyListensSpansFailAndNothingElseDoes) {
  std::string address;
  {
    const TraceCollector gone;
    address = gone.address();
  }
  absl::Notification told;
  Begin({.otlp_http = address,
         .linger = absl::ZeroDuration(),
         .on_change = [&](const absl::Status& status) {
           EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
           told.Notify();
         }});
  Add(1);
  ASSERT_TRUE(told.WaitForNotificationWithTimeout(kPatience));
  EXPECT_EQ(Counted("failed"), 1);
}

TEST_F(TracerTest, TheEndWaitsForOneAnswerOfASilentCollector) {
  collector_.FallSilent();
  Begin({.linger = absl::InfiniteDuration(), .patience = absl::Milliseconds(100)});
  Add(kSpansOfBatchMax + 1);
  ASSERT_TRUE(collector_.WaitForRequests(1));
  tracer_.reset();
  EXPECT_EQ(collector_.requests().size(), 1);  // the last span is not even tried
  EXPECT_EQ(Counted("sent"), 0);
}

TEST_F(TracerTest, AtTheEndOfItsPatienceItLeavesWhatASlowCollectorHasNotTaken) {
  Begin({.linger = absl::InfiniteDuration(), .patience = absl::ZeroDuration()});
  Add(1);
  tracer_.reset();
  EXPECT_TRUE(collector_.requests().empty());
}

TEST_F(TracerTest, TheRatioIsOfRequestsThatBringNoTrace) {
  for (const bool all : {false, true}) {
    Begin({.sample_ratio = all ? 1.0 : 0.0});
    for (int i = 0; i < 100; ++i) EXPECT_EQ(tracer_->Begin("").sampled, all);
    EXPECT_TRUE(tracer_->Begin(kParent).sampled);
    EXPECT_FALSE(tracer_->Begin("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").sampled);
  }
  Begin({.sample_ratio = 0.5});
  int sampled = 0;
  for (int i = 0; i < 1000; ++i) sampled += tracer_->Begin("").sampled ? 1 : 0;
  EXPECT_THAT(sampled, testing::AllOf(testing::Gt(300), testing::Lt(700)));
}

TEST_F(TracerTest, ACallersTraceGoesOnAndWhatIsNoneBeginsOne) {
  Begin();
  const TraceContext callers = tracer_->Begin(kParent);
  EXPECT_TRUE(callers.is_callers);
  EXPECT_EQ(FormatTraceParent(callers), kParent);
  const TraceContext first = tracer_->Begin("00-zz"), second = tracer_->Begin("");
  EXPECT_FALSE(first.span);
  EXPECT_FALSE(first.is_callers);
  EXPECT_NE(first.trace, second.trace);
  EXPECT_NE(tracer_->NewSpan(), tracer_->NewSpan());
}

class OtlpJsonTest : public testing::Test {
 protected:
  static Json Told(const Span& span, absl::Duration date_ahead = absl::ZeroDuration()) {
    return Json::parse(OtlpJson({span}, "9.9", date_ahead));
  }
  static Json ToldSpan(const Span& span, absl::Duration date_ahead = absl::ZeroDuration()) {
    return Told(span, date_ahead)["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
  }
  const absl::Time begin_ = absl::FromUnixSeconds(1'800'000'000);
};

TEST_F(OtlpJsonTest, ASpanIsToldAsTheProtocolWants) {
  const TraceContext parent = *ParseTraceParent(kParent);
  const Span span{.trace = parent.trace,
                  .id = {0xab, 0, 0, 0, 0, 0, 0, 0xcd},
                  .parent = parent.span,
                  .name = "decode",
                  .begin = begin_,
                  .end = begin_ + absl::Nanoseconds(1),
                  .attributes = {{"text", std::string("acme")},
                                 {"number", int64_t{9'007'199'254'740'993}},
                                 {"flag", true}}};
  EXPECT_EQ(Told(span), Json::parse(R"({"resourceSpans": [{
    "resource": {"attributes": [
      {"key": "service.name", "value": {"stringValue": "holdfast"}},
      {"key": "service.version", "value": {"stringValue": "9.9"}}]},
    "scopeSpans": [{"scope": {"name": "holdfast"}, "spans": [{
      "traceId": "0af7651916cd43dd8448eb211c80319c",
      "spanId": "ab000000000000cd",
      "parentSpanId": "b7ad6b7169203331",
      "name": "decode",
      "kind": 1,
      "startTimeUnixNano": "1800000000000000000",
      "endTimeUnixNano": "1800000000000000001",
      "attributes": [
        {"key": "text", "value": {"stringValue": "acme"}},
        {"key": "number", "value": {"intValue": "9007199254740993"}},
        {"key": "flag", "value": {"boolValue": true}}]}]}]}]})"));
}

TEST_F(OtlpJsonTest, AWholeRequestThatFailedSaysBoth) {
  const Json told = ToldSpan({.name = "POST /x", .is_server = true, .error = "status 500"});
  EXPECT_EQ(told["kind"], 2);
  EXPECT_EQ(told["status"], Json::parse(R"({"code": 2, "message": "status 500"})"));
  EXPECT_FALSE(told.contains("parentSpanId"));
}

TEST_F(OtlpJsonTest, NoSpanEndsBeforeItBegins) {
  const Json told = ToldSpan({.begin = begin_, .end = begin_ - absl::Seconds(1)});
  EXPECT_EQ(told["endTimeUnixNano"], told["startTimeUnixNano"]);
}

TEST_F(OtlpJsonTest, SpansAreToldByTheDateAsItIsNow) {
  const Json told = ToldSpan({.begin = begin_, .end = begin_}, absl::Seconds(7));
  EXPECT_EQ(told["startTimeUnixNano"], "1800000007000000000");
  EXPECT_EQ(told["endTimeUnixNano"], "1800000007000000000");
}

TEST_F(OtlpJsonTest, WhatIsNoTextIsStillJson) {
  const Json told = ToldSpan({.attributes = {{"gen_ai.tool.name", std::string("a\xff")}}});
  EXPECT_EQ(told["attributes"][0]["value"]["stringValue"], "a\xEF\xBF\xBD");
}

}  // namespace
}  // namespace holdfast
