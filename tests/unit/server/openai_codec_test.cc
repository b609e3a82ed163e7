#include "server/openai_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/json_body.h"

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

GenerationService::ModelInfo Model() {
  return {.name = "tiny",
          .aliases = {"small"},
          .context_tokens = 8192,
          .vocab_size = 1000,
          .created_unix = 7,
          .has_chat_template = true};
}

// A chat body with one more field, or a completions body.
std::string Chat(const std::string& more) {
  return absl::StrCat(R"({"messages":[{"role":"user","content":"hi"}])", more.empty() ? "" : ",",
                      more, "}");
}
std::string Text(const std::string& more) {
  return absl::StrCat(R"({"prompt":"hi")", more.empty() ? "" : ",", more, "}");
}

// "" when accepted, else the parameter that the refusal names.
std::string RefusedParam(const absl::Status& status) {
  if (status.ok()) return "";
  const OpenAiError error = ToOpenAiError(status);
  EXPECT_EQ(error.http_status == 400 || error.http_status == 404, true) << status;
  EXPECT_FALSE(error.message.empty());
  return error.param.empty() ? "?" : error.param;
}
std::string ChatRefusal(const std::string& more) {
  return RefusedParam(DecodeChatCompletion(Chat(more), Model()).status());
}
std::string TextRefusal(const std::string& more) {
  return RefusedParam(DecodeCompletion(Text(more), Model()).status());
}

struct Case {
  const char* field;    // as JSON, name and value
  const char* refused;  // "" : accepted
};

