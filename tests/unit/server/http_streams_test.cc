// Streams that outlive their connection, as clients see them. HTTP/1.0 where events are read one by
// one: it has no chunks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/unit/server/http_server_fixture.h"

namespace holdfast {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kChatPath[] = "/v1/chat/completions";

std::string OldPost(const std::string& path, const std::string& body, const std::string& more) {
  return absl::StrReplaceAll(Post(path, body, more), {{"HTTP/1.1", "HTTP/1.0"}});
}
std::string OldGet(const std::string& path, const std::string& more = "") {
  return absl::StrReplaceAll(Get(path, more), {{"HTTP/1.1", "HTTP/1.0"}});
}
std::string Delete(const std::string& path) {
  return absl::StrReplaceAll(Get(path), {{"GET", "DELETE"}});
}

class HttpStreamsTest : public HttpServerFixture {
 protected:
  // One connection that reads a stream, event by event.
  struct Reader {
    explicit Reader(int port) : client(port) {}
    Client client;
    std::string header;
    std::string seen;  // events
    bool Next() {
      const std::string event = client.Until("\n\n");
      seen += event;
      return absl::EndsWith(event, "\n\n");
    }
    void ToEnd() {
      while (Next()) {
      }
    }
  };
  std::unique_ptr<Reader> Read(const std::string& request) {
    auto reader = std::make_unique<Reader>(server_->port());
    reader->client.Send(request);
    reader->header = reader->client.Until("\r\n\r\n");
    return reader;
  }
  // A chat's stream that has sent its first event.
  std::unique_ptr<Reader> Begun(const std::string& patience = "60s") {
    const size_t index = service_.num_started();
    auto reader = std::make_unique<Reader>(server_->port());
    reader->client.Send(OldPost(kChatPath, Chat(R"(,"stream":true)"),
                                absl::StrCat("X-Holdfast-Resume: ", patience, "\r\n")));
    service_.stream(index)->Push(PromptInfo{});
    reader->header = reader->client.Until("\r\n\r\n");
    EXPECT_TRUE(reader->Next());
    return reader;
  }
  static std::string IdOf(const std::string& events) {
    std::smatch found;
    EXPECT_TRUE(std::regex_search(events, found, std::regex(R"x("id":"([a-z]+[-_][0-9a-f]+)")x")))
        << events;
    return found[1];
  }
  static std::string StreamPath(const std::string& events) {
    return absl::StrCat(kChatPath, "/", IdOf(events), "/stream");
  }
  static std::string LastSeen(const std::string& events) {
    const size_t at = events.rfind("id: ");
    return at == events.npos
               ? ""
               : absl::StrCat("Last-Event-ID: ",
                              events.substr(at + 4, events.find('\n', at) - at - 4), "\r\n");
  }
  bool Settles(const std::string& metric) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (!absl::StrContains(metrics_.Serialize(), metric)) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  }
};

TEST_F(HttpStreamsTest, AStreamGoesOnWithoutItsConnectionAndIsResumed) {
  Begin();
  const auto first = Begun();
  EXPECT_THAT(first->header, HasSubstr("X-Holdfast-Resume: 1m\r\n"));
  EXPECT_THAT(first->seen, StartsWith("id: 0\ndata: "));
  first->client.Leave();
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  const auto stream = service_.stream(0);
  EXPECT_FALSE(stream->cancelled.HasBeenNotified());
  stream->PushText("Paris");
  const auto second = Read(OldGet(StreamPath(first->seen), "Last-Event-ID: 0\r\n"));
  EXPECT_TRUE(second->Next());
  EXPECT_THAT(second->seen, AllOf(StartsWith("id: 1\ndata: "), HasSubstr("Paris")));
  stream->PushText("Rome");
  stream->PushEnd();
  second->ToEnd();
  EXPECT_THAT(second->seen, AllOf(HasSubstr("id: 2\n"), HasSubstr("Rome"), HasSubstr("[DONE]")));
  // At its end it is kept for a while.
  const auto third = Read(OldGet(StreamPath(first->seen)));
  third->ToEnd();
  EXPECT_EQ(third->seen, first->seen + second->seen);
  const auto last = Read(OldGet(StreamPath(first->seen), LastSeen(third->seen)));
  last->ToEnd();
  EXPECT_EQ(last->seen, "");
}

struct Wire {
  const char* path;
  const char* body;
  const char* resume;  // behind the path
};

class HttpStreamsWalkTest : public HttpStreamsTest, public testing::WithParamInterface<Wire> {};

