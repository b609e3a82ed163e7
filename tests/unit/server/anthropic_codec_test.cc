#include "server/anthropic_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/anthropic_error.h"
#include "server/http_status.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

GenerationService::ModelInfo Model(ToolCallFormat format = ToolCallFormat::kHermes) {
  return {.name = "tiny",
          .aliases = {"claude"},
          .context_tokens = 8192,
          .vocab_size = 1000,
          .created_unix = 7,
          .has_chat_template = true,
          .tool_calls = format};
}

constexpr char kHi[] = R"({"role":"user","content":"hi"})";
constexpr char kTool[] = R"({"name":"f","input_schema":{"type":"object"}})";

std::string Body(const std::string& messages, const std::string& more = "") {
  return absl::StrCat(R"({"max_tokens":10,"messages":[)", messages, "]", more.empty() ? "" : ",",
                      more, "}");
}

absl::StatusOr<MessagesCall> Decode(const std::string& body, std::string_view session = {}) {
  return DecodeMessages(body, Model(), session);
}

// "" when accepted, else what the answer on the wire says.
std::string Refusal(const std::string& body) {
  const absl::Status status = Decode(body).status();
  if (status.ok()) return "";
  const OpenAiError error = ToOpenAiError(status);
  EXPECT_TRUE(error.http_status == 400 || error.http_status == 404) << status;
  return (*ParseJson(AnthropicErrorBody(error, "req_1")))["error"]["message"].get<std::string>();
}

// What the chat template is shown.
Json Shown(const MessagesCall& call) {
  return *ParseJson(std::get<ChatInput>(call.request.prompt).messages_json);
}

struct Case {
  const char* field;    // as JSON, name and value
  const char* refused;  // what the refusal begins with; "": accepted
};

TEST(AnthropicCodecTest, EveryParameterIsHonouredOrNamed) {
  const Case cases[] = {
      {R"("model":"tiny")", ""},
      {R"("model":"claude")", ""},
      {R"("model":"huge")", "The model `huge`"},
      {R"("stream":true)", ""},
      {R"("stream":1)", "stream"},
      {R"("temperature":0)", ""},
      {R"("temperature":2.1)", "temperature"},
      {R"("temperature":1e300)", "temperature"},
      {R"("temperature":"1")", "temperature"},
      {R"("top_p":0)", ""},
      {R"("top_p":1.1)", "top_p"},
      {R"("top_k":40)", ""},
      {R"("top_k":-1)", "top_k"},
      {R"("stop_sequences":[])", ""},
      {R"("stop_sequences":["a"])", ""},
      {R"("stop_sequences":[""])", "stop_sequences"},
      {R"("stop_sequences":[1])", "stop_sequences"},
      {R"("stop_sequences":"a")", "stop_sequences"},
      {R"("metadata":{"user_id":"u"})", ""},
      {R"("metadata":{"user_id":null})", ""},
      {R"("metadata":{"user_id":7})", "metadata.user_id"},
      {R"("metadata":{"odd":7})", "Unrecognized request argument supplied: metadata.odd"},
      {R"("thinking":{"type":"disabled"})", ""},
      {R"("thinking":{"type":"enabled","budget_tokens":1024})", ""},
      {R"("thinking":{"type":"adaptive","display":"omitted"})", ""},
      {R"("thinking":{"type":"enabled","budget_tokens":-1})", "thinking.budget_tokens"},
      {R"("thinking":{"type":"enabled","display":"loud"})", "thinking.display"},
      {R"("thinking":{"type":"deep"})", "thinking.type"},
      {R"("thinking":{})", "thinking.type"},
      {R"("service_tier":"standard_only")", ""},
      {R"("service_tier":"fast")", "service_tier"},
      {R"("speed":"standard")", ""},
      {R"("speed":"fast")", "speed"},
      {R"("output_config":{"effort":"high"})", ""},
      {R"("output_config":{"effort":"huge"})", "output_config.effort"},
      {R"("output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}})", ""},
      {R"("output_config":{"format":{"type":"json_schema"}})", "output_config.format.schema"},
      {R"("output_config":{"format":{"type":"xml","schema":{}}})", "output_config.format.type"},
      {R"("context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]})", ""},
      {R"("context_management":{"edits":[{"type":"compact_20260112"}]})",
       "context_management.edits[0].type"},
      {R"("context_management":{"edits":[1]})", "context_management.edits[0].type"},
      {R"("cache_control":{"type":"ephemeral"})", ""},
      {R"("cache_control":{"type":"ephemeral","ttl":"1h"})", ""},
      {R"("cache_control":{"type":"ephemeral","ttl":"2h"})", "cache_control.ttl"},
      {R"("cache_control":{"type":"eternal"})", "cache_control.type"},
      {R"("cache_control":{})", "cache_control.type"},
      {R"("system":"be kind")", ""},
      {R"("system":[])", ""},
      {R"("system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}])", ""},
      {R"("system":[{"type":"image"}])", "system[0].type"},
      {R"("system":[{"type":"text"}])", "system[0].text"},
      {R"("system":7)", "system"},
      {R"("container":"c")", "container"},
      {R"("thread":{"type":"create"})", "thread is not supported"},
      {R"("container":null)", ""},
      {R"("mcp_servers":[])", "mcp_servers"},
      {R"("inference_geo":"eu")", "inference_geo"},
      {R"("wobble":null)", "Unrecognized request argument supplied: wobble"},
      {R"("n":2)", "Unrecognized request argument supplied: n"},
  };
  for (const Case& c : cases) {
    const std::string refusal = Refusal(Body(kHi, c.field));
    EXPECT_EQ(refusal.substr(0, std::string_view(c.refused).size()), c.refused) << c.field;
    EXPECT_EQ(refusal.empty(), std::string_view(c.refused).empty()) << c.field << ": " << refusal;
  }
}

