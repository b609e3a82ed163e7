// The Responses wire without a server: requests as chats, events as responses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/http_status.h"
#include "server/responses_answer.h"
#include "server/responses_codec.h"
#include "server/responses_items.h"

namespace holdfast {
namespace {

using testing::ElementsAre;

GenerationService::ModelInfo Model() {
  return {.name = "tiny",
          .context_tokens = 8192,
          .vocab_size = 1000,
          .has_chat_template = true,
          .tool_calls = ToolCallFormat::kHermes};
}

absl::StatusOr<GenerationCall> Call(const std::string& more, const Json& earlier = Json::array()) {
  const auto call = DecodeResponses(absl::StrCat("{", more, "}"), Model());
  if (!call.ok()) return call.status();
  return ChatCallOf(*call, earlier, Model(), "");
}

// The messages that the template gets.
std::string Messages(const std::string& more, const Json& earlier = Json::array()) {
  const auto call = Call(more, earlier);
  if (!call.ok()) return std::string(call.status().message());
  return std::get<ChatInput>(call->requests[0].prompt).messages_json;
}

std::string Refused(const std::string& more) {
  const auto call = Call(more);
  return call.ok() ? "" : ToOpenAiError(call.status()).param;
}

TEST(ResponsesCodecTest, ATextIsAMessageOfTheUserBehindTheInstructions) {
  EXPECT_EQ(Messages(R"("input":"hi","instructions":"be brief")"),
            R"([{"role":"system","content":"be brief"},{"role":"user","content":"hi"}])");
}

TEST(ResponsesCodecTest, ItemsAreMessagesCallsAndTheirOutputs) {
  EXPECT_EQ(Messages(R"("input":[
        {"role":"developer","content":"d"},
        {"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},
        {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
        {"type":"message","role":"assistant","id":"msg_1","status":"completed",
         "content":[{"type":"output_text","text":"I look","annotations":[]}]},
        {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"x\":1}"},
        {"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},
        {"type":"function_call_output","call_id":"c1","output":"one"},
        {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"}]}])"),
            R"([{"role":"system","content":"d"},{"role":"user","content":"a\nb"},)"
            R"({"role":"assistant","content":"I look","reasoning_content":"hm","tool_calls":[)"
            R"({"id":"c1","type":"function","function":{"name":"f","arguments":{"x":1}}},)"
            R"({"id":"c2","type":"function","function":{"name":"g","arguments":{}}}]},)"
            R"({"role":"tool","content":"one","tool_call_id":"c1"},)"
            R"({"role":"tool","content":"two","tool_call_id":"c2"}])");
}

TEST(ResponsesCodecTest, WhatWasSaidBeforeComesBeforeTheInput) {
  const auto first = DecodeResponses(R"({"input":"one"})", Model());
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(Messages(R"("input":"two","instructions":"i")", first->input),
            R"([{"role":"system","content":"i"},{"role":"user","content":"one"},)"
            R"({"role":"user","content":"two"}])");
}

TEST(ResponsesCodecTest, ParametersReachTheCall) {
  const auto good = Call(R"("input":"a","temperature":0,"top_p":0.5,"max_output_tokens":7,"seed":3,
      "reasoning":{"effort":"low","summary":"auto"},"stream":true,
      "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}})");
  ASSERT_TRUE(good.ok()) << good.status();
  const GenerationRequest& request = good->requests[0];
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_TRUE(good->seed_given);
  EXPECT_TRUE(request.grammar.has_value());
  EXPECT_NE(std::get<ChatInput>(request.prompt).template_kwargs_json.find("low"),
            std::string::npos);
}

TEST(ResponsesCodecTest, ToolsAndTheirChoiceReachTheCall) {
  const std::string tool =
      R"("tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":false}])";
  for (const char* choice :
       {R"("auto")", R"("required")", R"({"type":"function","name":"f"})",
        R"({"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]})"}) {
    const auto call = Call(absl::StrCat(R"("input":"a",)", tool, R"(,"tool_choice":)", choice));
    ASSERT_TRUE(call.ok()) << choice << call.status();
    EXPECT_THAT(call->requests[0].tool_calls->rules.names, ElementsAre("f"));
  }
  EXPECT_EQ(Refused(absl::StrCat(R"("input":"a",)", tool,
                                 R"(,"tool_choice":{"type":"function","name":"g"})")),
            "tool_choice.name");
  EXPECT_EQ(Refused(R"("input":"a","tools":[{"type":"web_search"}])"), "tools[0].type");
}

TEST(ResponsesCodecTest, WhatIsWrongIsRefusedByItsNameHere) {
  EXPECT_EQ(Refused(""), "input");
  EXPECT_EQ(Refused(R"("input":[])"), "input");
  EXPECT_EQ(Refused(R"("input":7)"), "input");
  EXPECT_EQ(Refused(R"("input":[{"role":"robot","content":"a"}])"), "input[0].role");
  EXPECT_EQ(Refused(R"("input":[{"role":"user","content":[{"type":"input_image"}]}])"),
            "input[0].content[0].type");
  EXPECT_EQ(Refused(R"("input":[{"type":"item_reference","id":"x"}])"), "input[0].type");
  EXPECT_EQ(Refused(R"("input":[{"type":"function_call","name":"f","arguments":"{}"}])"),
            "input[0].call_id");
  EXPECT_EQ(Refused(R"("input":"a","max_output_tokens":0)"), "max_output_tokens");
  EXPECT_EQ(Refused(R"("input":"a","temperature":3)"), "temperature");
  EXPECT_EQ(Refused(R"("input":"a","truncation":"auto")"), "truncation");
  EXPECT_EQ(Refused(R"("input":"a","include":["file_search_call.results"])"), "include[0]");
  EXPECT_EQ(Refused(R"("input":"a","conversation":"c")"), "conversation");
  EXPECT_EQ(Refused(R"("input":"a","messages":[])"), "messages");
  EXPECT_EQ(Refused(R"("input":"a","text":{"format":{"type":"json_schema"}})"),
            "text.format.schema");
  EXPECT_EQ(Refused(R"("input":"a","model":"none")"), "model");
}

// ---- Answers
// -------------------------------------------------------------------------------------

ChoiceDelta Text(const std::string& text) { return {.text = text, .tokens = {1}}; }
ChoiceDelta Call(const std::string& id, const std::string& name, const std::string& arguments) {
  return {.tool_calls = {{.id = id, .name = name, .arguments = arguments}}};
}

std::vector<GenerationEvent> ACallBehindAThought(FinishReason finish) {
  return {
      PromptInfo{.prompt_tokens = 9},
      ChoiceDelta{.reasoning = "hm"},
      Text("I "),
      Text("look"),
      Call("c1", "f", "{\"x\""),
      Call("", "", ":1}"),
      ChoiceDelta{.finish = finish},
      GenerationDone{
          .prompt_tokens = 9, .cached_tokens = 4, .completion_tokens = 8, .reasoning_tokens = 2}};
}

struct Streamed {
  std::vector<std::string> types;
  std::vector<Json> events;
};

Streamed Stream(std::vector<GenerationEvent> events) {
  ResponseStream answer({.id = "resp_1", .model = "tiny"});
  std::string sse;
  for (GenerationEvent& event : events) answer.Append(0, std::move(event), sse);
  answer.AppendEnd(sse);
  Streamed streamed;
  for (const absl::string_view event : absl::StrSplit(sse, "\n\n", absl::SkipEmpty())) {
    const size_t data = event.find("\ndata: ");
    streamed.events.push_back(*ParseJson(event.substr(data + 7)));
    streamed.types.push_back(streamed.events.back()["type"].get<std::string>());
    EXPECT_EQ(event.substr(0, data), absl::StrCat("event: ", streamed.types.back()));
    EXPECT_EQ(streamed.events.back()["sequence_number"], streamed.events.size() - 1);
  }
  return streamed;
}

TEST(ResponsesAnswerTest, AStreamOpensFillsAndClosesEachItem) {
  const Streamed streamed = Stream(ACallBehindAThought(FinishReason::kToolCalls));
  EXPECT_THAT(
      streamed.types,
      ElementsAre("response.created", "response.in_progress", "response.output_item.added",
                  "response.content_part.added", "response.reasoning_text.delta",
                  "response.reasoning_text.done", "response.content_part.done",
                  "response.output_item.done", "response.output_item.added",
                  "response.content_part.added", "response.output_text.delta",
                  "response.output_text.delta", "response.output_text.done",
                  "response.content_part.done", "response.output_item.done",
                  "response.output_item.added", "response.function_call_arguments.delta",
                  "response.function_call_arguments.delta", "response.function_call_arguments.done",
                  "response.output_item.done", "response.completed"));
  const Json& response = streamed.events.back()["response"];
  ASSERT_EQ(response["output"].size(), 3u);
  EXPECT_EQ(response["output"][0]["content"][0]["text"], "hm");
  EXPECT_EQ(response["output"][1]["content"][0]["text"], "I look");
  EXPECT_EQ(response["output"][2]["arguments"], R"({"x":1})");
  EXPECT_EQ(response["output"][2]["call_id"], "c1");
  EXPECT_EQ(response["usage"]["input_tokens_details"]["cached_tokens"], 4);
  EXPECT_EQ(response["usage"]["output_tokens_details"]["reasoning_tokens"], 2);
  EXPECT_EQ(response["usage"]["total_tokens"], 17);
}

TEST(ResponsesAnswerTest, AtOnceAndStreamedAreOneResponseButForTheIdsOfItems) {
  ResponseBody body({.id = "resp_1", .model = "tiny"});
  for (GenerationEvent& event : ACallBehindAThought(FinishReason::kToolCalls)) {
    body.Add(0, std::move(event));
  }
  Json whole = *ParseJson(body.Finish());
  Json streamed = Stream(ACallBehindAThought(FinishReason::kToolCalls)).events.back()["response"];
  for (Json* one : {&whole, &streamed}) {
    for (Json& item : (*one)["output"]) item["id"] = "";
  }
  EXPECT_EQ(whole, streamed);
}

TEST(ResponsesAnswerTest, AnAnswerThatIsCutIsIncompleteAndSoIsItsLastItem) {
  const Streamed streamed = Stream(
      {PromptInfo{}, Text("a"), ChoiceDelta{.finish = FinishReason::kLength}, GenerationDone{}});
  EXPECT_EQ(streamed.types.back(), "response.incomplete");
  const Json& response = streamed.events.back()["response"];
  EXPECT_EQ(response["status"], "incomplete");
  EXPECT_EQ(response["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(response["output"][0]["status"], "incomplete");
}

TEST(ResponsesAnswerTest, ItsOwnOutputCanBeSentBack) {
  const Streamed streamed = Stream(ACallBehindAThought(FinishReason::kToolCalls));
  Json input = streamed.events.back()["response"]["output"];
  input.push_back({{"type", "function_call_output"}, {"call_id", "c1"}, {"output", "1"}});
  const auto items = ReadInputItems(input);
  ASSERT_TRUE(items.ok()) << items.status();
  EXPECT_EQ(items->size(), 4u);
}

TEST(ResponsesAnswerTest, WhoeverKeepsItGetsItOnce) {
  int ended = 0;
  ResponseBody body({.id = "resp_1", .on_end = [&](const Json& response) {
                       ++ended;
                       EXPECT_EQ(response["id"], "resp_1");
                     }});
  body.Add(0, Text("a"));
  body.Add(0, ChoiceDelta{.finish = FinishReason::kStop});
  body.Finish();
  EXPECT_EQ(ended, 1);
}

}  // namespace
}  // namespace holdfast
