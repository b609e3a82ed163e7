// Renderings against Jinja2's (tests/golden/make_chat_golden.py), and the limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <nlohmann/json.hpp>

#include "config/limits.h"
#include "tests/unit/text/vocabularies.h"
#include "text/text.h"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

class ChatTemplateTest : public testing::Test {
 protected:
  std::unique_ptr<ChatTemplate> Make(std::string_view source, TemplateLimits limits = {}) {
    auto made = ChatTemplate::Create(source, "<s>", "</s>", *tokenizer_, limits);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : nullptr;
  }
  std::string Render(std::string_view source, const std::string& messages = "[]") {
    const auto text = Make(source)->Render({.messages_json = messages});
    return text.ok() ? *text : text.status().ToString();
  }
  const std::unique_ptr<Tokenizer> tokenizer_ =
      ByteLevelTokenizer({"<s>", "</s>", "<|im_start|>", "<|im_end|>"});
};

TEST_F(ChatTemplateTest, TextIsThatOfJinjaOnAllGoldenConversations) {
  const Json golden = Json::parse(ReadGolden("chat_templates.json"));
  for (const Json& entry : golden["cases"]) {
    const auto name = entry["template"].get<std::string>();
    SCOPED_TRACE(name + ", " + entry["talk"].get<std::string>());
    const auto made = Make(golden["templates"][name].get<std::string>());
    ChatInput input{.messages_json = entry["messages"].dump(),
                    .add_generation_prompt = entry["add_generation_prompt"].get<bool>()};
    if (entry.contains("tools")) input.tools_json = entry["tools"].dump();
    if (entry.contains("kwargs")) input.template_kwargs_json = entry["kwargs"].dump();
    const auto text = made->Render(input);
    if (entry.contains("error")) {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << *text;
      continue;
    }
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, entry["text"].get<std::string>());
    std::vector<int32_t> ids;
    ASSERT_TRUE(made->Encode(input, ids).ok());
    EXPECT_EQ(Decode(*tokenizer_, ids), *text);
  }
}

TEST_F(ChatTemplateTest, ConversationsWithToolsHaveTheirOwnTemplateWhereTheModelDoes) {
  const auto made =
      ChatTemplate::Create({.source = "plain", .tool_use_source = "tools"}, *tokenizer_);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string tools = R"([{"type":"function","function":{"name":"f"}}])";
  EXPECT_EQ(*(*made)->Render({.messages_json = "[]"}), "plain");
  EXPECT_EQ(*(*made)->Render({.messages_json = "[]", .tools_json = tools}), "tools");
  std::vector<int32_t> ids;
  ASSERT_TRUE((*made)->Encode({.messages_json = "[]", .tools_json = tools}, ids).ok());
  EXPECT_EQ(Decode(*tokenizer_, ids), "tools");
  const auto one = ChatTemplate::Create(ChatTemplateSource{.source = "plain"}, *tokenizer_);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(*(*one)->Render({.messages_json = "[]", .tools_json = tools}), "plain");
}

TEST_F(ChatTemplateTest, WhatTheTemplateRefusesIsSaidToTheCaller) {
  EXPECT_THAT(Render("{{ raise_exception('No ' ~ messages[0].role) }}", R"([{"role":"tool"}])"),
              HasSubstr("the chat template refuses the messages: No tool"));
  EXPECT_THAT(Render("a\n{{ messages[0].x.y }}"), HasSubstr("(line 2)"));
}

TEST_F(ChatTemplateTest, FaultyTemplatesAreRefusedWhenCompiled) {
  const auto made = ChatTemplate::Create("{% if %}", "", "", *tokenizer_);
  EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(made.status().ToString(), HasSubstr("does not compile"));
}

TEST_F(ChatTemplateTest, EndlessTemplatesRunOutOfSteps) {
  const auto made =
      Make("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}");
  const auto text = made->Render({.messages_json = "[]"});
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(text.status().ToString(), HasSubstr("more than 20000000 steps"));
}

