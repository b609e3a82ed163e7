#include "server/chat_template_files.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

class ChatTemplateFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "holdfast-template-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
    return folder_ + "/" + name;
  }
  std::string folder_;
};

TEST_F(ChatTemplateFilesTest, TextsAndObjectsAreBothRead) {
  const auto read =
      ReadChatTemplateFiles(Write("c.json", R"({"chat_template": "T", "bos_token": "<s>",
                          "eos_token": {"content": "</s>", "lstrip": false}})"),
                            "");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->source, "T");
  EXPECT_EQ(read->bos_token, "<s>");
  EXPECT_EQ(read->eos_token, "</s>");
}

TEST_F(ChatTemplateFilesTest, OfNamedTemplatesTheDefaultCounts) {
  const auto read = ReadChatTemplateFiles(
      Write("c.json", R"({"chat_template": [{"name": "rag", "template": "R"}, 3,
                                            {"name": "default", "template": "D"}]})"),
      "");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->source, "D");
  EXPECT_EQ(read->bos_token, "");
}

TEST_F(ChatTemplateFilesTest, TheJinjaFileWins) {
  const auto read =
      ReadChatTemplateFiles(Write("c.json", R"({"chat_template": "T", "bos_token": null})"),
                            Write("chat_template.jinja", "J\n"));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->source, "J\n");
}

TEST_F(ChatTemplateFilesTest, WithoutFilesThereIsNoTemplate) {
  const auto read = ReadChatTemplateFiles("", "");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->source, "");
}

TEST_F(ChatTemplateFilesTest, BrokenFilesAreNamed) {
  for (const std::string& path :
       {Write("a.json", "{"), Write("b.json", "[]"), Write("e.json", ""), folder_ + "/none"}) {
    const auto read = ReadChatTemplateFiles(path, "");
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(read.status().message().find(path), absl::string_view::npos);
  }
}

}  // namespace
}  // namespace holdfast
