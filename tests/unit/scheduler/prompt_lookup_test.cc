#include "scheduler/policy/prompt_lookup.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Tokens = std::vector<TokenId>;

// What it drafts after the last of `tokens`, told alone.
Tokens DraftsAfter(const Tokens& tokens, size_t count) {
  PromptLookup lookup;
  lookup.OnToken(tokens);
  if (!lookup.HasDrafts(tokens)) return {};
  Tokens drafts(count);
  lookup.Draft(tokens, drafts);
  return drafts;
}

TEST(PromptLookupTest, DraftsWhatFollowedTheLastThreeTokensBefore) {
  EXPECT_EQ(DraftsAfter({1, 2, 3, 4, 5, 6, 9, 1, 2, 3}, 3), (Tokens{4, 5, 6}));
}

TEST(PromptLookupTest, ThreeTokensGoBeforeALaterPair) {
  EXPECT_EQ(DraftsAfter({1, 2, 3, 4, 7, 2, 3, 8, 1, 2, 3}, 1), (Tokens{4}));
}

TEST(PromptLookupTest, ThePairThatCameLastIsTakenWhereNoThreeAreAlike) {
  EXPECT_EQ(DraftsAfter({5, 2, 3, 4, 7, 2, 3, 8, 1, 2, 3}, 2), (Tokens{8, 1}));
}

TEST(PromptLookupTest, TheLatestOfSeveralOccurrencesIsTaken) {
  EXPECT_EQ(DraftsAfter({1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3}, 1), (Tokens{5}));
}

TEST(PromptLookupTest, NothingIsDraftedWhereNoPairIsAlike) {
  EXPECT_TRUE(DraftsAfter({1, 2, 3, 4, 5, 3}, 1).empty());
  EXPECT_TRUE(DraftsAfter({7}, 1).empty());
  EXPECT_TRUE(DraftsAfter({7, 7, 7}, 1).empty());  // three say too little
}

TEST(PromptLookupTest, DraftsBeyondTheLastTokenGoRoundInTheSameCircle) {
  EXPECT_EQ(DraftsAfter({9, 1, 2, 1, 2, 1, 2}, 5), (Tokens{1, 2, 1, 2, 1}));
  EXPECT_EQ(DraftsAfter({5, 4, 4, 4, 4}, 3), (Tokens{4, 4, 4}));
}

TEST(PromptLookupTest, WhatIsFartherBackThanTheWindowIsNotFound) {
  Tokens tokens = {1, 2, 3, 4};
  for (TokenId filler = 100; filler < 100 + PromptLookup::kWindow; ++filler) {
    tokens.push_back(filler);
  }
  Tokens near = tokens;
  near.erase(near.begin() + 4, near.begin() + 20);
  for (Tokens* text : {&tokens, &near}) text->insert(text->end(), {1, 2, 3});
  EXPECT_TRUE(DraftsAfter(tokens, 1).empty());
  EXPECT_EQ(DraftsAfter(near, 1), (Tokens{4}));
}

TEST(PromptLookupTest, FindsWhatAPlainSearchFinds) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 rng(seed);
    Tokens tokens(4 + rng() % 80);
    const uint32_t kinds = 2 + rng() % 12;
    for (TokenId& token : tokens) token = static_cast<TokenId>(rng() % kinds);
    Tokens expected;
    for (size_t alike = 3; alike >= 2 && expected.empty(); --alike) {
      const Tokens last(tokens.end() - static_cast<ptrdiff_t>(alike), tokens.end());
      for (size_t at = tokens.size() - alike; at-- > 0 && expected.empty();) {
        // A pair at the very beginning is not looked at.
        if (at + alike < 3) continue;
        const auto begin = tokens.begin() + static_cast<ptrdiff_t>(at);
        if (std::equal(last.begin(), last.end(), begin)) expected = {tokens[at + alike]};
      }
    }
    ASSERT_EQ(DraftsAfter(tokens, 1), expected) << "seed " << seed;
  }
}

TEST(PromptLookupTest, ARunGoesOnAtItsSourceThoughALaterPlaceIsAlike) {
  PromptLookup lookup;
  Tokens tokens = {1, 2, 3, 4, 5, 8, 4, 5, 9, 1, 2, 3};
  lookup.OnToken(tokens);
  for (TokenId token : {4, 5}) {
    tokens.push_back(token);
    lookup.OnToken(tokens);
  }
  Tokens drafts(1);
  lookup.Draft(tokens, drafts);
  EXPECT_EQ(drafts, (Tokens{8}));  // and not 9, which followed 4, 5 last
}

TEST(PromptLookupTest, ChancesRiseWithRightGuessesAndFallWithWrongOnes) {
  PromptLookup lookup;
  Tokens tokens;
  for (int i = 0; i < 20; ++i) tokens.push_back(i);
  tokens.insert(tokens.end(), {0, 1, 2});
  lookup.OnToken(tokens);
  const double before = lookup.Chance(0);
  EXPECT_LT(before, lookup.Chance(20));  // a long run is a better one
  for (TokenId token = 3; token < 20; ++token) {
    tokens.push_back(token);
    lookup.OnToken(tokens);
  }
  EXPECT_GT(lookup.Chance(0), before);

  PromptLookup wrong;
  Tokens text = {1, 2, 3, 4};
  double last = 1;
  for (TokenId other = 100; other < 120; ++other) {
    text.insert(text.end(), {other, 1, 2, 3});
    wrong.OnToken(text);  // not told of each: it begins anew, and learns nothing
    const double chance = wrong.Chance(0);
    text.push_back(1000 + other);
    wrong.OnToken(text);
    if (other > 100) {
      EXPECT_LT(chance, last);
    }
    last = chance;
  }
  EXPECT_LT(last, 0.1);
}

TEST(PromptLookupTest, TokensThatItWasNotToldOfEndARun) {
  PromptLookup lookup;
  Tokens tokens = {1, 2, 3, 4, 5, 1, 2, 3};
  lookup.OnToken(tokens);
  ASSERT_TRUE(lookup.HasDrafts(tokens));
  tokens.insert(tokens.end(), {4, 77});
  EXPECT_FALSE(lookup.HasDrafts(tokens));
  lookup.OnToken(tokens);
  EXPECT_FALSE(lookup.HasDrafts(tokens));
}

}  // namespace
}  // namespace holdfast
