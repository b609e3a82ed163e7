// Every bound of a request in one table: what is exactly as much as a bound allows is taken, one
// more is refused by the name of the parameter.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "config/limits.h"
#include "server/http_status.h"
#include "server/json_body.h"
#include "server/openai_codec.h"

namespace holdfast {
namespace {

GenerationService::ModelInfo Model() {
  return {.name = "tiny", .context_tokens = 8192, .vocab_size = 100'000, .has_chat_template = true};
}

// "item, item, item", with the number of each for "#".
std::string Items(int64_t count, const std::string& item) {
  std::string list;
  for (int64_t i = 0; i < count; ++i) {
    std::string one = item;
    if (const size_t at = one.find('#'); at != one.npos) one.replace(at, 1, absl::StrCat(i));
    absl::StrAppend(&list, i > 0 ? "," : "", one);
  }
  return list;
}
std::string Text(int64_t bytes) {
  return "\"" + std::string(static_cast<size_t>(bytes), 'a') + "\"";
}
std::string Chat(const std::string& more) {
  return R"({"messages":[{"role":"user","content":"hi"}],)" + more + "}";
}
std::string Completion(const std::string& more) { return R"({"prompt":"hi",)" + more + "}"; }
std::string Tool(const std::string& name) {
  return R"({"type":"function","function":{"name":)" + name +
         R"(,"parameters":{"type":"object"}}})";
}

struct Bound {
  const char* name;
  int64_t most;
  const char* param;  // as the refusal names it
  std::function<std::string(int64_t)> body;
  bool chat = true;
};

const Bound kBounds[] = {
    {"messages", kMessagesMax, "messages",
     [](int64_t n) {
       return R"({"messages":[)" + Items(n, R"({"role":"user","content":"a"})") + "]}";
     }},
    {"parts of a message", kContentPartsMax, "messages[0].content",
     [](int64_t n) {
       return R"({"messages":[{"role":"user","content":[)" +
              Items(n, R"({"type":"text","text":"a"})") + "]}]}";
     }},
    {"name of a message", static_cast<int64_t>(kUserStringBytesMax), "messages[0].name",
     [](int64_t n) {
       return R"({"messages":[{"role":"user","content":"a","name":)" + Text(n) + "}]}";
     }},
    {"n", kChoicesMax, "n", [](int64_t n) { return Chat(absl::StrCat("\"n\":", n)); }},
    {"stop strings", kStopStringsMax, "stop",
     [](int64_t n) { return Chat("\"stop\":[" + Items(n, "\"a#\"") + "]"); }},
    {"bytes of a stop string", static_cast<int64_t>(kStopStringBytesMax), "stop",
     [](int64_t n) { return Chat("\"stop\":[" + Text(n) + "]"); }},
    {"stop tokens", kStopTokensMax, "stop_token_ids",
     [](int64_t n) { return Chat("\"stop_token_ids\":[" + Items(n, "#") + "]"); }},
    {"top_logprobs", kTopLogprobsMax, "top_logprobs",
     [](int64_t n) { return Chat(absl::StrCat("\"logprobs\":true,\"top_logprobs\":", n)); }},
    {"logit_bias", kLogitBiasMax, "logit_bias",
     [](int64_t n) { return Chat("\"logit_bias\":{" + Items(n, "\"#\":1") + "}"); }},
    {"tools", kToolsMax, "tools",
     [](int64_t n) { return Chat("\"tools\":[" + Items(n, Tool("\"f#\"")) + "]"); }},
    {"name of a tool", static_cast<int64_t>(kToolNameBytesMax), "tools[0].function.name",
     [](int64_t n) { return Chat("\"tools\":[" + Tool(Text(n)) + "]"); }},
    {"cache_salt", static_cast<int64_t>(kCacheSaltBytesMax), "cache_salt",
     [](int64_t n) { return Chat("\"cache_salt\":" + Text(n)); }},
    {"user", static_cast<int64_t>(kUserStringBytesMax), "user",
     [](int64_t n) { return Chat("\"user\":" + Text(n)); }},
    {"session_id", static_cast<int64_t>(kUserStringBytesMax), "session_id",
     [](int64_t n) { return Chat("\"session_id\":" + Text(n)); }},
    {"tool_hint.expected_ms", kToolMsMax, "tool_hint.expected_ms",
     [](int64_t n) {
       return Chat(absl::StrCat(R"("tool_hint":{"name":"a","expected_ms":)", n, "}"));
     }},
    {"choices of a structured output", static_cast<int64_t>(kGrammarChoicesMax),
     "structured_outputs.choice",
     [](int64_t n) {
       return Chat(R"("structured_outputs":{"choice":[)" + Items(n, "\"c#\"") + "]}");
     }},
    {"bytes of an expression", static_cast<int64_t>(kGrammarBytesMax), "structured_outputs.regex",
     [](int64_t n) { return Chat(R"("structured_outputs":{"regex":)" + Text(n) + "}"); }},
    {"prompts", kPromptsMax, "prompt",
     [](int64_t n) { return R"({"prompt":[)" + Items(n, "\"a\"") + "]}"; }, false},
    {"prompts whose tokens are scored", static_cast<int64_t>(kEchoLogprobPromptsMax), "prompt",
     [](int64_t n) { return R"({"echo":true,"logprobs":1,"prompt":[)" + Items(n, "\"a\"") + "]}"; },
     false},
    {"logprobs of a completion", kTopLogprobsMax, "logprobs",
     [](int64_t n) { return Completion(absl::StrCat("\"logprobs\":", n)); }, false},
};

class RequestBoundsTest : public testing::TestWithParam<Bound> {
 protected:
  absl::Status Decode(int64_t amount) const {
    const std::string body = GetParam().body(amount);
    return GetParam().chat ? DecodeChatCompletion(body, Model()).status()
                           : DecodeCompletion(body, Model()).status();
  }
};

TEST_P(RequestBoundsTest, AsMuchAsIsAllowedIsTakenAndOneMoreIsRefusedByName) {
  EXPECT_TRUE(Decode(GetParam().most).ok()) << Decode(GetParam().most);
  const absl::Status refused = Decode(GetParam().most + 1);
  ASSERT_FALSE(refused.ok());
  const OpenAiError error = ToOpenAiError(refused);
  EXPECT_EQ(error.http_status, 400) << refused;
  EXPECT_EQ(error.param.substr(0, std::string(GetParam().param).size()), GetParam().param)
      << refused;
}

INSTANTIATE_TEST_SUITE_P(All, RequestBoundsTest, testing::ValuesIn(kBounds), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = absl::ascii_isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

// ---- JSON itself
// ---------------------------------------------------------------------------------

std::string Nested(int64_t depth) {
  return std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']');
}

TEST(JsonBoundsTest, DepthContainersAndFieldsAreBoundedToTheOne) {
  EXPECT_TRUE(ParseJson(Nested(kJsonDepthMax)).ok());
  EXPECT_FALSE(ParseJson(Nested(kJsonDepthMax + 1)).ok());
  EXPECT_FALSE(ParseJson(Nested(10'000)).ok());
  EXPECT_TRUE(ParseJson("[" + Items(kJsonContainersMax - 1, "{}") + "]").ok());
  EXPECT_FALSE(ParseJson("[" + Items(kJsonContainersMax, "{}") + "]").ok());
  const auto fields = [](int64_t count) {
    const Json json = *ParseJson("{" + Items(count, "\"f#\":1") + "}");
    JsonFields reader(json, "");
    return reader.ok();
  };
  EXPECT_TRUE(fields(static_cast<int64_t>(kJsonFieldsMax)));
  EXPECT_FALSE(fields(static_cast<int64_t>(kJsonFieldsMax) + 1));
}

}  // namespace
}  // namespace holdfast
