#include "server/choice_text.h"

#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/unit/server/byte_tokenizer.h"
#include "tests/unit/server/stream_reader.h"

namespace holdfast {
namespace {

TokenEvent Token(TokenId token, std::optional<SequenceEnd> end = std::nullopt) {
  return {.token = token, .logprob = -0.5f, .top = {{.token = 65, .logprob = -1.0f}}, .end = end};
}

GenerationRequest WithLogprobs() {
  GenerationRequest request;
  request.sampling.top_logprobs = 1;
  return request;
}

// Feeds bytes as tokens until the choice ends or the text does.
ReadChoice Feed(ChoiceText& choice, std::string_view text,
                std::optional<SequenceEnd> end = std::nullopt) {
  std::map<int32_t, ReadChoice> read;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool last = i + 1 == text.size();
    AddDelta(choice.Add(Token(static_cast<uint8_t>(text[i]), last ? end : std::nullopt)), read);
  }
  return read[0];
}

std::string SpellTokens(const ReadChoice& choice) {
  std::string text;
  for (const TokenId token : choice.tokens) text += static_cast<char>(token);
  return text;
}

TEST(ChoiceTextTest, ShowsEachTokenWithItsText) {
  const ByteTokenizer tokenizer;
  ChoiceText choice(0, WithLogprobs(), tokenizer);
  const ChoiceDelta delta = choice.Add(Token('h'));
  EXPECT_EQ(delta.text, "h");
  EXPECT_EQ(delta.tokens, std::vector<TokenId>{'h'});
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.logprobs[0].chosen.bytes, "h");
  EXPECT_EQ(delta.logprobs[0].chosen.logprob, -0.5f);
  EXPECT_EQ(delta.logprobs[0].top[0].bytes, "A");
}

TEST(ChoiceTextTest, SaysOfATokenThatTheTextDoesNotShowIt) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  for (const bool skip : {true, false}) {
    request.skip_special_tokens = skip;
    ChoiceText choice(0, request, tokenizer);
    std::map<int32_t, ReadChoice> read;
    AddDelta(choice.Add(Token(ByteTokenizer::kBos)), read);
    AddDelta(choice.Add(Token('h')), read);
    EXPECT_EQ(read[0].text, skip ? "h" : "<bos>h");
    ASSERT_EQ(read[0].logprobs.size(), 2u);
    EXPECT_EQ(read[0].logprobs[0].hidden, skip);
    EXPECT_FALSE(read[0].logprobs[1].hidden);
  }
}

TEST(ChoiceTextTest, HoldsTokensOfHalfACharacterUntilItIsWhole) {
  const ByteTokenizer tokenizer;
  ChoiceText choice(0, WithLogprobs(), tokenizer);
  const std::string euro = "\xe2\x82\xac";
  EXPECT_TRUE(IsEmpty(choice.Add(Token(0xe2))));
  EXPECT_TRUE(IsEmpty(choice.Add(Token(0x82))));
  const ChoiceDelta delta = choice.Add(Token(0xac));
  EXPECT_EQ(delta.text, euro);
  EXPECT_EQ(delta.tokens.size(), 3u);
  EXPECT_EQ(delta.logprobs.size(), 3u);
  EXPECT_EQ(choice.completion_tokens(), 3);
}

TEST(ChoiceTextTest, CutsAtAStopStringAcrossTokensAndCountsUpToIt) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"\n\nQ:"};
  ChoiceText choice(0, request, tokenizer);
  const ReadChoice read = Feed(choice, "Paris.\n\nQ: and more");
  EXPECT_EQ(read.text, "Paris.");
  EXPECT_EQ(SpellTokens(read), "Paris.");
  EXPECT_EQ(read.logprobs.size(), 6u);
  EXPECT_EQ(read.finish, FinishReason::kStop);
  EXPECT_EQ(read.stop_string, "\n\nQ:");
  EXPECT_TRUE(choice.ended());
  EXPECT_EQ(choice.completion_tokens(), 10);
}