TEST(AnthropicCodecTest, MaxTokensIsNeededAndBendsToTheContext) {
  const std::string messages = absl::StrCat(R"("messages":[)", kHi, "]");
  EXPECT_THAT(Refusal("{" + messages + "}"), HasSubstr("max_tokens is required"));
  EXPECT_THAT(Refusal("{" + messages + R"(,"max_tokens":0})"), HasSubstr("max_tokens"));
  EXPECT_THAT(Refusal("{" + messages + R"(,"max_tokens":4294967296})"), HasSubstr("max_tokens"));
  const auto call = Decode("{" + messages + R"(,"max_tokens":1000000})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->max_tokens, 1000000);
  EXPECT_EQ(call->request.max_tokens, 1000000);
  EXPECT_TRUE(call->request.max_tokens_bend);
  EXPECT_TRUE(DecodeCountTokens("{" + messages + "}", Model()).ok());
}

TEST(AnthropicCodecTest, BlocksBecomeTheMessagesOfATemplate) {
  const auto call = Decode(Body(
      R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
         {"role":"user","content":"c"},
         {"role":"assistant","content":[
            {"type":"thinking","thinking":"hm","signature":"s"},
            {"type":"redacted_thinking","data":"x"},
            {"type":"text","text":"d","citations":null},
            {"type":"tool_use","id":"toolu_1","name":"f","input":{"x":[1,2]}}]},
         {"role":"assistant","content":[{"type":"tool_use","id":"2","name":"g","input":{},
            "caller":{"type":"direct"}}]},
         {"role":"user","content":[
            {"type":"text","text":"e"},
            {"type":"tool_result","tool_use_id":"toolu_1","content":"f"},
            {"type":"tool_result","tool_use_id":"2","is_error":true,
             "content":[{"type":"text","text":"g"},{"type":"text","text":"h"}]}]},
         {"role":"assistant","content":"i"},
         {"role":"user","content":[{"type":"tool_result","tool_use_id":"3"}]})",
      R"("system":[{"type":"text","text":"x-anthropic-billing-header: 1"},
                   {"type":"text","text":"s"},{"type":"text","text":"t"}])"));
  ASSERT_TRUE(call.ok()) << call.status();
  const Json wanted = *ParseJson(
      R"([{"role":"system","content":"s\nt"},
          {"role":"user","content":"a\nb\nc"},
          {"role":"assistant","content":"d","reasoning_content":"hm","tool_calls":[
            {"id":"1","type":"function","function":{"name":"f","arguments":{"x":[1,2]}}},
            {"id":"2","type":"function","function":{"name":"g","arguments":{}}}]},
          {"role":"tool","content":"f","tool_call_id":"1"},
          {"role":"tool","content":"Error: g\nh","tool_call_id":"2"},
          {"role":"user","content":"e"},
          {"role":"assistant","content":"i"},
          {"role":"tool","content":"","tool_call_id":"3"}])");
  EXPECT_EQ(Shown(*call), wanted);
}