// Both sides of each bound, and each type once.
const Case kShared[] = {
    {R"("temperature":0)", ""},
    {R"("temperature":2)", ""},
    {R"("temperature":null)", ""},
    {R"("temperature":-0.001)", "temperature"},
    {R"("temperature":2.001)", "temperature"},
    {R"("temperature":"1")", "temperature"},
    {R"("temperature":1e300)", "temperature"},
    {R"("top_p":0)", ""},
    {R"("top_p":1)", ""},
    {R"("top_p":1.001)", "top_p"},
    {R"("top_p":-0.001)", "top_p"},
    {R"("min_p":0)", ""},
    {R"("min_p":1.1)", "min_p"},
    {R"("typical_p":0)", "typical_p"},
    {R"("typical_p":1)", ""},
    {R"("top_k":-1)", ""},
    {R"("top_k":-2)", "top_k"},
    {R"("top_k":40.0)", ""},
    {R"("top_k":40.5)", "top_k"},
    {R"("top_k":4294967296)", "top_k"},
    {R"("presence_penalty":-2)", ""},
    {R"("presence_penalty":-2.01)", "presence_penalty"},
    {R"("presence_penalty":2.01)", "presence_penalty"},
    {R"("frequency_penalty":2)", ""},
    {R"("frequency_penalty":2.01)", "frequency_penalty"},
    {R"("repetition_penalty":0)", "repetition_penalty"},
    {R"("repetition_penalty":10)", ""},
    {R"("repetition_penalty":10.1)", "repetition_penalty"},
    {R"("n":0)", "n"},
    {R"("n":1)", ""},
    {R"("n":16)", ""},
    {R"("n":17)", "n"},
    {R"("n":true)", "n"},
    {R"("seed":-9223372036854775808)", ""},
    {R"("seed":9223372036854775807)", ""},
    {R"("seed":9223372036854775808)", "seed"},
    {R"("seed":1e30)", "seed"},
    {R"("stop":"x")", ""},
    {R"("stop":[])", ""},
    {R"("stop":["a","b"])", ""},
    {R"("stop":"")", "stop"},
    {R"("stop":["a",""])", "stop"},
    {R"("stop":["a",1])", "stop"},
    {R"("stop":7)", "stop"},
    {R"("stop_token_ids":[0,999])", ""},
    {R"("stop_token_ids":[1000])", "stop_token_ids"},
    {R"("stop_token_ids":[-1])", "stop_token_ids"},
    {R"("logit_bias":{"999":100})", ""},
    {R"("logit_bias":{"1000":1})", "logit_bias"},
    {R"("logit_bias":{"x":1})", "logit_bias"},
    {R"("logit_bias":{"1":100.1})", "logit_bias"},
    {R"("logit_bias":{"1":"1"})", "logit_bias"},
    {R"("min_tokens":-1)", "min_tokens"},
    {R"("min_tokens":3,"max_tokens":3)", ""},
    {R"("min_tokens":4,"max_tokens":3)", "min_tokens"},
    {R"("ignore_eos":true)", ""},
    {R"("ignore_eos":1)", "ignore_eos"},
    {R"("include_stop_str_in_output":true)", ""},
    {R"("skip_special_tokens":false)", ""},
    {R"("cache_salt":"pepper")", ""},
    {R"("priority":-3)", ""},
    {R"("priority":1.5)", "priority"},
    {R"("offline":true)", ""},
    {R"("offline":"yes")", "offline"},
    {R"("tool_hint":{"name":"bash","expected_ms":86400000})", ""},
    {R"("tool_hint":{"name":"bash"})", ""},
    {R"("tool_hint":"bash")", "tool_hint"},
    {R"("tool_hint":{})", "tool_hint.name"},
    {R"("tool_hint":{"name":""})", "tool_hint.name"},
    {R"("tool_hint":{"name":"bash","expected_ms":-1})", "tool_hint.expected_ms"},
    {R"("tool_hint":{"name":"bash","expected_ms":86400001})", "tool_hint.expected_ms"},
    {R"("tool_hint":{"name":"bash","seconds":1})", "tool_hint.seconds"},
    {R"("session_id":"agent-7")", ""},
    {R"("user":"u")", ""},
    {R"("user":{})", "user"},
    {R"("metadata":{"a":"b"})", ""},
    {R"("metadata":[])", "metadata"},
    {R"("store":false)", ""},
    {R"("store":true)", "store"},
    {R"("service_tier":"auto")", ""},
    {R"("service_tier":"flex")", "service_tier"},
    {R"("stream":true,"stream_options":{"include_usage":true})", ""},
    {R"("stream_options":{"include_usage":true})", "stream_options"},
    {R"("stream":true,"stream_options":{"odd":true})", "stream_options.odd"},
    {R"("stream":"yes")", "stream"},
    {R"("model":"tiny")", ""},
    {R"("model":"small")", ""},
    {R"("model":"huge")", "model"},
    {R"("structured_outputs":{"json":{"type":"object"}})", ""},
    {R"("structured_outputs":{"json":"{}"})", ""},
    {R"("structured_outputs":{"json":7})", "structured_outputs.json"},
    {R"("structured_outputs":{"json_object":true})", ""},
    {R"("structured_outputs":{"regex":"[a-z]+"})", ""},
    {R"("structured_outputs":{"choice":["a","b"]})", ""},
    {R"("structured_outputs":{"choice":["a",1]})", "structured_outputs.choice"},
    {R"("structured_outputs":{"grammar":"start: \"a\""})", ""},
    {R"("structured_outputs":{"grammar":"root ::= \"a\""})", ""},
    {R"("structured_outputs":{"grammar":"start: \"a::=b\""})", ""},
    {R"("structured_outputs":{"structural_tag":"{}"})",
     "structured_outputs.structural_tag.structures"},
    {R"("structured_outputs":{"structural_tag":"{"})", "structured_outputs.structural_tag"},
    {R"("structured_outputs":{"structural_tag":{"structures":[{"begin":"<f>","schema":{},
        "end":"</f>"}],"triggers":["<f"]}})",
     ""},
    {R"("structured_outputs":{"structural_tag":{"format":{"type":"triggered_tags","tags":[
        {"begin":"<f>","content":{"type":"json_schema","json_schema":{}},"end":"</f>"}],
        "triggers":["<f"],"at_least_one":true}}})",
     ""},
    {R"("structured_outputs":{"structural_tag":{"format":{"type":"sequence"}}})",
     "structured_outputs.structural_tag.format.type"},
    {R"("structured_outputs":{})", "structured_outputs"},
    {R"("structured_outputs":{"regex":"a","choice":["a"]})", "structured_outputs.choice"},
    {R"("structured_outputs":{"xml":"a"})", "structured_outputs.xml"},
    {R"("wobble":1)", "wobble"},
    {R"("wobble":null)", "wobble"},
    {R"("stream":true,"stream_options":{"include_usage":null})", ""},
    {R"("stream":true,"stream_options":{"odd":null})", "stream_options.odd"},
};