TEST(ChoiceTextTest, HoldsTokensOfWhatMayBecomeAStopStringAndReleasesThemTogether) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"END"};
  ChoiceText choice(0, request, tokenizer);
  EXPECT_TRUE(IsEmpty(choice.Add(Token('E'))));
  EXPECT_TRUE(IsEmpty(choice.Add(Token('N'))));
  const ChoiceDelta delta = choice.Add(Token('x'));
  EXPECT_EQ(delta.text, "ENx");
  EXPECT_EQ(delta.tokens.size(), 3u);
}

TEST(ChoiceTextTest, ShowsTheStopStringWhereAskedFor) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"END"};
  request.include_stop = true;
  ChoiceText choice(0, request, tokenizer);
  const ReadChoice read = Feed(choice, "a END b");
  EXPECT_EQ(read.text, "a END");
  EXPECT_EQ(SpellTokens(read), "a END");
  EXPECT_EQ(choice.completion_tokens(), 5);
}

TEST(ChoiceTextTest, ATokenThatIsPartlyBeforeTheStopStringIsShown) {
  const ByteTokenizer tokenizer({"a E", "ND b"});
  GenerationRequest request = WithLogprobs();
  request.stop = {"END"};
  ChoiceText choice(0, request, tokenizer);
  std::map<int32_t, ReadChoice> read;
  AddDelta(choice.Add(Token(ByteTokenizer::kFirstWord)), read);
  EXPECT_EQ(read[0].text, "a ");
  EXPECT_TRUE(read[0].tokens.empty());
  AddDelta(choice.Add(Token(ByteTokenizer::kFirstWord + 1)), read);
  EXPECT_EQ(read[0].text, "a ");
  EXPECT_EQ(read[0].tokens, std::vector<TokenId>{ByteTokenizer::kFirstWord});
  EXPECT_EQ(choice.completion_tokens(), 2);
}

TEST(ChoiceTextTest, AStopTokenIsCountedButNotShown) {
  const ByteTokenizer tokenizer;
  ChoiceText choice(0, WithLogprobs(), tokenizer);
  Feed(choice, "hi");
  const ChoiceDelta delta = choice.Add(Token(ByteTokenizer::kEos, SequenceEnd::kStopToken));
  EXPECT_EQ(delta.text, "");
  EXPECT_TRUE(delta.tokens.empty());
  EXPECT_EQ(delta.finish, FinishReason::kStop);
  EXPECT_EQ(delta.stop_string, "");
  EXPECT_EQ(choice.completion_tokens(), 3);
}

TEST(ChoiceTextTest, WithoutTextAStopTokenIsGivenOutAsAnyOther) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.want_text = false;
  ChoiceText choice(0, request, tokenizer);
  const ChoiceDelta delta = choice.Add(Token(ByteTokenizer::kEos, SequenceEnd::kStopToken));
  EXPECT_EQ(delta.tokens, std::vector<TokenId>{ByteTokenizer::kEos});
  EXPECT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.text, "");
}

TEST(ChoiceTextTest, TheEndReleasesWhatWasHeldForAStopString) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"END"};
  ChoiceText choice(0, request, tokenizer);
  const ReadChoice read = Feed(choice, "the EN", SequenceEnd::kLength);
  EXPECT_EQ(read.text, "the EN");
  EXPECT_EQ(SpellTokens(read), "the EN");
  EXPECT_EQ(read.finish, FinishReason::kLength);
}

TEST(ChoiceTextTest, AStopTokenReleasesWhatWasHeldToo) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"END"};
  ChoiceText choice(0, request, tokenizer);
  Feed(choice, "the EN");
  const ChoiceDelta delta = choice.Add(Token(ByteTokenizer::kEos, SequenceEnd::kStopToken));
  EXPECT_EQ(delta.text, "EN");
  EXPECT_EQ(delta.tokens.size(), 2u);
  EXPECT_EQ(delta.finish, FinishReason::kStop);
}

