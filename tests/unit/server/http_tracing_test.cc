// What the HTTP port does with `traceparent`.
#include <gmock/gmock.h>

#include "server/tracer.h"
#include "tests/unit/server/http_server_fixture.h"
#include "tests/unit/server/trace_collector.h"

namespace holdfast {
namespace {

using testing::StartsWith;

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-";
constexpr char kParent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

class HttpTracingTest : public HttpServerFixture {
 protected:
  HttpTracingTest() {
    service_.on_start = AnswerWithText;
    options_.on_access = [this](const HttpAccess& access) {
      absl::MutexLock lock(&mutex_);
      told_.push_back(access);
    };
  }
  void BeginTraced() {
    options_.tracer = &tracer_;
    Begin(options_);
  }
  // Of the requests so far.
  std::vector<HttpAccess> Told() {
    EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
    absl::MutexLock lock(&mutex_);
    return told_;
  }

  TraceCollector collector_;
  Tracer tracer_{{.otlp_http = collector_.address()}, metrics_};
  HttpServerOptions options_;
  absl::Mutex mutex_;
  std::vector<HttpAccess> told_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(HttpTracingTest, ARequestIsASpanOfItsCallersTraceAndSaysSo) {
  BeginTraced();
  const Response response =
      Ask(Post("/v1/chat/completions", Chat(), absl::StrCat("traceparent: ", kParent, "\r\n")));
  ASSERT_EQ(response.status, 200);
  const auto told = ParseTraceParent(response.headers.at("traceparent"));
  ASSERT_TRUE(told);
  EXPECT_THAT(FormatTraceParent(*told), StartsWith(kTrace));
  EXPECT_NE(FormatTraceParent(*told), kParent);
  const auto generation = service_.request(0).trace;
  ASSERT_TRUE(generation);
  EXPECT_EQ(FormatTraceParent(*generation), FormatTraceParent(*told));
  EXPECT_FALSE(generation->is_callers);
  const auto access = Told();
  ASSERT_EQ(access.size(), 1);
  EXPECT_EQ(Hex(*access[0].trace_parent), "b7ad6b7169203331");
  EXPECT_EQ(access[0].body_bytes, Chat().size());
}

TEST_F(HttpTracingTest, AStreamIsTracedLikewise) {
  BeginTraced();
  const Response response = Ask(Post("/v1/chat/completions", Chat(R"(,"stream":true)"),
                                     absl::StrCat("traceparent: ", kParent, "\r\n")));
  EXPECT_THAT(response.headers.at("traceparent"), StartsWith(kTrace));
  EXPECT_EQ(FormatTraceParent(*service_.request(0).trace), response.headers.at("traceparent"));
}

TEST_F(HttpTracingTest, WhatIsNoParentOrMoreThanOneBeginsATrace) {
  BeginTraced();
  const std::string parent = absl::StrCat("traceparent: ", kParent, "\r\n");
  for (const std::string& headers :
       {std::string(), std::string("traceparent: nonsense\r\n"), absl::StrCat(parent, parent),
        absl::StrCat("traceparent: ", std::string(4000, '0'), "\r\n")}) {
    const Response response = Ask(Post("/v1/chat/completions", Chat(), headers));
    ASSERT_EQ(response.status, 200) << headers;
    EXPECT_THAT(response.headers.at("traceparent"), testing::Not(StartsWith(kTrace))) << headers;
  }
  for (const HttpAccess& access : Told()) EXPECT_FALSE(access.trace_parent);
}

TEST_F(HttpTracingTest, AGiantTracestateIsTooLargeAHeaderLikeAnyOther) {
  BeginTraced();
  EXPECT_EQ(
      Ask(Get("/v1/models", absl::StrCat("tracestate: a=", std::string(4000, 'b'), "\r\n"))).status,
      200);
  EXPECT_EQ(
      Ask(Get("/v1/models", absl::StrCat("tracestate: a=", std::string(1 << 20, 'b'), "\r\n")))
          .status,
      431);
}

TEST_F(HttpTracingTest, WithoutATracerTheHeaderIsNothing) {
  Begin(options_);
  const Response response =
      Ask(Post("/v1/chat/completions", Chat(), absl::StrCat("traceparent: ", kParent, "\r\n")));
  EXPECT_EQ(response.status, 200);
  EXPECT_FALSE(response.headers.contains("traceparent"));
  EXPECT_FALSE(service_.request(0).trace);
  EXPECT_FALSE(Told().at(0).trace);
}

}  // namespace
}  // namespace holdfast
