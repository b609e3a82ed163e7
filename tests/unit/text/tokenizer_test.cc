#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/escaping.h"
#include "tests/unit/text/vocabularies.h"
#include "text/grammar.h"
#include "text/text.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int32_t> Encode(const Tokenizer& tokenizer, std::string_view text,
                            SpecialTokens special = SpecialTokens::kPlain,
                            bool add_bos_eos = false) {
  std::vector<int32_t> ids;
  const absl::Status status = tokenizer.Encode(text, special, add_bos_eos, ids);
  EXPECT_TRUE(status.ok()) << status;
  return ids;
}

// A vocabulary that tests may damage.
struct Vocabulary {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "a", "b", "ab"};
  std::vector<int32_t> types = {2, 3, 3, 1, 1, 1};
  std::vector<float> scores = {0, 0, 0, -2, -3, -1};
  std::vector<std::string> merges = {"a b"};
  GgufVocabulary view{.model = "gpt2",
                      .pre = "gpt-2",
                      .tokens = &tokens,
                      .token_types = &types,
                      .scores = &scores,
                      .merges = &merges,
                      .bos = 1,
                      .eos = 2,
                      .unknown = 0};
  absl::Status Refusal() const { return Tokenizer::FromGguf(view).status(); }
};

TEST(ByteLevelTokenizerTest, TokensStandForTheirExactBytes) {
  const auto tokenizer = ByteLevelTokenizer({"<s>"});
  for (int byte = 0; byte < 256; ++byte) {
    const std::string wanted(1, static_cast<char>(byte));
    EXPECT_EQ(tokenizer->TokenBytes(ByteId({"<s>"}, static_cast<uint8_t>(byte))), wanted);
  }
  EXPECT_EQ(tokenizer->TokenBytes(0), "<s>");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(tokenizer->vocab_size()), "");
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
}

TEST(ByteLevelTokenizerTest, MergesInTheirOrder) {
  const auto tokenizer = ByteLevelTokenizer({});
  EXPECT_THAT(Encode(*tokenizer, "hello w"), ElementsAre(259, 260));
  EXPECT_THAT(Encode(*tokenizer, "hell"), ElementsAre(258));
  EXPECT_THAT(Encode(*tokenizer, "hel"), ElementsAre(256, 'l'));
}

TEST(ByteLevelTokenizerTest, EveryPreTokenizerKeepsTheText) {
  const std::string text =
      "I'LL  pay 12345 \xC3\xA9t\xC3\xA9\r\n\n\t x...!! \xE5\xA4\xA9\xF0\x9F\x98\x80 ";
  for (const char* pre : {"gpt-2", "phi-2", "smollm", "starcoder", "refact", "codeshell",
                          "llama-bpe", "llama3", "llama-v3", "qwen2", "tekken", "default"}) {
    const auto tokenizer = ByteLevelTokenizer({"<s>"}, pre);
    EXPECT_EQ(Decode(*tokenizer, Encode(*tokenizer, text)), text) << pre;
  }
}

TEST(ByteLevelTokenizerTest, InvalidUtf8IsReadAsReplacementCharacters) {
  const auto tokenizer = ByteLevelTokenizer({});
  EXPECT_EQ(Decode(*tokenizer, Encode(*tokenizer, "a\xE2\x82z\xFF")), "a\xEF\xBF\xBDz\xEF\xBF\xBD");
}

TEST(ByteLevelTokenizerTest, OfOverlappingControlTokensTheLongestCounts) {
  const auto tokenizer = ByteLevelTokenizer({"<a>", "<a>b", "b<a>"});
  EXPECT_THAT(Encode(*tokenizer, "<a>b<a>", SpecialTokens::kParse), ElementsAre(1, 0));
  EXPECT_THAT(Encode(*tokenizer, "b<a>b", SpecialTokens::kParse),
              ElementsAre(2, ByteId({"", "", ""}, 'b')));
}

TEST(ByteLevelTokenizerTest, ManyThreadsMayEncode) {
  const auto tokenizer = ByteLevelTokenizer({"<s>"});
  const std::vector<int32_t> wanted = Encode(*tokenizer, "hello world");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 200; ++n) EXPECT_EQ(Encode(*tokenizer, "hello world"), wanted);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A whole request body of one character: no step may be quadratic.
TEST(ByteLevelTokenizerTest, LongRunsOfOneCharacterAreEncoded) {
  const auto tokenizer = ByteLevelTokenizer({"<|im_start|>"}, "qwen2");
  for (const char* piece : {" ", "a", "<|im_start", "\n", "1", "!", "\xC3\xA9"}) {
    std::string text;
    while (text.size() < 1 << 20) text += piece;
    text += "z";
    EXPECT_EQ(Decode(*tokenizer, Encode(*tokenizer, text, SpecialTokens::kParse)), text);
  }
}

