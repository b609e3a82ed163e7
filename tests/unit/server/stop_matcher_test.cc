#include "server/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace holdfast {
namespace {

struct Result {
  std::string text;
  std::optional<std::string> stop;
  bool operator==(const Result&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Result& result) {
  return out << '"' << result.text << "\" stop " << result.stop.value_or("(none)");
}

Result Match(const std::vector<std::string>& stops, const std::vector<std::string>& pieces,
             bool include_stop = false) {
  StopMatcher matcher(stops, include_stop);
  Result result;
  for (const std::string& piece : pieces) {
    if (const auto match = matcher.Append(piece, result.text)) {
      EXPECT_FALSE(result.stop.has_value());
      result.stop = match->stop;
    }
  }
  matcher.Finish(result.text);
  return result;
}

// The definition, on the whole text: the first place where some stop string ends, and the longest
// that ends there.
Result MatchWhole(const std::vector<std::string>& stops, const std::string& text,
                  bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string* found = nullptr;
    for (const std::string& stop : stops) {
      const bool here = !stop.empty() && stop.size() <= end &&
                        text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (here && (found == nullptr || stop.size() > found->size())) found = &stop;
    }
    if (found != nullptr) {
      return {text.substr(0, end - (include_stop ? 0 : found->size())), *found};
    }
  }
  return {text, std::nullopt};
}

TEST(StopMatcherTest, StopStringsAreFoundAcrossPieces) {
  EXPECT_EQ(Match({"END"}, {"abE", "N", "Dxyz"}), (Result{"ab", "END"}));
  EXPECT_EQ(Match({"END"}, {"abE", "N", "Dxyz"}, true), (Result{"abEND", "END"}));
}

TEST(StopMatcherTest, OnlyWhatMayStillBecomeAStopIsHeld) {
  StopMatcher matcher({"\n\nUser:"}, false);
  std::string out;
  EXPECT_FALSE(matcher.Append("hello\n", out));
  EXPECT_EQ(out, "hello");
  EXPECT_FALSE(matcher.Append("\n", out));
  EXPECT_EQ(out, "hello");
  EXPECT_FALSE(matcher.Append("\n", out));
  EXPECT_EQ(out, "hello\n");
  EXPECT_FALSE(matcher.Append("Use", out));
  EXPECT_EQ(out, "hello\n");
  EXPECT_FALSE(matcher.Append("d", out));
  EXPECT_EQ(out, "hello\n\n\nUsed");
}

TEST(StopMatcherTest, HeldTextIsShownWhenTheTextEnds) {
  EXPECT_EQ(Match({"END"}, {"abEN"}), (Result{"abEN", std::nullopt}));
}

TEST(StopMatcherTest, TheFirstToBeCompleteWins) {
  EXPECT_EQ(Match({"abcdef", "cd"}, {"xabcdef"}), (Result{"xab", "cd"}));
  EXPECT_EQ(Match({"b", "ab"}, {"xab"}), (Result{"x", "ab"}));
  EXPECT_EQ(Match({"ab", "b"}, {"xab"}), (Result{"x", "ab"}));
}

TEST(StopMatcherTest, NothingComesOutAfterAMatch) {
  StopMatcher matcher({"."}, false);
  std::string out;
  EXPECT_TRUE(matcher.Append("a.b", out).has_value());
  EXPECT_FALSE(matcher.Append("c.d", out).has_value());
  matcher.Finish(out);
  EXPECT_EQ(out, "a");
}

TEST(StopMatcherTest, EmptyStopStringsNeverMatch) {
  EXPECT_EQ(Match({}, {"a", "b"}), (Result{"ab", std::nullopt}));
  EXPECT_EQ(Match({""}, {"a", "b"}), (Result{"ab", std::nullopt}));
  EXPECT_EQ(Match({"", "b"}, {"a", "b"}), (Result{"a", "b"}));
}

TEST(StopMatcherTest, CharactersAreNeverShownInPart) {
  StopMatcher matcher({"\xF0\x9F\x98\x80\xF0\x9F\x98\x80"}, false);
  std::string out;
  EXPECT_FALSE(matcher.Append("a\xF0\x9F\x98\x80", out));
  EXPECT_EQ(out, "a");
  EXPECT_FALSE(matcher.Append("\xF0\x9F\x98\x81", out));
  EXPECT_EQ(out, "a\xF0\x9F\x98\x80\xF0\x9F\x98\x81");
}

// Few letters, so that stop strings overlap themselves and one another; cut at random.
TEST(StopMatcherTest, ResultIsThatOfTheWholeTextHoweverItIsCut) {
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const auto word = [&](size_t longest) {
      std::string text;
      for (size_t n = rng() % (longest + 1); n > 0; --n) text += static_cast<char>('a' + rng() % 2);
      return text;
    };
    std::vector<std::string> stops;
    for (uint32_t n = rng() % 4; n > 0; --n) stops.push_back(word(9));
    const std::string text = word(40);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t size = rng() % 6;
      pieces.push_back(text.substr(at, size));
      at += size;
    }
    const bool include_stop = rng() % 2 == 0;
    ASSERT_EQ(Match(stops, pieces, include_stop), MatchWhole(stops, text, include_stop));
  }
}

}  // namespace
}  // namespace holdfast