// The seed replays a failure.
TEST_P(HttpStreamsWalkTest, DropsAndResumptionsGiveTheBytesOfTheStreamThatWasNotDropped) {
  const Wire& wire = GetParam();
  Begin();
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const size_t index = service_.num_started();
    auto reader = std::make_unique<Reader>(server_->port());
    reader->client.Send(OldPost(wire.path, wire.body, "X-Holdfast-Resume: 60s\r\n"));
    const auto stream = service_.stream(index);
    stream->Push(PromptInfo{});
    stream->PushText("first");
    reader->client.Until("\r\n\r\n");
    ASSERT_TRUE(reader->Next());
    const std::string path = absl::StrCat(wire.path, "/", IdOf(reader->seen), wire.resume);
    std::string seen = std::exchange(reader->seen, ""), texts = "first";
    int pushed = 0, unread = 0;  // texts, each of which is an event or more
    for (bool at_end = false; !at_end;) {
      const uint32_t action = rng() % 3;
      if (action == 0 && pushed < 40) {
        texts += absl::StrCat(" ", ++pushed);
        stream->PushText(absl::StrCat(" ", pushed));
        ++unread;
      } else if (action == 0 && pushed == 40) {
        stream->PushEnd();
        ++pushed;
      } else if (action == 1) {
        if (rng() % 4 != 0) reader->client.Leave();  // else there are two for a while
        reader = Read(OldGet(path, LastSeen(seen)));
        ASSERT_THAT(reader->header, StartsWith("HTTP/1.1 200"));
      } else if (action == 2) {
        const bool ended = pushed > 40;
        for (int n = rng() % 8; n > 0 && !at_end && (ended || unread > 0); --n) {
          at_end = !reader->Next();
          --unread;
        }
        seen += std::exchange(reader->seen, "");
      }
    }
    const auto whole = Read(OldGet(path));
    whole->ToEnd();
    ASSERT_EQ(seen, whole->seen);
    std::string in_stream;
    const std::regex text(R"x(("content"|"text"|"delta"):"(first| [0-9]+)")x");
    for (std::sregex_iterator it(seen.begin(), seen.end(), text), end; it != end; ++it) {
      in_stream += (*it)[2];
    }
    EXPECT_EQ(in_stream, texts);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Wires, HttpStreamsWalkTest,
    testing::Values(
        Wire{"/v1/chat/completions",
             R"({"messages":[{"role":"user","content":"a"}],"stream":true})", "/stream"},
        Wire{"/v1/completions", R"({"prompt":"a","stream":true})", "/stream"},
        Wire{"/v1/messages",
             R"({"max_tokens":90,"messages":[{"role":"user","content":"a"}],"stream":true})",
             "/stream"},
        Wire{"/v1/responses", R"({"input":"a","stream":true})", "?stream=true"}));

TEST_F(HttpStreamsTest, WithNumbersAStreamIsWhatItIsWithoutThem) {
  service_.on_start = AnswerWithText;
  Begin();
  const std::string body = Chat(R"(,"stream":true)");
  std::string plain = Ask(Post(kChatPath, body)).body;
  std::string kept = Ask(Post(kChatPath, body, "X-Holdfast-Resume: 60s\r\n")).body;
  kept = std::regex_replace(kept, std::regex("(^|\n)id: [0-9]+\n"), "$1");
  const std::regex what_differs(R"x("(id":"[^"]*|created":[0-9]*))x");
  EXPECT_EQ(std::regex_replace(kept, what_differs, ""),
            std::regex_replace(plain, what_differs, ""));
}

TEST_F(HttpStreamsTest, WhoeverComesLaterTakesTheStreamOver) {
  Begin();
  const auto first = Begun();
  const auto second = Read(OldGet(StreamPath(first->seen), "Last-Event-ID: 0\r\n"));
  EXPECT_TRUE(first->client.AtEnd());
  service_.stream(0)->PushText("Paris");
  EXPECT_TRUE(second->Next());
  EXPECT_THAT(second->seen, HasSubstr("Paris"));
}

TEST_F(HttpStreamsTest, WhoDoesNotComeBackInTimeHasItsRequestCancelled) {
  Begin();
  const auto reader = Begun("50ms");
  EXPECT_THAT(reader->header, HasSubstr("X-Holdfast-Resume: 50ms\r\n"));
  reader->client.Leave();
  EXPECT_TRUE(service_.stream(0)->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_EQ(Ask(Get(StreamPath(reader->seen))).status, 404);
  EXPECT_TRUE(Settles(R"(holdfast_http_kept_streams_ended_total{reason="time"} 1)"));
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("holdfast_http_kept_streams 0"));
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("holdfast_http_kept_stream_bytes 0"));
}

