// The default model's tokenizer against transformers' (tests/golden/make_token_golden.py).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/escaping.h"
#include "tests/unit/text/vocabularies.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;

class DefaultModelTokensTest : public testing::Test {
 protected:
  void SetUp() override {
    model_ = LoadDefaultModel();
    if (model_ == nullptr) GTEST_SKIP() << "HOLDFAST_MODEL is not set";
  }
  std::vector<int32_t> Encode(std::string_view text, SpecialTokens special) {
    std::vector<int32_t> ids;
    EXPECT_TRUE(model_->tokenizer->Encode(text, special, false, ids).ok());
    return ids;
  }
  const DefaultModel* model_ = nullptr;
};

// Calls `check(bytes, case)` for each line.
template <typename Check>
int ForEachCase(Check check) {
  std::istringstream lines(ReadGolden("tokens_smollm2.jsonl"));
  std::string line;
  int count = 0;
  for (; std::getline(lines, line); ++count) {
    const Json entry = Json::parse(line);
    std::string bytes;
    EXPECT_TRUE(absl::Base64Unescape(entry["bytes"].get<std::string>(), &bytes));
    check(bytes, entry);
    if (testing::Test::HasFailure()) break;
  }
  return count;
}

TEST_F(DefaultModelTokensTest, IdsAreThoseOfTransformersOnAllGoldenStrings) {
  const int count = ForEachCase([this](const std::string& bytes, const Json& entry) {
    const auto plain = entry["plain"].get<std::vector<int32_t>>();
    ASSERT_EQ(Encode(bytes, SpecialTokens::kPlain), plain) << entry["bytes"];
    const auto parsed = entry.value("parsed", plain);
    ASSERT_EQ(Encode(bytes, SpecialTokens::kParse), parsed) << entry["bytes"];
  });
  EXPECT_GE(count, 2000);
}

TEST_F(DefaultModelTokensTest, PlainTextNeverBecomesControlTokens) {
  ForEachCase([this](const std::string& bytes, const Json& entry) {
    for (const int32_t id : Encode(bytes, SpecialTokens::kPlain)) {
      ASSERT_FALSE(model_->tokenizer->IsSpecial(id)) << entry["bytes"];
    }
  });
}

// Some bytes are no token of this vocabulary, and transformers drops them; all others come back.
TEST_F(DefaultModelTokensTest, TextComesBackFromItsTokens) {
  for (const std::string text : {"Zwölf Boxkämpfer, 12 345!", "天地玄黃", " \n\t  x",
                                 "int f() { return 0; }", "<|im_start|>user\nHi<|im_end|>", ""}) {
    EXPECT_EQ(Decode(*model_->tokenizer, Encode(text, SpecialTokens::kPlain)), text);
    EXPECT_EQ(Decode(*model_->tokenizer, Encode(text, SpecialTokens::kParse)), text);
  }
}

TEST_F(DefaultModelTokensTest, ControlTokensAreThoseOfTheFile) {
  EXPECT_EQ(model_->tokenizer->vocab_size(), 49152);
  int count = 0;
  for (int32_t id = 0; id < 49152; ++id) count += model_->tokenizer->IsSpecial(id) ? 1 : 0;
  EXPECT_EQ(count, 17);
  EXPECT_EQ(Encode("<|im_start|>", SpecialTokens::kParse), std::vector<int32_t>{1});
  EXPECT_EQ(Encode("<|im_end|>", SpecialTokens::kParse), std::vector<int32_t>{2});
}

}  // namespace
}  // namespace holdfast