TEST(OpenAiCodecTest, BothEndpointsHonourOrNameEverySharedParameter) {
  for (const Case& c : kShared) {
    EXPECT_EQ(ChatRefusal(c.field), c.refused) << c.field;
    EXPECT_EQ(TextRefusal(c.field), c.refused) << c.field;
  }
}

TEST(OpenAiCodecTest, ChatHonoursOrNamesItsOwnParameters) {
  const Case cases[] = {
      {R"("max_tokens":1)", ""},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_completion_tokens":1)", ""},
      {R"("max_completion_tokens":0)", "max_completion_tokens"},
      {R"("max_tokens":1,"max_completion_tokens":2)", "max_tokens"},
      {R"("min_tokens":17)", ""},
      {R"("logprobs":true,"top_logprobs":20)", ""},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":-1)", "top_logprobs"},
      {R"("top_logprobs":1)", "top_logprobs"},
      {R"("logprobs":1)", "logprobs"},
      {R"("response_format":{"type":"text"})", ""},
      {R"("response_format":{"type":"json_object"})", ""},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{})", "response_format.type"},
      {R"("response_format":{"type":"structural_tag","structures":[{"begin":"<f>","schema":{},
          "end":"</f>"}],"triggers":["<f"]})",
       ""},
      {R"("response_format":{"type":"structural_tag","structures":[{"begin":"<f>","schema":7,
          "end":"</f>"}],"triggers":["<f"]})",
       "response_format.structures[0].schema"},
      {R"("response_format":{"type":"structural_tag","structures":[],"triggers":[1]})",
       "response_format.triggers"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})",
       "response_format.json_schema.name"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":[]}})",
       "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true}})", ""},
      {R"("response_format":{"type":"json_object"},"structured_outputs":{"regex":"a"})",
       "response_format"},
      {R"("modalities":["text"])", ""},
      {R"("modalities":["text","audio"])", "modalities"},
      {R"("tools":[])", ""},
      {R"("tool_choice":"none")", ""},
      {R"("tool_choice":"auto")", ""},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}])", ""},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none")", ""},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required")", ""},
      {R"("tools":[{"type":"function","function":{"name":"f g"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"some")",
       "tool_choice"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{})",
       "tool_choice.type"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],
           "tool_choice":{"type":"function","function":{"name":"f"}})",
       ""},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],
           "tool_choice":{"type":"function","function":{"name":"g"}})",
       "tool_choice.function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{
           "type":"allowed_tools","allowed_tools":{"mode":"auto",
           "tools":[{"type":"function","function":{"name":"f"}}]}})",
       ""},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{
           "type":"allowed_tools","allowed_tools":{"mode":"auto",
           "tools":[{"type":"function","function":{"name":"g"}}]}})",
       "tool_choice.allowed_tools.tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{
           "type":"allowed_tools","allowed_tools":{"mode":"never",
           "tools":[{"type":"function","function":{"name":"f"}}]}})",
       "tool_choice.allowed_tools.mode"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},
                   {"type":"function","function":{"name":"f"}}])",
       "tools[1].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],
           "response_format":{"type":"json_object"})",
       ""},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],
           "structured_outputs":{"regex":"a"})",
       "structured_outputs.regex"},
      {R"("tools":[{"type":"web"}],"tool_choice":"none")", "tools[0].type"},
      {R"("functions":[])", "functions"},
      {R"("audio":{})", "audio"},
      {R"("prediction":{})", "prediction"},
      {R"("web_search_options":{})", "web_search_options"},
      {R"("reasoning_effort":"low")", ""},
      {R"("reasoning_effort":"much")", "reasoning_effort"},
      {R"("thinking_token_budget":0)", ""},
      {R"("thinking_token_budget":-1)", "thinking_token_budget"},
      {R"("verbosity":"low")", "verbosity"},
      {R"("parallel_tool_calls":true)", ""},
      {R"("parallel_tool_calls":1)", "parallel_tool_calls"},
      {R"("chat_template_kwargs":{"a":1})", ""},
      {R"("chat_template_kwargs":"a")", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"a":null})", ""},
      {R"("chat_template_kwargs":{"messages":[]})", "chat_template_kwargs.messages"},
      {R"("chat_template_kwargs":{"a":1,"eos_token":null})", "chat_template_kwargs.eos_token"},
      {R"("add_generation_prompt":false)", ""},
      {R"("echo":true)", "echo"},
  };
  for (const Case& c : cases) EXPECT_EQ(ChatRefusal(c.field), c.refused) << c.field;
}