TEST(GgufTokenizerTest, UnknownPreTokenizerIsNamed) {
  Vocabulary vocabulary;
  vocabulary.view.pre = "made-up";
  EXPECT_EQ(vocabulary.Refusal().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(vocabulary.Refusal().ToString(), HasSubstr("\"made-up\" is not supported"));
}

TEST(GgufTokenizerTest, UnknownModelIsNamed) {
  Vocabulary vocabulary;
  vocabulary.view.model = "bert";
  EXPECT_THAT(vocabulary.Refusal().ToString(), HasSubstr("\"bert\" is not supported"));
}

TEST(GgufTokenizerTest, FaultyArraysAreRefusedByName) {
  Vocabulary lengths;
  lengths.types.pop_back();
  EXPECT_THAT(lengths.Refusal().ToString(), HasSubstr("token_type has 5 entries"));
  Vocabulary merge;
  merge.merges = {"ab"};
  EXPECT_THAT(merge.Refusal().ToString(), HasSubstr("merges[0] has no space"));
  merge.merges = {"a b", "b b"};
  EXPECT_THAT(merge.Refusal().ToString(), HasSubstr("merges[1]: \"bb\" is not in"));
  merge.merges = {""};
  EXPECT_FALSE(merge.Refusal().ok());
  Vocabulary ids;
  ids.view.eos = 6;
  EXPECT_THAT(ids.Refusal().ToString(), HasSubstr("eos_token_id is 6"));
  ids.view.eos = -1;
  ids.view.add_eos = true;
  EXPECT_THAT(ids.Refusal().ToString(), HasSubstr("no eos_token_id"));
  Vocabulary text;
  text.tokens[3] = "\xFF";
  EXPECT_THAT(text.Refusal().ToString(), HasSubstr("tokens[3] is not UTF-8"));
  Vocabulary empty;
  empty.view.tokens = nullptr;
  EXPECT_THAT(empty.Refusal().ToString(), HasSubstr("tokens has 0 entries"));
  Vocabulary scores;
  scores.view.model = "llama";
  scores.scores.clear();
  EXPECT_THAT(scores.Refusal().ToString(), HasSubstr("scores is missing"));
}

TEST(GgufTokenizerTest, BosAndEosAreAddedWhenAskedFor) {
  Vocabulary vocabulary;
  vocabulary.view.add_bos = vocabulary.view.add_eos = true;
  const auto tokenizer = Tokenizer::FromGguf(vocabulary.view);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(Encode(**tokenizer, "ab", SpecialTokens::kPlain, true), ElementsAre(1, 5, 2));
  EXPECT_THAT(Encode(**tokenizer, "", SpecialTokens::kPlain, true), ElementsAre(1, 2));
  EXPECT_THAT(Encode(**tokenizer, "ab", SpecialTokens::kPlain, false), ElementsAre(5));
}

TEST(GgufTokenizerTest, TheEndTokenIsAControlTokenWhateverItsType) {
  Vocabulary vocabulary;
  vocabulary.types[2] = 4;
  const auto tokenizer = Tokenizer::FromGguf(vocabulary.view);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_TRUE((*tokenizer)->IsSpecial(2));
  EXPECT_THAT(Encode(**tokenizer, "</s>", SpecialTokens::kParse), ElementsAre(2));
  EXPECT_THAT(Encode(**tokenizer, "</s>", SpecialTokens::kPlain), testing::Not(ElementsAre(2)));
}

class SentencePieceTest : public testing::Test {
 protected:
  void SetUp() override {
    golden_ = Json::parse(ReadGolden("tokens_sentencepiece.json"));
    tokens_ = golden_["tokens"].get<std::vector<std::string>>();
    types_ = golden_["token_types"].get<std::vector<int32_t>>();
    scores_ = golden_["scores"].get<std::vector<float>>();
    tokenizer_ = Make(true);
  }
  std::unique_ptr<Tokenizer> Make(bool add_space_prefix) {
    auto tokenizer = Tokenizer::FromGguf({.model = "llama",
                                          .pre = "default",
                                          .tokens = &tokens_,
                                          .token_types = &types_,
                                          .scores = &scores_,
                                          .add_space_prefix = add_space_prefix,
                                          .bos = 1,
                                          .eos = 2,
                                          .unknown = 0});
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
  }
  Json golden_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::vector<float> scores_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SentencePieceTest, MergesTheBestScoringPairFirst) {
  for (const Json& entry : golden_["cases"]) {
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(Encode(*tokenizer_, text), entry["ids"].get<std::vector<int32_t>>()) << text;
  }
}

TEST_F(SentencePieceTest, TextComesBackBehindOneSpace) {
  EXPECT_TRUE(tokenizer_->adds_space_prefix());
  for (const Json& entry : golden_["cases"]) {
    const auto text = entry["text"].get<std::string>();
    if (text.empty() || text.find("<|tool|>") != std::string::npos) continue;
    EXPECT_EQ(Decode(*tokenizer_, Encode(*tokenizer_, text)), " " + text);
  }
}

TEST_F(SentencePieceTest, AGrammarHoldsAnswersToo) {
  const int32_t ends[] = {2};
  for (const bool add_space_prefix : {true, false}) {
    const auto tokenizer = Make(add_space_prefix);
    const auto compiler = GrammarCompiler::Create(*tokenizer, tokenizer->vocab_size(), ends);
    ASSERT_TRUE(compiler.ok()) << compiler.status();
    const auto grammar = (*compiler)->Compile(
        {.kind = GrammarKind::kChoice, .text = R"(["the quick fox", "a dog"])"}, 0);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const auto matcher = (*grammar)->NewMatcher();
    ASSERT_TRUE(matcher.ok()) << matcher.status();
    std::vector<uint32_t> words(static_cast<size_t>(tokenizer->vocab_size() + 31) / 32);
    std::string text;
    for (int i = 0; i < 20; ++i) {
      std::vector<int32_t> forced;
      ASSERT_TRUE((*matcher)->Next(words, forced).ok());
      int32_t token = forced.empty() ? 0 : forced.front();
      while (forced.empty() && (words[token / 32] >> token % 32 & 1) == 0) ++token;
      ASSERT_TRUE((*matcher)->Consume(token).ok());
      if (token == ends[0]) break;
      text += tokenizer->TokenBytes(token);
    }
    EXPECT_THAT(text, testing::AnyOf("the quick fox", "a dog"));
  }
}

TEST_F(SentencePieceTest, NoSpaceIsAddedWhereTheFileSaysSo) {
  const auto tokenizer = Make(false);
  EXPECT_FALSE(tokenizer->adds_space_prefix());
  EXPECT_EQ(Decode(*tokenizer, Encode(*tokenizer, "jumps over")), "jumps over");
}

TEST_F(SentencePieceTest, UnknownCharactersBecomeBytes) {
  const std::vector<int32_t> ids = Encode(*Make(false), "\xF0\x9F\x98\x80");
  ASSERT_EQ(ids.size(), 4u);
  EXPECT_EQ(tokenizer_->TokenBytes(ids[0]), "\xF0");
  EXPECT_EQ(tokenizer_->TokenBytes(ids[3]), "\x80");
}

TEST_F(SentencePieceTest, ControlTokensAreOnlyParsedOnRequest) {
  EXPECT_THAT(Encode(*tokenizer_, "<s></s>", SpecialTokens::kParse), ElementsAre(1, 2));
  for (const int32_t id : Encode(*tokenizer_, "<s></s><unk>")) {
    EXPECT_FALSE(tokenizer_->IsSpecial(id));
  }
}

TEST(TokenizerJsonTest, IdsAreThoseOfTransformers) {
  const auto tokenizer =
      Tokenizer::FromJsonFile(HOLDFAST_SOURCE_DIR "/tests/golden/tiny_tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::istringstream lines(ReadGolden("tokens_tiny_json.jsonl"));
  std::string line;
  while (std::getline(lines, line)) {
    const Json entry = Json::parse(line);
    std::string text;
    ASSERT_TRUE(absl::Base64Unescape(entry["bytes"].get<std::string>(), &text));
    const auto plain = entry["plain"].get<std::vector<int32_t>>();
    EXPECT_EQ(Encode(**tokenizer, text, SpecialTokens::kPlain, true), plain) << text;
    const auto parsed = entry.value("parsed", plain);
    EXPECT_EQ(Encode(**tokenizer, text, SpecialTokens::kParse, true), parsed) << text;
  }
}

TEST(TokenizerJsonTest, TokensStandForTheirExactBytes) {
  const auto tokenizer =
      Tokenizer::FromJsonFile(HOLDFAST_SOURCE_DIR "/tests/golden/tiny_tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string text = "Zw\xC3\xB6lf <think> 12 \xF0\x9F\x98\x80";
  EXPECT_EQ(Decode(**tokenizer, Encode(**tokenizer, text)), text);
  const std::vector<int32_t> bos = Encode(**tokenizer, "<bos>", SpecialTokens::kParse);
  ASSERT_EQ(bos.size(), 1u);
  EXPECT_TRUE((*tokenizer)->IsSpecial(bos[0]));
  EXPECT_FALSE((*tokenizer)->adds_space_prefix());
}

TEST(TokenizerJsonTest, MissingAndFaultyFilesAreNamed) {
  const auto missing = Tokenizer::FromJsonFile("/nowhere/tokenizer.json");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.status().ToString(), HasSubstr("/nowhere/tokenizer.json"));
  const std::string path = testing::TempDir() + "/faulty_tokenizer.json";
  std::ofstream(path) << "{\"model\": 1}";
  EXPECT_EQ(Tokenizer::FromJsonFile(path).status().code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace holdfast