TEST(AnthropicCodecTest, OnlyABlockForTheProviderIsDropped) {
  constexpr char kText[] = "x-anthropic-billing-header: 1";
  const auto system = [](const std::string& value) {
    return Shown(*Decode(Body(kHi, absl::StrCat("\"system\":", value))))[0]["content"];
  };
  EXPECT_EQ(system(absl::StrCat("\"", kText, "\"")), kText);
  EXPECT_EQ(system(absl::StrCat(R"([{"type":"text","text":"a"},{"type":"text","text":")", kText,
                                R"("}])")),
            absl::StrCat("a\n", kText));
}

TEST(AnthropicCodecTest, MessagesAreRefusedByTheirPlace) {
  const auto block = [](const std::string& role, const std::string& json) {
    return absl::StrCat(kHi, R"(,{"role":")", role, R"(","content":[)", json, "]},", kHi);
  };
  const struct {
    std::string messages;
    const char* refused;
  } cases[] = {
      {"", "messages must hold at least one"},
      {R"("hi")", "messages[0] must be an object"},
      {R"({"content":"x"})", "messages[0].role is required"},
      {R"({"role":"tool","content":"x"})", "messages[0].role must be"},
      {R"({"role":"user"})", "messages[0].content is required"},
      {R"({"role":"user","content":7})", "messages[0].content must be"},
      {R"({"role":"user","content":"x","name":"y"})",
       "Unrecognized request argument supplied: messages[0].name"},
      {block("user", R"({"type":"image","source":{}})"), "messages[1].content[0].type is 'image'"},
      {block("user", R"({"type":"document"})"), "messages[1].content[0].type is 'document'"},
      {block("user", R"({"type":"tool_use"})"), "messages[1].content[0].type is 'tool_use'"},
      {block("user", R"({"text":"x"})"), "messages[1].content[0].type is required"},
      {block("user", R"({"type":"text","text":7})"), "messages[1].content[0].text must be"},
      {block("user", R"({"type":"text","text":"x","odd":1})"),
       "Unrecognized request argument supplied: messages[1].content[0].odd"},
      {block("user", R"({"type":"text","text":"x","cache_control":{"type":"x"}})"),
       "messages[1].content[0].cache_control.type"},
      {block("user", R"({"type":"tool_result","content":"x"})"),
       "messages[1].content[0].tool_use_id is required"},
      {block("user", R"({"type":"tool_result","tool_use_id":"1","content":[{"type":"image"}]})"),
       "messages[1].content[0].content[0].type is 'image'"},
      {block("user", R"({"type":"tool_result","tool_use_id":"1","is_error":"no"})"),
       "messages[1].content[0].is_error"},
      {block("assistant", R"({"type":"tool_result","tool_use_id":"1"})"),
       "messages[1].content[0].type is 'tool_result'"},
      {block("assistant", R"({"type":"tool_use","id":"1","name":"f"})"),
       "messages[1].content[0].input is required"},
      {block("assistant", R"({"type":"tool_use","id":"1","name":"f","input":"{}"})"),
       "messages[1].content[0].input must be"},
      {block("assistant", R"({"type":"server_tool_use"})"), "messages[1].content[0].type"},
      {absl::StrCat(kHi, R"(,{"role":"assistant","content":"The answer is"})"),
       "messages[1].role is 'assistant'"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Refusal(Body(c.messages)), testing::StartsWith(c.refused)) << c.messages;
  }
}