TEST(OpenAiCodecTest, CompletionsHonourOrNameTheirOwnParameters) {
  const Case cases[] = {
      {R"("max_tokens":0)", "max_tokens"},
      {R"("min_tokens":16)", ""},
      {R"("min_tokens":17)", "min_tokens"},
      {R"("max_tokens":0,"echo":true,"logprobs":1)", ""},
      {R"("max_tokens":0,"echo":true)", "max_tokens"},
      {R"("logprobs":0)", ""},
      {R"("logprobs":20)", ""},
      {R"("logprobs":21)", "logprobs"},
      {R"("logprobs":-1)", "logprobs"},
      {R"("logprobs":true)", "logprobs"},
      {R"("best_of":1)", ""},
      {R"("best_of":2)", "best_of"},
      {R"("best_of":2,"n":2)", ""},
      {R"("n":2,"echo":true)", ""},
      {R"("n":2,"logprobs":1)", ""},
      {R"("n":1,"echo":true,"logprobs":1)", ""},
      {R"("n":2,"echo":true,"logprobs":0)", "n"},
      {R"("suffix":"")", ""},
      {R"("suffix":"x")", "suffix"},
      {R"("messages":[])", "messages"},
  };
  for (const Case& c : cases) EXPECT_EQ(TextRefusal(c.field), c.refused) << c.field;
}

TEST(OpenAiCodecTest, MessagesAreCheckedAndNamedByPlace) {
  const auto refusal = [](const std::string& messages) {
    return RefusedParam(
        DecodeChatCompletion(absl::StrCat(R"({"messages":)", messages, "}"), Model()).status());
  };
  EXPECT_EQ(refusal("[]"), "messages");
  EXPECT_EQ(refusal("null"), "messages");
  EXPECT_EQ(refusal(R"("hi")"), "messages");
  EXPECT_EQ(refusal("[1]"), "messages[0]");
  EXPECT_EQ(refusal(R"([{"content":"x"}])"), "messages[0].role");
  EXPECT_EQ(refusal(R"([{"role":"boss","content":"x"}])"), "messages[0].role");
  EXPECT_EQ(refusal(R"([{"role":"user"}])"), "messages[0].content");
  EXPECT_EQ(refusal(R"([{"role":"user","content":1}])"), "messages[0].content");
  EXPECT_EQ(refusal(R"([{"role":"user","content":"x","mood":1}])"), "messages[0].mood");
  EXPECT_EQ(refusal(R"([{"role":"tool","content":"x"}])"), "messages[0].tool_call_id");
  EXPECT_EQ(refusal(R"([{"role":"user","content":[{"type":"image_url"}]}])"),
            "messages[0].content[0].type");
  EXPECT_EQ(refusal(R"([{"role":"user","content":[{"type":"text"}]}])"),
            "messages[0].content[0].text");
  EXPECT_EQ(refusal(R"([{"role":"assistant","tool_calls":[{"id":"a","type":"function"}]}])"),
            "messages[0].tool_calls[0].function");
  // An answer object of the SDK, sent back as history.
  EXPECT_EQ(refusal(R"([{"role":"user","content":"x"},{"role":"assistant","content":"y",
             "refusal":null,"annotations":[],"audio":null,"function_call":null,"tool_calls":null}])"),
            "");
}

