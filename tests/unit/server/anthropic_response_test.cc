#include "server/anthropic_response.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

MessageHead Head() {
  return {.id = "msg_1", .model = "tiny", .request_id = "req_1", .max_tokens = 9};
}

GenerationDone Done(int32_t completion = 3) { return {absl::OkStatus(), 10, 4, completion}; }

constexpr char kUsage[] =
    R"("usage":{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,)"
    R"("cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},)"
    R"("output_tokens":3,"output_tokens_details":{"thinking_tokens":0},"service_tier":"standard"})";

std::string Body(std::vector<GenerationEvent> events, MessageHead head = Head()) {
  MessageBody body(std::move(head));
  for (GenerationEvent& event : events) body.Add(0, std::move(event));
  return body.Finish();
}

std::string Sse(std::vector<GenerationEvent> events, MessageHead head = Head()) {
  MessageStream stream(std::move(head));
  std::string sse;
  for (GenerationEvent& event : events) stream.Append(0, std::move(event), sse);
  stream.AppendEnd(sse);
  return sse;
}

ChoiceDelta Call(int32_t index, std::string name, std::string arguments) {
  return {.tool_calls = {{.index = index,
                          .id = name.empty() ? "" : absl::StrCat("id", index),
                          .name = std::move(name),
                          .arguments = std::move(arguments)}}};
}

TEST(MessageBodyTest, AnAnswerInWordsIsAnthropicsByteForByte) {
  EXPECT_EQ(Body({PromptInfo{.prompt_tokens = 10, .cached_tokens = 4}, ChoiceDelta{.text = "a\""},
                  ChoiceDelta{.text = "ü"}, ChoiceDelta{.finish = FinishReason::kStop}, Done()}),
            absl::StrCat(R"({"id":"msg_1","type":"message","role":"assistant","model":"tiny",)"
                         R"("content":[{"type":"text","text":"a\"ü"}],)"
                         R"("stop_reason":"end_turn","stop_sequence":null,)",
                         kUsage, "}"));
}

TEST(MessageBodyTest, CallsAreBlocksWithTheirInputAsItWasWritten) {
  const std::string body =
      Body({ChoiceDelta{.text = "so: "}, Call(0, "f", "{\"x\": 12345678901234567890123,"),
            Call(0, "", " \"y\": 2}"), Call(1, "g", "{}"),
            ChoiceDelta{.finish = FinishReason::kToolCalls}, Done()});
  EXPECT_THAT(
      body,
      HasSubstr(
          R"("content":[{"type":"text","text":"so: "},)"
          R"({"type":"tool_use","id":"toolu_id0","name":"f","input":{"x": 12345678901234567890123, "y": 2}},)"
          R"({"type":"tool_use","id":"toolu_id1","name":"g","input":{}}],)"
          R"("stop_reason":"tool_use")"));
}

TEST(MessageBodyTest, ACallThatWasCutShortIsLeftOut) {
  const std::string kCut[] = {"",    "{", R"({"x":"a)",           R"({"x":1},)",
                              "[1]", "7", std::string("{}\0x", 4)};
  for (const std::string& arguments : kCut) {
    const std::string body = Body({Call(0, "f", "{}"), Call(1, "g", arguments),
                                   ChoiceDelta{.finish = FinishReason::kLength}, Done(9)});
    EXPECT_THAT(body, HasSubstr(R"("content":[{"type":"tool_use","id":"toolu_id0","name":"f",)"
                                R"("input":{}}],"stop_reason":"max_tokens")"))
        << arguments;
  }
}

TEST(MessageBodyTest, WhatWasThoughtIsShownWhereAskedFor) {
  GenerationDone done = Done();
  done.reasoning_tokens = 2;
  const std::vector<GenerationEvent> events = {ChoiceDelta{.reasoning = "hm"},
                                               ChoiceDelta{.reasoning = "!", .text = "a"},
                                               ChoiceDelta{.finish = FinishReason::kStop}, done};
  MessageHead head = Head();
  EXPECT_THAT(Body(events, head), HasSubstr(R"("content":[{"type":"text","text":"a"}])"));
  EXPECT_THAT(Sse(events, head), Not(HasSubstr("hm")));
  head.shows_thinking = true;
  const std::string body = Body(events, head);
  EXPECT_THAT(body, HasSubstr(R"("content":[{"type":"thinking","thinking":"hm!","signature":""},)"
                              R"({"type":"text","text":"a"}])"));
  EXPECT_THAT(body, HasSubstr(R"("thinking_tokens":2)"));
  const std::string sse = Sse(events, head);
  EXPECT_THAT(sse, HasSubstr(R"("index":0,"content_block":{"type":"thinking","thinking":"",)"
                             R"("signature":""}})"));
  EXPECT_THAT(sse, HasSubstr(R"("index":0,"delta":{"type":"thinking_delta","thinking":"!"}})"));
  EXPECT_THAT(sse, HasSubstr(R"("index":1,"delta":{"type":"text_delta","text":"a"}})"));
}

TEST(MessageBodyTest, AnAnswerWithoutWordsOrCallsHasNoBlocks) {
  EXPECT_THAT(Body({ChoiceDelta{.finish = FinishReason::kStop}, Done()}),
              HasSubstr(R"("content":[],"stop_reason":"end_turn")"));
}