TEST(ChoiceTextTest, HalfACharacterAtTheEndBecomesTheReplacementCharacter) {
  const ByteTokenizer tokenizer;
  ChoiceText choice(0, WithLogprobs(), tokenizer);
  const ReadChoice read = Feed(choice, "a\xe2\x82", SequenceEnd::kLength);
  EXPECT_EQ(read.text, "a\xef\xbf\xbd");
  EXPECT_EQ(read.tokens.size(), 3u);
}

TEST(ChoiceTextTest, StopStringsAreNotLookedForBeforeMinTokens) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"."};
  request.sampling.min_tokens = 4;
  ChoiceText choice(0, request, tokenizer);
  const ReadChoice read = Feed(choice, "a.b.c.d");
  EXPECT_EQ(read.text, "a.b.c");
  EXPECT_EQ(choice.completion_tokens(), 6);
}

TEST(ChoiceTextTest, IgnoresWhatWasDrawnAfterTheEnd) {
  const ByteTokenizer tokenizer;
  GenerationRequest request = WithLogprobs();
  request.stop = {"."};
  ChoiceText choice(0, request, tokenizer);
  Feed(choice, "a.");
  EXPECT_TRUE(IsEmpty(choice.Add(Token('b', SequenceEnd::kLength))));
  EXPECT_EQ(choice.completion_tokens(), 2);
}

// Beside a model too simple to be wrong: the whole text, searched at once. Tokens of one to three
// letters, few letters, so that stop strings and near misses abound.
TEST(ChoiceTextTest, AgreesWithTheWholeTextOnRandomWalks) {
  std::vector<std::string> words;
  for (const char* a : {"a", "b"}) {
    for (const char* b : {"", "a", "b"}) {
      for (const char* c : {"", "a", "b"}) words.push_back(absl::StrCat(a, b, c));
    }
  }
  const ByteTokenizer tokenizer(words);
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    GenerationRequest request = WithLogprobs();
    const size_t num_stops = rng() % 3;
    for (size_t i = 0; i < num_stops; ++i) {
      std::string stop;
      for (size_t j = 0; j < 2 + rng() % 5; ++j) stop += "ab"[rng() % 2];
      request.stop.push_back(stop);
    }
    request.include_stop = rng() % 2 == 0;
    ChoiceText choice(0, request, tokenizer);

    std::string whole;
    std::vector<size_t> begins;
    std::map<int32_t, ReadChoice> read;
    const size_t length = 1 + rng() % 30;
    for (size_t i = 0; i < length && !choice.ended(); ++i) {
      const size_t word = rng() % words.size();
      begins.push_back(whole.size());
      whole += words[word];
      AddDelta(
          choice.Add(Token(ByteTokenizer::kFirstWord + static_cast<TokenId>(word),
                           i + 1 == length ? std::optional(SequenceEnd::kLength) : std::nullopt)),
          read);
    }
    size_t first_end = std::string::npos, cut = whole.size();
    for (const std::string& stop : request.stop) {
      const size_t at = whole.find(stop);
      if (at == std::string::npos) continue;
      // The match that is complete first wins; of those, the one that begins first.
      if (at + stop.size() < first_end ||
          (at + stop.size() == first_end && at < cut && !request.include_stop)) {
        first_end = at + stop.size();
        cut = request.include_stop ? first_end : at;
      }
    }
    EXPECT_EQ(read[0].text, whole.substr(0, cut));
    EXPECT_EQ(read[0].finish,
              first_end == std::string::npos ? FinishReason::kLength : FinishReason::kStop);
    size_t shown = 0;
    while (shown < begins.size() && begins[shown] < cut) ++shown;
    EXPECT_EQ(read[0].tokens.size(), shown);
    EXPECT_EQ(read[0].logprobs.size(), shown);
    EXPECT_EQ(choice.completion_tokens(), static_cast<int32_t>(begins.size()));
  }
}

}  // namespace
}  // namespace holdfast