GenerationService::ModelInfo WithTools(GenerationService::ModelInfo model) {
  model.tool_calls = ToolCallFormat::kHermes;
  return model;
}

TEST(OpenAiCodecTest, ANameThatCallsInPythonCannotHoldIsRefusedThere) {
  constexpr char kBody[] = R"({"messages":[{"role":"user","content":"Go"}],
        "tools":[{"type":"function","function":{"name":"f"}},
                 {"type":"function","function":{"name":"ns/f"}}]})";
  auto model = WithTools(Model());
  EXPECT_TRUE(DecodeChatCompletion(kBody, model).ok());
  model.tool_calls = ToolCallFormat::kPython;
  EXPECT_THAT(std::string(DecodeChatCompletion(kBody, model).status().message()),
              testing::StartsWith("tools[1].function.name "));
}

// For a model whose template shows no tools, they and what became of them stand in the messages.
TEST(OpenAiCodecTest, ToolsAreToldOfInTheMessagesWhereTheTemplateShowsNone) {
  constexpr char kBody[] = R"({"messages":[
        {"role":"system","content":"Be brief."},{"role":"user","content":"Go"},
        {"role":"assistant","content":"So.","tool_calls":[{"id":"c1","type":"function",
          "function":{"name":"f","arguments":"{\"a\":2}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"one"},
        {"role":"tool","tool_call_id":"c2","content":"two"}],
        "tools":[{"type":"function","function":{"name":"f"}}]})";
  const auto told = DecodeChatCompletion(kBody, Model());
  ASSERT_TRUE(told.ok()) << told.status();
  const auto& input = std::get<ChatInput>(told->requests[0].prompt);
  EXPECT_EQ(input.tools_json, "");
  EXPECT_THAT(input.messages_json,
              HasSubstr(R"([{"role":"system","content":"Be brief.\n\nYou can)"));
  EXPECT_THAT(input.messages_json, HasSubstr(R"({\"name\":\"f\"})"));
  EXPECT_THAT(
      input.messages_json,
      HasSubstr(
          R"({"role":"assistant","content":"So.\n<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":2}}</tool_call>"},)"
          R"({"role":"user","content":"<tool_response>\none\n</tool_response>\n)"
          R"(<tool_response>\ntwo\n</tool_response>"}])"));
  ASSERT_TRUE(told->requests[0].tool_calls.has_value());
  EXPECT_EQ(told->requests[0].tool_calls->format, ToolCallFormat::kUnknown);
  EXPECT_EQ(told->requests[0].tool_calls->rules.names, std::vector<std::string>{"f"});

  const auto shown = DecodeChatCompletion(kBody, WithTools(Model()));
  ASSERT_TRUE(shown.ok()) << shown.status();
  const auto& own = std::get<ChatInput>(shown->requests[0].prompt);
  EXPECT_EQ(own.tools_json, R"([{"type":"function","function":{"name":"f"}}])");
  EXPECT_THAT(own.messages_json, HasSubstr(R"({"role":"system","content":"Be brief."})"));
}

TEST(OpenAiCodecTest, MessagesReachTheTemplateInItsForm) {
  const auto call = DecodeChatCompletion(
      R"({"messages":[
        {"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
        {"role":"user","content":"grüße","name":"eva"},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
          "function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"ok"}],
        "chat_template_kwargs":{"x":true}})",
      WithTools(Model()));
  ASSERT_TRUE(call.ok()) << call.status();
  ASSERT_THAT(call->requests, SizeIs(1));
  const auto& input = std::get<ChatInput>(call->requests[0].prompt);
  EXPECT_EQ(input.messages_json,
            R"([{"role":"system","content":"a\nb"},{"role":"user","content":"grüße","name":"eva"},)"
            R"({"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function",)"
            R"("function":{"name":"f","arguments":{"z":1,"a":2}}}]},)"
            R"({"role":"tool","content":"ok","tool_call_id":"c1"}])");
  EXPECT_EQ(input.template_kwargs_json, R"({"x":true})");
  EXPECT_TRUE(input.add_generation_prompt);
}

