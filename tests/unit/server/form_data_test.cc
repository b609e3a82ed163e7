#include "server/form_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace holdfast {
namespace {

using testing::HasSubstr;

constexpr char kType[] = "multipart/form-data; boundary=xx";

std::string Part(const std::string& head, const std::string& content) {
  return "--xx\r\n" + head + "\r\n\r\n" + content + "\r\n";
}
std::string Field(const std::string& name, const std::string& content) {
  return Part("Content-Disposition: form-data; name=\"" + name + "\"", content);
}

TEST(FormDataTest, PartsComeWithTheirNamesInOrder) {
  const std::string body =
      Field("purpose", "batch") +
      Part(
          "Content-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n"
          "Content-Type: application/octet-stream",
          "{}\n") +
      "--xx--\r\n";
  const auto parts = ParseFormData(kType, body);
  ASSERT_TRUE(parts.ok()) << parts.status();
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ((*parts)[0].name, "purpose");
  EXPECT_EQ((*parts)[0].filename, "");
  EXPECT_EQ((*parts)[0].content, "batch");
  EXPECT_EQ((*parts)[1].name, "file");
  EXPECT_EQ((*parts)[1].filename, "a.jsonl");
  EXPECT_EQ((*parts)[1].content, "{}\n");
}

TEST(FormDataTest, ContentMayBeEmptyOrLookLikeABoundary) {
  for (const std::string content : {"", "\r\n", "--xx", "\n--xx--", "\r\n--xy", "a\r\n\r\nb"}) {
    const std::string body = Field("a", content) + Field("b", "") + "--xx--";
    const auto parts = ParseFormData(kType, body);
    ASSERT_TRUE(parts.ok()) << parts.status();
    ASSERT_EQ(parts->size(), 2u);
    EXPECT_EQ((*parts)[0].content, content);
    EXPECT_EQ((*parts)[1].content, "");
  }
}

TEST(FormDataTest, NamesAndBoundariesMayBeQuoted) {
  const std::string body =
      "--a b\r\ncontent-disposition: form-data; filename=\"say \\\"hi\\\"; x.txt\"; "
      "name=file\r\n\r\n"
      "1\r\n--a b--";
  const auto parts = ParseFormData("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"", body);
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ((*parts)[0].name, "file");
  EXPECT_EQ((*parts)[0].filename, "say \"hi\"; x.txt");
}

TEST(FormDataTest, WhatComesBeforeTheFirstBoundaryIsPassedOver) {
  const auto parts = ParseFormData(kType, "preamble\r\n" + Field("a", "1") + "--xx--epilogue");
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(parts->size(), 1u);
}

TEST(FormDataTest, AnotherTypeIsRefusedAndSaysWhichIsWanted) {
  for (const char* type : {"", "application/json", "multipart/mixed; boundary=xx"}) {
    EXPECT_THAT(std::string(ParseFormData(type, "").status().message()),
                HasSubstr("multipart/form-data"));
  }
}

TEST(FormDataTest, WhateverIsCutOffIsRefused) {
  const std::string whole = Field("a", "1") + Field("b", "22") + "--xx--";
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(ParseFormData(kType, whole.substr(0, length)).ok()) << length;
  }
  EXPECT_TRUE(ParseFormData(kType, whole).ok());
}

TEST(FormDataTest, PartsAreBounded) {
  std::string body;
  for (size_t i = 0; i < kFormPartsMax; ++i) body += Field("a", "1");
  EXPECT_TRUE(ParseFormData(kType, body + "--xx--").ok());
  EXPECT_FALSE(ParseFormData(kType, body + Field("a", "1") + "--xx--").ok());
  const std::string long_head(kFormPartHeadBytesMax + 1, 'h');
  EXPECT_FALSE(ParseFormData(kType, Part(long_head, "1") + "--xx--").ok());
}

}  // namespace
}  // namespace holdfast