TEST(AnthropicCodecTest, WordsGivenForTheModelCanBeCounted) {
  const std::string body = Body(absl::StrCat(kHi, R"(,{"role":"assistant","content":"So"})"));
  EXPECT_TRUE(DecodeCountTokens(body, Model()).ok());
}

TEST(AnthropicCodecTest, ToolsAreHonouredOrNamed) {
  const struct {
    std::string fields;
    const char* refused;
  } cases[] = {
      {R"("tools":[])", ""},
      {absl::StrCat(R"("tools":[)", kTool, "]"), ""},
      {R"("tools":[{"type":"custom","name":"f","description":"d","input_schema":{},"strict":true,
          "cache_control":{"type":"ephemeral"},"eager_input_streaming":true,"defer_loading":false,
          "allowed_callers":["direct"]}])",
       ""},
      {R"("tools":[{"type":"web_search_20250305","name":"web_search"}])", "tools[0].type is"},
      {R"("tools":[{"name":"f"}])", "tools[0].input_schema is required"},
      {R"("tools":[{"input_schema":{}}])", "tools[0].name is required"},
      {R"("tools":[{"name":"","input_schema":{}}])", "tools[0].name is required"},
      {R"("tools":[{"name":"f g","input_schema":{}}])", "tools[0].name must be"},
      {absl::StrCat(R"("tools":[)", kTool, ",", kTool, "]"), "tools[1].name is 'f'"},
      {R"("tools":[{"name":"f","input_schema":{},"input_examples":[{}]}])",
       "tools[0].input_examples"},
      {R"("tools":[{"name":"f","input_schema":{},"defer_loading":true}])",
       "tools[0].defer_loading"},
      {R"("tools":[{"name":"f","input_schema":{},"allowed_callers":["code"]}])",
       "tools[0].allowed_callers"},
      {R"("tools":[{"name":"f","input_schema":{},"odd":1}])",
       "Unrecognized request argument supplied: tools[0].odd"},
      {R"("tool_choice":{"type":"auto"})", ""},
      {R"("tool_choice":{"type":"none"})", ""},
      {R"("tool_choice":{"type":"any"})", "tool_choice"},
      {R"("tool_choice":"auto")", "tool_choice must be an object"},
      {R"("tool_choice":{})", "tool_choice.type is required"},
      {R"("tool_choice":{"type":"some"})", "tool_choice.type must be"},
      {R"("tool_choice":{"type":"tool"})", "tool_choice.name is required"},
      {absl::StrCat(R"("tool_choice":{"type":"tool","name":"g"},"tools":[)", kTool, "]"),
       "tool_choice.name is 'g'"},
      {absl::StrCat(R"("tool_choice":{"type":"any","odd":1},"tools":[)", kTool, "]"),
       "Unrecognized request argument supplied: tool_choice.odd"},
  };
  for (const auto& c : cases) {
    const std::string refusal = Refusal(Body(kHi, c.fields));
    EXPECT_THAT(refusal, testing::StartsWith(c.refused)) << c.fields;
    EXPECT_EQ(refusal.empty(), std::string_view(c.refused).empty()) << c.fields << refusal;
  }
}

// What ReadToolChoice makes of the choice, by the description that the grammar is made of.
TEST(AnthropicCodecTest, AChoiceOfToolsIsTheOneOfOpenAisWire) {
  const auto described = [](const std::string& choice) {
    const auto call =
        Decode(Body(kHi, absl::StrCat(R"("tools":[)", kTool, R"(],"tool_choice":{)", choice, "}")));
    EXPECT_TRUE(call.ok()) << call.status();
    if (!call->request.grammar.has_value()) return Json();
    return *ParseJson(call->request.grammar->source.text);
  };
  EXPECT_TRUE(described(R"("type":"none")").is_null());
  EXPECT_EQ(described(R"("type":"auto")")["required"], false);
  EXPECT_EQ(described(R"("type":"auto")")["parallel"], true);
  EXPECT_EQ(described(R"("type":"any")")["required"], true);
  EXPECT_EQ(described(R"("type":"any","disable_parallel_tool_use":true)")["parallel"], false);
  EXPECT_EQ(described(R"("type":"tool","name":"f")")["functions"][0]["name"], "f");
}