TEST(OpenAiCodecTest, ValuesArriveWhereTheyBelong) {
  const auto call = DecodeChatCompletion(
      Chat(R"("model":"small","temperature":0.5,"top_p":0,"top_k":-1,"n":2,"stream":true,
              "stream_options":{"include_usage":true},"max_completion_tokens":9,"seed":-1,
              "logprobs":true,"top_logprobs":3,"logit_bias":{"5":-2},"stop":"END",
              "stop_token_ids":[4],"cache_salt":"s","min_tokens":1)"),
      Model());
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->model, "small");
  EXPECT_TRUE(call->shape.stream && call->shape.include_usage && call->shape.logprobs);
  EXPECT_EQ(call->shape.num_choices, 2);
  const GenerationRequest& request = call->requests.at(0);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_GT(request.sampling.top_p, 0.0f);
  EXPECT_LT(request.sampling.top_p, 1e-4f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.seed, ~uint64_t{0});
  EXPECT_TRUE(call->seed_given);
  EXPECT_EQ(request.sampling.top_logprobs, 3);
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(std::pair<TokenId, float>(5, -2)));
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_THAT(request.stop, ElementsAre("END"));
  EXPECT_THAT(request.stop_token_ids, ElementsAre(4));
  EXPECT_EQ(request.cache_salt, "s");
  EXPECT_EQ(request.sampling.min_tokens, 1);
}

TEST(OpenAiCodecTest, PromptsComeInFourForms) {
  const auto prompts = [](const std::string& prompt) {
    auto call = DecodeCompletion(absl::StrCat(R"({"prompt":)", prompt, "}"), Model());
    EXPECT_TRUE(call.ok()) << prompt << call.status();
    return call.ok() ? std::move(call->requests) : std::vector<GenerationRequest>();
  };
  using Tokens = std::vector<TokenId>;
  EXPECT_EQ(std::get<std::string>(prompts(R"("a")").at(0).prompt), "a");
  EXPECT_EQ(std::get<std::string>(prompts(R"(["a","b"])").at(1).prompt), "b");
  EXPECT_EQ(std::get<Tokens>(prompts("[1,2]").at(0).prompt), (Tokens{1, 2}));
  EXPECT_EQ(std::get<Tokens>(prompts("[[1],[2,3]]").at(1).prompt), (Tokens{2, 3}));
  EXPECT_FALSE(prompts(R"("a")").at(0).max_tokens.has_value());
  EXPECT_EQ(prompts(R"("a")").at(0).max_tokens_default, 16);
  for (const char* bad : {"[]", "{}", "1", R"(["a",1])", R"(["a",[1]])", R"([1,"a"])", "[[]]",
                          "[1.5]", "[-1]", "[1000]", "[[1],2]", "[true]", "[99999999999]"}) {
    EXPECT_EQ(
        RefusedParam(DecodeCompletion(absl::StrCat(R"({"prompt":)", bad, "}"), Model()).status()),
        "prompt")
        << bad;
  }
}