TEST_F(HttpStreamsTest, AtItsEndAStreamIsForgottenInTime) {
  Begin();
  const auto reader = Begun("10ms");
  service_.stream(0)->PushEnd();
  reader->ToEnd();
  EXPECT_TRUE(Settles(R"(holdfast_http_kept_streams_ended_total{reason="complete"} 1)"));
  EXPECT_EQ(Ask(Get(StreamPath(reader->seen))).status, 404);
}

TEST_F(HttpStreamsTest, AnotherTenantDoesNotFindIt) {
  Begin();
  const auto reader = Begun();
  const std::string path = StreamPath(reader->seen);
  const auto as_other = [](const std::string& request) {
    return absl::StrReplaceAll(request, {{"Bearer k1", "Bearer other"}});
  };
  const Response response = Ask(as_other(Get(path)));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.body, absl::StrReplaceAll(Ask(Get(kChatPath + std::string("/x/stream"))).body,
                                               {{"`x`", "`" + IdOf(reader->seen) + "`"}}));
  EXPECT_EQ(Ask(as_other(Delete(path))).status, 404);
  EXPECT_EQ(Ask(Get("/v1/completions/" + IdOf(reader->seen) + "/stream")).status, 404);
  service_.stream(0)->PushText("still read");
  EXPECT_TRUE(reader->Next());
}

TEST_F(HttpStreamsTest, ItsOwnerDeletesIt) {
  Begin();
  const auto reader = Begun();
  const Response response = Ask(Delete(StreamPath(reader->seen)));
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, HasSubstr(R"("deleted":true)"));
  EXPECT_TRUE(service_.stream(0)->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(reader->client.AtEnd());
  EXPECT_EQ(Ask(Delete(StreamPath(reader->seen))).status, 404);
}

TEST_F(HttpStreamsTest, OfAStreamThatIsReadTheOldestEventsMakeRoom) {
  Begin({.kept_streams = {.stream_bytes_max = 4096}});
  const auto reader = Begun();
  const auto stream = service_.stream(0);
  for (int i = 0; i < 100; ++i) {
    stream->PushText("word");
    ASSERT_TRUE(reader->Next());
  }
  EXPECT_FALSE(stream->cancelled.HasBeenNotified());
  const Response gone = Ask(Get(StreamPath(reader->seen), "Last-Event-ID: 3\r\n"));
  EXPECT_EQ(gone.status, 410);
  EXPECT_EQ(ErrorField(gone, "code"), "events_gone");
  stream->PushEnd();
  const auto second = Read(OldGet(StreamPath(reader->seen), LastSeen(reader->seen)));
  second->ToEnd();
  EXPECT_THAT(second->seen, HasSubstr("[DONE]"));
}

TEST_F(HttpStreamsTest, AStreamThatNobodyReadsIsCancelledAtItsBytes) {
  Begin({.kept_streams = {.stream_bytes_max = 4096}});
  const auto reader = Begun();
  reader->client.Leave();
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  for (int i = 0; i < 100; ++i) service_.stream(0)->PushText("word");
  EXPECT_TRUE(service_.stream(0)->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(Settles(R"(holdfast_http_kept_streams_ended_total{reason="bytes"} 1)"));
}

TEST_F(HttpStreamsTest, ATenantsFinishedStreamsMakeRoomForThoseThatRun) {
  Begin({.kept_streams = {.tenant_bytes_max = 4096}});
  const auto finished = Begun();
  service_.stream(0)->PushEnd();
  finished->ToEnd();
  EXPECT_EQ(Ask("HEAD" + Get(StreamPath(finished->seen)).substr(3)).status, 200);
  const auto reader = Begun();
  for (int i = 0; i < 30; ++i) {
    service_.stream(1)->PushText("word");
    ASSERT_TRUE(reader->Next());
  }
  EXPECT_EQ(Ask(Get(StreamPath(finished->seen))).status, 404);
}

TEST_F(HttpStreamsTest, BeyondATenantsNumberStreamsAreNotKept) {
  Begin({.kept_streams = {.tenant_streams_max = 1}});
  const auto kept = Begun();
  auto plain = std::make_unique<Reader>(server_->port());
  plain->client.Send(OldPost(kChatPath, Chat(R"(,"stream":true)"), "X-Holdfast-Resume: 60s\r\n"));
  service_.stream(1)->Push(PromptInfo{});
  plain->header = plain->client.Until("\r\n\r\n");
  EXPECT_TRUE(plain->Next());
  EXPECT_THAT(plain->header, Not(HasSubstr("X-Holdfast-Resume")));
  EXPECT_THAT(plain->seen, Not(HasSubstr("id: ")));
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("holdfast_http_streams_not_kept_total 1"));
  plain->client.Leave();
  EXPECT_TRUE(service_.stream(1)->cancelled.WaitForNotificationWithTimeout(kPatience));
  service_.stream(0)->PushEnd();  // which makes room
  kept->ToEnd();
  EXPECT_THAT(Begun()->seen, HasSubstr("id: 0\n"));
}