TEST_F(ChatTemplateTest, RecursionIsBounded) {
  EXPECT_THAT(Render("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"),
              HasSubstr("INVALID_ARGUMENT"));
}

TEST_F(ChatTemplateTest, OutputIsBounded) {
  const auto made = Make("{{ messages[0].content }}", {.output_bytes_max = 10});
  EXPECT_EQ(*made->Render({.messages_json = R"([{"content":"0123456789"}])"}), "0123456789");
  const auto text = made->Render({.messages_json = R"([{"content":"0123456789x"}])"});
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(text.status().ToString(), HasSubstr("more than 10 bytes"));
}

TEST_F(ChatTemplateTest, DefaultLimitsAreTheConfiguredOnes) {
  EXPECT_EQ(TemplateLimits{}.fuel, kTemplateFuelMax);
  EXPECT_EQ(TemplateLimits{}.output_bytes_max, kTemplateOutputBytesMax);
}

TEST_F(ChatTemplateTest, FaultyInputIsNamed) {
  const auto made = Make("x");
  const auto refusal = [&](ChatInput input) { return made->Render(input).status().ToString(); };
  EXPECT_THAT(refusal({.messages_json = "["}), HasSubstr("messages: "));
  EXPECT_THAT(refusal({.messages_json = "{}"}), HasSubstr("messages must be an array"));
  EXPECT_THAT(refusal({.messages_json = ""}), HasSubstr("messages must be an array"));
  EXPECT_THAT(refusal({.messages_json = "[]", .tools_json = "{}"}), HasSubstr("tools must be"));
  EXPECT_THAT(refusal({.messages_json = "[]", .template_kwargs_json = "[]"}),
              HasSubstr("chat_template_kwargs must be"));
  EXPECT_THAT(refusal({.messages_json = "[]", .template_kwargs_json = R"({"bos_token":"x"})"}),
              HasSubstr("may not set bos_token"));
  EXPECT_THAT(refusal({.messages_json = "[\"\xFF\"]"}), HasSubstr("messages is not UTF-8"));
  EXPECT_THAT(refusal({.messages_json = std::string(100000, '[')}), HasSubstr("messages: "));
}

TEST_F(ChatTemplateTest, KwargsAreVariablesOfTheTemplate) {
  const auto made = Make("{{ a }} {{ b.c }} {{ d is defined }}");
  EXPECT_EQ(*made->Render(
                {.messages_json = "[]", .template_kwargs_json = R"({"a": 1, "b": {"c": "x"}})"}),
            "1 x False");
}

TEST_F(ChatTemplateTest, TheTimeOfTheDayIsFormattedByStrftime) {
  EXPECT_EQ(Render("{{ strftime_now('%%Y x') }}"), "%Y x");
  const std::string date = Render("{{ strftime_now('%Y-%m-%d') }}");
  ASSERT_EQ(date.size(), 10u) << date;
  for (const size_t i : {0, 1, 2, 3, 5, 6, 8, 9}) EXPECT_TRUE(std::isdigit(date[i])) << date;
  EXPECT_EQ(Render("{{ strftime_now('%c' * 1000) }}"), "");  // more than the 1024 bytes there are
}

TEST_F(ChatTemplateTest, NothingOutsideTheTemplateCanBeIncluded) {
  EXPECT_THAT(Render("{% include '/etc/passwd' %}"), HasSubstr("INVALID_ARGUMENT"));
}

TEST_F(ChatTemplateTest, ATokenizerOfAnotherMakeIsRefused) {
  class Other final : public Tokenizer {
    absl::Status Encode(std::string_view, SpecialTokens, bool,
                        std::vector<int32_t>&) const override {
      return absl::OkStatus();
    }
    std::string_view TokenBytes(int32_t) const override { return ""; }
    bool IsSpecial(int32_t) const override { return false; }
    int32_t vocab_size() const override { return 0; }
  } other;
  EXPECT_FALSE(ChatTemplate::Create("x", "", "", other).ok());
}

}  // namespace
}  // namespace holdfast