TEST(OpenAiCodecTest, ListsHaveBounds) {
  const auto list = [](const std::string& item, int count) {
    std::string json = "[";
    for (int i = 0; i < count; ++i) absl::StrAppend(&json, i > 0 ? "," : "", item);
    return json + "]";
  };
  const auto stops = [&](int count) { return absl::StrCat("\"stop\":", list("\"x\"", count)); };
  EXPECT_EQ(ChatRefusal(stops(kStopStringsMax)), "");
  EXPECT_EQ(ChatRefusal(stops(kStopStringsMax + 1)), "stop");
  const auto stop_of = [](size_t bytes) {
    return absl::StrCat("\"stop\":\"", std::string(bytes, 'x'), "\"");
  };
  EXPECT_EQ(ChatRefusal(stop_of(kStopStringBytesMax)), "");
  EXPECT_EQ(ChatRefusal(stop_of(kStopStringBytesMax + 1)), "stop");
  const auto prompts = [&](int count, const char* more = "") {
    return RefusedParam(
        DecodeCompletion(absl::StrCat("{\"prompt\":", list("\"x\"", count), more, "}"), Model())
            .status());
  };
  EXPECT_EQ(prompts(kPromptsMax), "");
  EXPECT_EQ(prompts(kPromptsMax + 1), "prompt");
  const char* const scored = R"(,"echo":true,"logprobs":1)";
  EXPECT_EQ(prompts(kEchoLogprobPromptsMax, scored), "");
  EXPECT_EQ(prompts(kEchoLogprobPromptsMax + 1, scored), "prompt");
  EXPECT_EQ(prompts(kEchoLogprobPromptsMax + 1, R"(,"echo":true)"), "");
  const auto messages = [&](int count) {
    const std::string all = list(R"({"role":"user","content":"x"})", count);
    return RefusedParam(
        DecodeChatCompletion(absl::StrCat("{\"messages\":", all, "}"), Model()).status());
  };
  EXPECT_EQ(messages(kMessagesMax), "");
  EXPECT_EQ(messages(kMessagesMax + 1), "messages");
  EXPECT_EQ(ChatRefusal(absl::StrCat("\"cache_salt\":\"", std::string(257, 'x'), "\"")),
            "cache_salt");
}

TEST(OpenAiCodecTest, BrokenBodiesAreRefusedWithTheirPlace) {
  const std::string deep_ok = std::string(kJsonDepthMax, '[') + std::string(kJsonDepthMax, ']');
  EXPECT_TRUE(ParseJson(deep_ok).ok());
  EXPECT_THAT(std::string(ParseJson("[" + deep_ok + "]").status().message()),
              HasSubstr("nested deeper"));
  EXPECT_FALSE(ParseJson(std::string(1 << 20, '[')).ok());
  for (const char* bad : {"", "{", "[1,]", "{\"a\":1}x", "\"\xff\"", "\"\\ud800\"", "nul", "1e999",
                          "{\"a\":1,\"a\":2}", "NaN"}) {
    EXPECT_FALSE(ParseJson(bad).ok()) << bad;
  }
  std::string many = "[";
  for (int i = 0; i < kJsonContainersMax; ++i) many += "[],";
  EXPECT_FALSE(ParseJson(many + "0]").ok());
  EXPECT_FALSE(DecodeChatCompletion("[]", Model()).ok());
  std::string fields = "\"a0\":1";
  for (size_t i = 1; i < 2 * kJsonFieldsMax; ++i) absl::StrAppend(&fields, ",\"a", i, "\":1");
  EXPECT_FALSE(DecodeChatCompletion(Chat(fields), Model()).ok());
}

TEST(OpenAiCodecTest, AModelWithoutChatTemplateRefusesChatOnly) {
  GenerationService::ModelInfo model = Model();
  model.has_chat_template = false;
  EXPECT_EQ(RefusedParam(DecodeChatCompletion(Chat(""), model).status()), "messages");
  EXPECT_TRUE(DecodeCompletion(Text(""), model).ok());
  EXPECT_TRUE(DecodeTokenize(R"({"prompt":"x"})", model).ok());
}

