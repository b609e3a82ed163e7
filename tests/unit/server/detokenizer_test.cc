#include "server/detokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/server/listed_tokens.h"

namespace holdfast {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// The text of one token after the other, each of one piece of `pieces`.
std::string Detokenize(const std::vector<std::string>& pieces) {
  const ListedTokens tokenizer(pieces);
  Detokenizer detokenizer(tokenizer, SpecialText::kShow);
  std::string text;
  for (size_t i = 0; i < pieces.size(); ++i) {
    detokenizer.Append(static_cast<TokenId>(i), text);
  }
  detokenizer.Finish(text);
  return text;
}

// UTF-8 decoded by its definition: the value of the bytes, then the rules on values. What begins no
// character is replaced up to where it stopped being the beginning of one.
std::string ReplaceInvalid(const std::string& bytes) {
  const auto at = [&](size_t i) -> int {
    return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : -1;
  };
  const auto continues = [&](size_t i) { return (at(i) & 0xC0) == 0x80 && at(i) >= 0; };
  std::string text;
  for (size_t i = 0; i < bytes.size();) {
    const int lead = at(i);
    const int length = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    size_t valid = lead < 0x80 || (lead >= 0xC2 && lead <= 0xF4) ? 1 : 0;
    while (valid > 0 && valid < static_cast<size_t>(length) && continues(i + valid)) {
      // With two bytes the range of values that the whole can take is known.
      if (valid == 1 && length >= 3) {
        const int bits = (length - 2) * 6;
        const int low = ((lead & (length == 3 ? 0x0F : 0x07)) << 6 | (at(i + 1) & 0x3F)) << bits;
        const int high = low + (1 << bits) - 1;
        const bool overlong = high < (length == 3 ? 0x800 : 0x10000);
        const bool surrogate = low >= 0xD800 && high <= 0xDFFF;
        if (overlong || surrogate || low > 0x10FFFF) break;
      }
      ++valid;
    }
    if (valid > 0 && valid == static_cast<size_t>(length)) {
      text += bytes.substr(i, valid);
    } else {
      text += kReplacement;
    }
    i += std::max<size_t>(valid, 1);
  }
  return text;
}

TEST(DetokenizerTest, HalfACharacterWaitsForTheOther) {
  const ListedTokens tokenizer({"a\xF0\x9F", "\x98", "\x80z"});
  Detokenizer detokenizer(tokenizer, SpecialText::kShow);
  std::string text;
  detokenizer.Append(0, text);
  EXPECT_EQ(text, "a");
  detokenizer.Append(1, text);
  EXPECT_EQ(text, "a");
  detokenizer.Append(2, text);
  EXPECT_EQ(text, "a\xF0\x9F\x98\x80z");
  detokenizer.Finish(text);
  EXPECT_EQ(text, "a\xF0\x9F\x98\x80z");
}

TEST(DetokenizerTest, HalfACharacterAtTheEndIsReplacedOnce) {
  EXPECT_EQ(Detokenize({"a\xF0\x9F\x98"}), std::string("a") + kReplacement);
}

// Pairs from Python 3.11: bytes.decode("utf-8", errors="replace").
TEST(DetokenizerTest, InvalidBytesAreReplacedAsPythonDoes) {
  const std::string r = kReplacement;
  const std::pair<std::string, std::string> cases[] = {
      {"\xFF", r},
      {"\xC3", r},
      {"\xC3(", r + "("},
      {"\xE2\x82", r},
      {"\xE2\x82z", r + "z"},
      {"\xE2\x28\xA1", r + "(" + r},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", r + "\xF0\x9F\x98\x80"},
      {"\xED\xA0\x80", r + r + r},
      {"\xED\x9F\xBF", "\xED\x9F\xBF"},
      {"\xC0\xAF", r + r},
      {"\xC1\xBF", r + r},
      {"\xE0\x80\x80", r + r + r},
      {"\xE0\xA0", r},
      {"\xF0\x80\x80\x80", r + r + r + r},
      {"\xF4\x90\x80\x80", r + r + r + r},
      {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
      {"\xF5\x80\x80\x80", r + r + r + r},
      {"\xF8\x88\x80\x80\x80", r + r + r + r + r},
      {"\x80\x80", r + r},
      {"\xE2\x82\xE2\x82\xAC", r + "\xE2\x82\xAC"},
      {"\xF0\xC3\xA9", r + "\xC3\xA9"},
  };
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(Detokenize({bytes}), text);
    EXPECT_EQ(ReplaceInvalid(bytes), text);
  }
}

TEST(DetokenizerTest, ControlTokensAreHiddenOrShown) {
  const ListedTokens tokenizer({"a", "\xC3", "\xA9", "<|im_end|>"}, 1);
  std::string hidden, shown;
  Detokenizer hide(tokenizer, SpecialText::kHide), show(tokenizer, SpecialText::kShow);
  for (const TokenId token : {0, 3, 1, 3, 2}) {
    hide.Append(token, hidden);
    show.Append(token, shown);
  }
  EXPECT_EQ(hidden, "a\xC3\xA9");
  EXPECT_EQ(shown, std::string("a<|im_end|>") + kReplacement + "<|im_end|>" + kReplacement);
}

TEST(DetokenizerTest, UnknownIdsStandForNothing) {
  const ListedTokens tokenizer({"a"});
  Detokenizer detokenizer(tokenizer, SpecialText::kShow);
  std::string text;
  for (const TokenId token : {-1, 0, 1, 1 << 30}) detokenizer.Append(token, text);
  EXPECT_EQ(text, "a");
}

TEST(DetokenizerTest, TheSpaceThatEncodingAddedIsDroppedFromAWholeText) {
  const ListedTokens adding({" a", " b", "<s>"}, 1, /*adds_space_prefix=*/true);
  const ListedTokens plain({" a", " b"});
  const auto text = [](const Tokenizer& tokenizer, FirstSpace first) {
    Detokenizer detokenizer(tokenizer, SpecialText::kHide, first);
    std::string out;
    for (const TokenId token : {2, 0, 1}) detokenizer.Append(token, out);
    return out;
  };
  EXPECT_EQ(text(adding, FirstSpace::kDrop), "a b");
  EXPECT_EQ(text(adding, FirstSpace::kKeep), " a b");
  EXPECT_EQ(text(plain, FirstSpace::kDrop), " a b");
}

// Random bytes, many of them nearly UTF-8, cut at random, beside a decoder of the whole.
TEST(DetokenizerTest, TextDoesNotDependOnWhereTokensEnd) {
  const std::vector<std::string> likely = {"\xF0\x9F\x98\x80", "\xE2\x82\xAC", "\xC3\xA9", "a",
                                           "\xED\xA0\x80",     "\xF4\x90",     "\xE0\x80", " "};
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::string bytes;
    for (uint32_t n = rng() % 12; n > 0; --n) {
      std::string piece = likely[rng() % likely.size()];
      if (rng() % 3 == 0) piece.resize(rng() % (piece.size() + 1));
      if (rng() % 8 == 0) piece += static_cast<char>(rng() % 256);
      bytes += piece;
    }
    std::vector<std::string> tokens;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = 1 + rng() % 4;
      tokens.push_back(bytes.substr(at, size));
      at += size;
    }
    ASSERT_EQ(Detokenize(tokens), ReplaceInvalid(bytes));
  }
}

}  // namespace
}  // namespace holdfast
