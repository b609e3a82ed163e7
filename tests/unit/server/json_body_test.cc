#include "server/json_body.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(JsonBodyTest, WhatEndsALineForSomeReadersIsEscapedAndReadBackAsItWas) {
  const std::string text = "a\u0085b\u2028c\u2029d\x1c\x0b\ne \u00e9 \u2027";
  const std::string json = DumpJson(Json{{text, text}});
  for (const char* end : {"\u0085", "\u2028", "\u2029", "\x1c", "\x0b", "\n", "\r"}) {
    EXPECT_THAT(json, testing::Not(testing::HasSubstr(end)));
  }
  EXPECT_THAT(json, testing::HasSubstr("\u00e9 \u2027"));
  const auto read = ParseJson(json);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)[text], text);
}

}  // namespace
}  // namespace holdfast