TEST(AnthropicCodecTest, ValuesArriveWhereTheyBelong) {
  const auto call = Decode(Body(kHi, R"("stream":true,"temperature":0.5,"top_p":0.25,"top_k":3,
      "stop_sequences":["x","y"],"model":"claude","thinking":{"type":"enabled"},
      "output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}})"));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_TRUE(call->stream);
  EXPECT_EQ(call->model, "claude");
  EXPECT_EQ(call->request.sampling.temperature, 0.5f);
  EXPECT_EQ(call->request.sampling.top_p, 0.25f);
  EXPECT_EQ(call->request.sampling.top_k, 3);
  EXPECT_THAT(call->request.stop, ElementsAre("x", "y"));
  EXPECT_EQ(call->request.grammar->source.text, R"({"type":"object"})");
}

TEST(AnthropicCodecTest, ThinkingIsOffUnlessAskedFor) {
  const auto thinking = [](const std::string& more) {
    const auto call = Decode(Body(kHi, more));
    EXPECT_TRUE(call.ok()) << call.status();
    EXPECT_TRUE(call->request.parts_reasoning);
    const Json kwargs = *ParseJson(std::get<ChatInput>(call->request.prompt).template_kwargs_json);
    return absl::StrCat(DumpJson(kwargs), call->shows_thinking ? " shown " : " ",
                        call->request.reasoning_tokens_max.value_or(-1));
  };
  const std::string off = R"({"enable_thinking":false} -1)";
  EXPECT_EQ(thinking(""), off);
  EXPECT_EQ(thinking(R"("thinking":{"type":"disabled","budget_tokens":5})"), off);
  EXPECT_EQ(thinking(R"("thinking":{"type":"enabled","budget_tokens":5})"),
            R"({"enable_thinking":true} shown 5)");
  EXPECT_EQ(thinking(R"("thinking":{"type":"adaptive","display":"omitted"})"),
            R"({"enable_thinking":true} -1)");
  EXPECT_EQ(thinking(R"("output_config":{"effort":"max"})"),
            R"({"enable_thinking":false,"reasoning_effort":"xhigh"} -1)");
}

TEST(AnthropicCodecTest, TheLongestCacheControlKeepsTheTurn) {
  const auto life = [](const std::string& messages, const std::string& more) {
    const auto call = Decode(Body(messages, more));
    EXPECT_TRUE(call.ok()) << call.status();
    EXPECT_EQ(call->cache_life.has_value(), call->request.retain.has_value());
    EXPECT_EQ(call->cache_life.value_or(absl::ZeroDuration()),
              call->request.retain.value_or(Request::Retain{}).ttl);
    return call->cache_life;
  };
  const auto marked = [](const std::string& ttl) {
    return absl::StrCat(R"("cache_control":{"type":"ephemeral")", ttl, "}");
  };
  const std::string hour = R"(,"ttl":"1h")";
  EXPECT_EQ(life(kHi, ""), std::nullopt);
  EXPECT_EQ(life(kHi, marked("")), absl::Minutes(5));
  EXPECT_EQ(life(kHi, absl::StrCat(R"("system":[{"type":"text","text":"x",)", marked(hour), "}],",
                                   marked(""))),
            absl::Hours(1));
  EXPECT_EQ(life(absl::StrCat(R"({"role":"user","content":[{"type":"text","text":"x",)",
                              marked(hour), "}]}"),
                 ""),
            absl::Hours(1));
  EXPECT_EQ(
      life(absl::StrCat(R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"1",)",
                        marked(""), "}]}"),
           ""),
      absl::Minutes(5));
  EXPECT_EQ(
      life(kHi, absl::StrCat(R"("tools":[{"name":"f","input_schema":{},)", marked(hour), "}]")),
      absl::Hours(1));
}

