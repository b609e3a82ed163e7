#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "text/text.h"

namespace holdfast {
namespace {

using testing::HasSubstr;

class HuggingFaceTemplateTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Write(const char* name, std::string_view text) {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::filesystem::path folder_;
};

TEST_F(HuggingFaceTemplateTest, TokensAreTextsOrObjects) {
  const auto found =
      LoadHuggingFaceChatTemplate(Write("config", R"({"chat_template": "x", "bos_token": "<s>",
                          "eos_token": {"content": "</s>", "lstrip": false}})"),
                                  "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->source, "x");
  EXPECT_EQ(found->bos_token, "<s>");
  EXPECT_EQ(found->eos_token, "</s>");
  EXPECT_EQ(found->tool_use_source, "");
}

TEST_F(HuggingFaceTemplateTest, OfNamedTemplatesDefaultAndToolUseAreTaken) {
  const auto found = LoadHuggingFaceChatTemplate(
      Write("config", R"({"chat_template": [{"name": "rag", "template": "r"},
            {"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})"),
      "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->source, "d");
  EXPECT_EQ(found->tool_use_source, "t");
}

TEST_F(HuggingFaceTemplateTest, TheTemplateFileWins) {
  const auto found = LoadHuggingFaceChatTemplate(
      Write("config", R"({"chat_template": "x", "bos_token": null})"), Write("jinja", "y\n"));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->source, "y\n");
  EXPECT_EQ(found->bos_token, "");
}

TEST_F(HuggingFaceTemplateTest, AFolderWithoutATemplateHasAnEmptyOne) {
  for (const std::string& path : {std::string(), Write("none", "{}")}) {
    const auto found = LoadHuggingFaceChatTemplate(path, "");
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->source, "");
  }
}

TEST_F(HuggingFaceTemplateTest, FaultyFilesAreNamed) {
  const std::string none = Write("none", "{}");
  EXPECT_EQ(LoadHuggingFaceChatTemplate("/nowhere/x", "").status().code(),
            absl::StatusCode::kNotFound);
  const std::string broken = Write("broken", "{");
  EXPECT_THAT(LoadHuggingFaceChatTemplate(broken, "").status().ToString(), HasSubstr(broken));
  const std::string number = Write("number", R"({"chat_template": 1})");
  EXPECT_THAT(LoadHuggingFaceChatTemplate(number, "").status().ToString(),
              HasSubstr("neither a string nor an array"));
  EXPECT_THAT(LoadHuggingFaceChatTemplate(none, Write("latin", "\xFF")).status().ToString(),
              HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace holdfast