TEST_F(HttpStreamsTest, WithoutTimeNoneIsKept) {
  Begin({.kept_streams = {.time_max = absl::ZeroDuration()}});
  const auto reader = Begun();
  EXPECT_THAT(reader->seen, Not(HasSubstr("id: ")));
  reader->client.Leave();
  EXPECT_TRUE(service_.stream(0)->cancelled.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(HttpStreamsTest, ARefusalIsStillAStatus) {
  service_.on_start = [](const GenerationRequest&, FakeStream& stream) {
    stream.Push(GenerationDone{.status = absl::ResourceExhaustedError("full")});
  };
  Begin();
  const Response response =
      Ask(Post(kChatPath, Chat(R"(,"stream":true)"), "X-Holdfast-Resume: 60s\r\n"));
  EXPECT_EQ(response.status, 429);
  EXPECT_TRUE(Settles("holdfast_http_kept_streams 0"));
}

TEST_F(HttpStreamsTest, WhatFailsInTheMiddleEndsWithItsErrorForWhoeverReads) {
  Begin();
  const auto reader = Begun();
  reader->client.Leave();
  service_.stream(0)->Push(GenerationDone{.status = absl::InternalError("broken")});
  const auto second = Read(OldGet(StreamPath(reader->seen), "Last-Event-ID: 0\r\n"));
  second->ToEnd();
  EXPECT_THAT(second->seen, HasSubstr(R"("error")"));
}

TEST_F(HttpStreamsTest, WhatIsNoTimeAndNoEventIsRefused) {
  Begin();
  for (const char* time : {"soon", "-1s", "5"}) {
    const Response response = Ask(Post(kChatPath, Chat(R"(,"stream":true)"),
                                       absl::StrCat("X-Holdfast-Resume: ", time, "\r\n")));
    EXPECT_EQ(response.status, 400) << time;
    EXPECT_EQ(ErrorField(response, "param"), "X-Holdfast-Resume");
  }
  const auto reader = Begun();
  for (const char* id : {"x", "-1", "1", "99999999999999999999"}) {
    const Response response =
        Ask(Get(StreamPath(reader->seen), absl::StrCat("Last-Event-ID: ", id, "\r\n")));
    EXPECT_EQ(response.status, 400) << id;
    EXPECT_EQ(ErrorField(response, "param"), "Last-Event-ID");
  }
}

TEST_F(HttpStreamsTest, ADrainCancelsWhatNobodyReadsAndFinishesTheRest) {
  Begin();
  const auto unread = Begun();
  unread->client.Leave();
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  const auto read = Begun();
  server_->BeginDrain();
  EXPECT_TRUE(service_.stream(0)->cancelled.WaitForNotificationWithTimeout(kPatience));
  service_.stream(1)->PushText("still here");
  EXPECT_TRUE(read->Next());
  EXPECT_FALSE(service_.stream(1)->cancelled.HasBeenNotified());
  read->client.Leave();
  EXPECT_TRUE(service_.stream(1)->cancelled.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  EXPECT_TRUE(Settles(R"(holdfast_http_kept_streams_ended_total{reason="stopping"} 2)"));
}

TEST_F(HttpStreamsTest, StoppingCancelsAllOfThem) {
  Begin();
  const auto unread = Begun();
  unread->client.Leave();
  EXPECT_TRUE(server_->WaitIdle(absl::Now() + kPatience));
  const auto read = Begun();
  server_->Stop();
  EXPECT_TRUE(service_.stream(0)->cancelled.HasBeenNotified());
  EXPECT_TRUE(service_.stream(1)->cancelled.HasBeenNotified());
  EXPECT_TRUE(read->client.AtEnd());
}

TEST_F(HttpStreamsTest, WhatThrowsCutsItsReader) {
  service_.on_start = [](const GenerationRequest&, FakeStream&) { throw std::bad_alloc(); };
  Begin();
  Client client(server_->port());
  client.Send(Post(kChatPath, Chat(R"(,"stream":true)"), "X-Holdfast-Resume: 60s\r\n"));
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(Settles("holdfast_http_kept_streams 0"));
}

}  // namespace
}  // namespace holdfast