TEST(AnthropicCodecTest, TheSessionIsTheHeadersElseTheUsersWhereItIsKept) {
  const std::string user = R"("metadata":{"user_id":"u"})";
  const std::string kept = user + R"(,"cache_control":{"type":"ephemeral"})";
  EXPECT_EQ(Decode(Body(kHi, kept), "s")->request.session, "s");
  EXPECT_EQ(Decode(Body(kHi, kept))->request.session, "u");
  EXPECT_EQ(Decode(Body(kHi, user))->request.session, "");
  EXPECT_EQ(Decode(Body(kHi, user), "s")->request.session, "s");
}

TEST(AnthropicCodecTest, ListsHaveBounds) {
  const auto repeated = [](const std::string& item, int32_t count) {
    std::string list = item;
    for (int32_t i = 1; i < count; ++i) absl::StrAppend(&list, ",", item);
    return list;
  };
  EXPECT_EQ(Refusal(Body(repeated(kHi, kMessagesMax))), "");
  EXPECT_THAT(Refusal(Body(repeated(kHi, kMessagesMax + 1))), testing::StartsWith("messages has"));
  const auto blocks = [&](int32_t count) {
    return Refusal(Body(absl::StrCat(R"({"role":"user","content":[)",
                                     repeated(R"({"type":"text","text":"x"})", count), "]}")));
  };
  EXPECT_EQ(blocks(kContentPartsMax), "");
  EXPECT_THAT(blocks(kContentPartsMax + 1), testing::StartsWith("messages[0].content has"));
  const auto stops = [&](int32_t count) {
    return Refusal(Body(kHi, absl::StrCat(R"("stop_sequences":[)", repeated("\"x\"", count), "]")));
  };
  EXPECT_EQ(stops(kStopStringsMax), "");
  EXPECT_THAT(stops(kStopStringsMax + 1), testing::StartsWith("stop_sequences has"));
}

TEST(AnthropicCodecTest, ATemplateWithoutToolsIsToldOfThemInTheMessages) {
  const auto call = DecodeMessages(Body(kHi, absl::StrCat(R"("tools":[)", kTool, "]")),
                                   Model(ToolCallFormat::kUnknown));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(std::get<ChatInput>(call->request.prompt).messages_json, HasSubstr("<tool_call>"));
  EXPECT_TRUE(std::get<ChatInput>(call->request.prompt).tools_json.empty());
}

TEST(AnthropicErrorTest, EachStatusHasItsType) {
  const struct {
    int status;
    const char* type;
  } cases[] = {{400, "invalid_request_error"}, {401, "authentication_error"},
               {403, "permission_error"},      {404, "not_found_error"},
               {405, "invalid_request_error"}, {413, "request_too_large"},
               {429, "rate_limit_error"},      {500, "api_error"},
               {503, "overloaded_error"},      {504, "timeout_error"}};
  for (const auto& c : cases) {
    EXPECT_EQ(AnthropicErrorBody(HttpError(c.status, "", "m"), "req_1"),
              absl::StrCat(R"({"type":"error","error":{"type":")", c.type,
                           R"(","message":"m"},"request_id":"req_1"})"));
  }
}

TEST(AnthropicErrorTest, CodeAndParameterAreDetails) {
  const Json body = *ParseJson(AnthropicErrorBody(
      ToOpenAiError(ParameterError("tools[0].function.name", "missing", "m")), "r"));
  EXPECT_EQ(body["error"]["details"]["error_code"], "missing");
  EXPECT_EQ(body["error"]["details"]["param"], "tools[0].name");
}

TEST(AnthropicErrorTest, PlacesAreNamedAsTheSenderWroteThem) {
  const std::string body = AnthropicErrorBody(
      HttpError(400, "x", "tools[1].function.parameters: bad; response_format.json_schema.schema"),
      "r");
  EXPECT_THAT(body, HasSubstr("tools[1].input_schema: bad; output_config.format.schema"));
  EXPECT_THAT(body, Not(HasSubstr("function")));
}

}  // namespace
}  // namespace holdfast