TEST(MessageBodyTest, EachEndHasItsReason) {
  const auto stop = [](FinishReason finish, std::string stop_string, int32_t tokens) {
    const Json body = *ParseJson(
        Body({ChoiceDelta{.finish = finish, .stop_string = std::move(stop_string)}, Done(tokens)}));
    return absl::StrCat(body["stop_reason"].get<std::string>(), " ",
                        DumpJson(body["stop_sequence"]));
  };
  EXPECT_EQ(stop(FinishReason::kStop, "", 3), "end_turn null");
  EXPECT_EQ(stop(FinishReason::kStop, "END", 3), "stop_sequence \"END\"");
  EXPECT_EQ(stop(FinishReason::kToolCalls, "", 3), "tool_use null");
  EXPECT_EQ(stop(FinishReason::kLength, "", 9), "max_tokens null");
  EXPECT_EQ(stop(FinishReason::kLength, "", 8), "model_context_window_exceeded null");
}

TEST(MessageBodyTest, WhatIsKeptIsCountedAsWritten) {
  MessageHead head = Head();
  head.cache_life = absl::Hours(1);
  GenerationDone done = Done();
  done.kept_for = absl::Seconds(2);
  const Json usage =
      (*ParseJson(Body({ChoiceDelta{.finish = FinishReason::kStop}, done}, head)))["usage"];
  EXPECT_EQ(usage["input_tokens"], 0);
  EXPECT_EQ(usage["cache_creation_input_tokens"], 6);
  EXPECT_EQ(usage["cache_read_input_tokens"], 4);
  EXPECT_EQ(usage["cache_creation"]["ephemeral_1h_input_tokens"], 6);
  EXPECT_EQ(usage["cache_creation"]["ephemeral_5m_input_tokens"], 0);
  EXPECT_EQ(usage["holdfast"]["pinned"], true);
  EXPECT_EQ(usage["holdfast"]["pin_expires_in_ms"], 2000);
}

TEST(MessageStreamTest, AStreamIsAnthropicsByteForByte) {
  const std::string sse =
      Sse({PromptInfo{.prompt_tokens = 10, .cached_tokens = 4}, ChoiceDelta{.text = "h\né"},
           ChoiceDelta{.tokens = {1}}, ChoiceDelta{.text = "!"}, Call(0, "f", ""),
           Call(0, "", "{\"x\":"), Call(0, "", "1}"), Call(1, "g", "{}"),
           ChoiceDelta{.finish = FinishReason::kToolCalls}, Done()});
  const auto event = [](const char* name, const std::string& fields) {
    return absl::StrCat("event: ", name, "\ndata: {\"type\":\"", name, "\"", fields, "}\n\n");
  };
  const auto delta = [&](int index, const char* json) {
    return event("content_block_delta", absl::StrCat(",\"index\":", index, ",\"delta\":", json));
  };
  std::string usage_at_start = kUsage;
  usage_at_start.replace(usage_at_start.find("\"output_tokens\":3"), 17, "\"output_tokens\":0");
  const auto start = [&](int index, const char* json) {
    return event("content_block_start",
                 absl::StrCat(",\"index\":", index, ",\"content_block\":", json));
  };
  const auto stop = [&](int index) {
    return event("content_block_stop", absl::StrCat(",\"index\":", index));
  };
  EXPECT_EQ(
      sse, absl::StrCat(
               event("message_start",
                     absl::StrCat(R"(,"message":{"id":"msg_1","type":"message","role":"assistant",)"
                                  R"("model":"tiny","content":[],"stop_reason":null,)"
                                  R"("stop_sequence":null,)",
                                  usage_at_start, "}")),
               event("ping", ""), start(0, R"({"type":"text","text":""})"),
               delta(0, R"({"type":"text_delta","text":"h\né"})"),
               delta(0, R"({"type":"text_delta","text":"!"})"), stop(0),
               start(1, R"({"type":"tool_use","id":"toolu_id0","name":"f","input":{}})"),
               delta(1, R"({"type":"input_json_delta","partial_json":"{\"x\":"})"),
               delta(1, R"({"type":"input_json_delta","partial_json":"1}"})"), stop(1),
               start(2, R"({"type":"tool_use","id":"toolu_id1","name":"g","input":{}})"),
               delta(2, R"({"type":"input_json_delta","partial_json":"{}"})"), stop(2),
               event("message_delta",
                     absl::StrCat(R"(,"delta":{"stop_reason":"tool_use","stop_sequence":null},)",
                                  kUsage)),
               event("message_stop", "")));
}

TEST(MessageStreamTest, AStreamWithoutWordsStillBeginsAndEnds) {
  std::vector<std::string> names;
  const std::string sse = Sse({Done()});
  const std::vector<std::string> lines = absl::StrSplit(sse, '\n');
  for (const std::string& line : lines) {
    if (line.starts_with("event: ")) names.push_back(line.substr(7));
  }
  EXPECT_THAT(names, ElementsAre("message_start", "ping", "message_delta", "message_stop"));
}

TEST(MessageStreamTest, AnErrorIsAnEventWithItsType) {
  const MessageStream stream(Head());
  std::string sse;
  stream.AppendError(ToOpenAiError(absl::UnavailableError("device lost")), sse);
  EXPECT_EQ(sse,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
            "\"message\":\"device lost\",\"details\":{\"error_code\":\"service_unavailable\"}},"
            "\"request_id\":\"req_1\"}\n\n");
}

}  // namespace
}  // namespace holdfast