TEST(OpenAiCodecTest, TokenizeTakesTextOrMessages) {
  const auto text = DecodeTokenize(R"({"model":"tiny","prompt":"x"})", Model());
  ASSERT_TRUE(text.ok());
  EXPECT_TRUE(text->add_special_tokens);
  EXPECT_EQ(std::get<std::string>(text->text), "x");
  const auto chat = DecodeTokenize(
      R"({"messages":[{"role":"user","content":"x"}],"add_generation_prompt":false})", Model());
  ASSERT_TRUE(chat.ok());
  EXPECT_FALSE(chat->add_special_tokens);
  EXPECT_FALSE(std::get<ChatInput>(chat->text).add_generation_prompt);
  EXPECT_FALSE(DecodeTokenize(R"({})", Model()).ok());
  EXPECT_FALSE(DecodeTokenize(Chat(R"("prompt":"x")"), Model()).ok());
  EXPECT_EQ(DecodeDetokenize(R"({"tokens":[1,2]})", Model()).value(), (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(DecodeDetokenize(R"({"tokens":[]})", Model()).value(), std::vector<TokenId>());
  EXPECT_FALSE(DecodeDetokenize(R"({"tokens":[1000]})", Model()).ok());
  EXPECT_FALSE(DecodeDetokenize(R"({"tokens":"1"})", Model()).ok());
}

TEST(OpenAiCodecTest, TheLengthIsRefusedByTheNameThatTheCallerGaveIt) {
  const auto names = [](const std::string& more) {
    return DecodeChatCompletion(Chat(more), Model()).value().requests.at(0).names;
  };
  EXPECT_STREQ(names("")->max_tokens, "max_tokens");
  EXPECT_STREQ(names(R"("max_tokens":5)")->max_tokens, "max_tokens");
  EXPECT_STREQ(names(R"("max_completion_tokens":5)")->max_tokens, "max_completion_tokens");
  EXPECT_STREQ(names("")->prompt, "messages");
  EXPECT_STREQ(DecodeCompletion(Text(""), Model()).value().requests.at(0).names->prompt, "prompt");
}

TEST(OpenAiCodecTest, WhatTheTemplateGetsFromUsIsNamedWhereACallerSetsIt) {
  for (const char* name :
       {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"}) {
    EXPECT_EQ(ChatRefusal(absl::StrCat("\"chat_template_kwargs\":{\"", name, "\":1}")),
              absl::StrCat("chat_template_kwargs.", name));
  }
}

TEST(HttpStatusTest, WhatWeAnswerHasAReasonPhrase) {
  for (const int status : {200, 204, 400, 401, 403, 404, 405, 408, 409, 413,
                           415, 417, 429, 431, 499, 500, 501, 503, 504, 505}) {
    EXPECT_NE(ReasonPhrase(status), "Error") << status;
  }
  EXPECT_EQ(ReasonPhrase(415), "Unsupported Media Type");
  EXPECT_EQ(ReasonPhrase(408), "Request Timeout");
  EXPECT_EQ(ReasonPhrase(431), "Request Header Fields Too Large");
}

TEST(HttpStatusTest, EachStatusHasItsCodeAndErrorObject) {
  const auto code = [](const absl::Status& status) { return ToOpenAiError(status).http_status; };
  EXPECT_EQ(code(absl::InvalidArgumentError("x")), 400);
  EXPECT_EQ(code(absl::UnauthenticatedError("x")), 401);
  EXPECT_EQ(code(absl::PermissionDeniedError("x")), 403);
  EXPECT_EQ(code(absl::NotFoundError("x")), 404);
  EXPECT_EQ(code(absl::ResourceExhaustedError("x")), 429);
  EXPECT_EQ(code(absl::CancelledError("x")), 499);
  EXPECT_EQ(code(absl::InternalError("x")), 500);
  EXPECT_EQ(code(absl::UnknownError("x")), 500);
  EXPECT_EQ(code(absl::UnavailableError("x")), 503);
  EXPECT_EQ(code(absl::DeadlineExceededError("x")), 504);
  absl::Status full = absl::ResourceExhaustedError("queue full");
  EXPECT_EQ(ToOpenAiError(full).retry_after_seconds, 1);
  full.SetPayload(kRetryAfterUrl, absl::Cord("7"));
  EXPECT_EQ(ToOpenAiError(full).retry_after_seconds, 7);
  EXPECT_EQ(ErrorBody(ToOpenAiError(ParameterError("n", "invalid_value", "too \"big\""))),
            R"({"error":{"message":"too \"big\"","type":"invalid_request_error","param":"n",)"
            R"("code":"invalid_value"}})");
  EXPECT_EQ(ErrorBody(ToOpenAiError(absl::UnauthenticatedError("x"))),
            R"({"error":{"message":"x","type":"invalid_request_error","param":null,)"
            R"("code":"invalid_api_key"}})");
}

}  // namespace
}  // namespace holdfast
