#include "kvstore/block_key.h"

#include <array>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Tokens = std::array<TokenId, kBlockTokens>;

Tokens Counting(TokenId from) {
  Tokens tokens;
  for (TokenId& token : tokens) token = from++;
  return tokens;
}

TEST(BlockKeyTest, TheScopeIsTheFirstIngredient) {
  const BlockKeyFunctions keys = Xxh3BlockKeys();
  ReuseScope one{}, other{};
  other[31] = 1;
  EXPECT_NE(keys.root(one), keys.root(other));
  EXPECT_NE(keys.next(keys.root(one), Counting(0)), keys.next(keys.root(other), Counting(0)));
}

TEST(BlockKeyTest, EveryTokenAndTheWholeChainCount) {
  const BlockKeyFunctions keys = Xxh3BlockKeys();
  const BlockKey root = keys.root({});
  const BlockKey first = keys.next(root, Counting(0));
  for (size_t i = 0; i < kBlockTokens; ++i) {
    Tokens changed = Counting(0);
    ++changed[i];
    EXPECT_NE(keys.next(root, changed), first) << "token " << i;
  }
  EXPECT_NE(keys.next(first, Counting(0)), first);
  EXPECT_NE(keys.next(keys.next(root, Counting(1)), Counting(0)), keys.next(first, Counting(0)));
}

// Keys will outlive a process on lower tiers: they may not change by accident.
TEST(BlockKeyTest, KeysStayTheSameFromBuildToBuild) {
  const BlockKeyFunctions keys = Xxh3BlockKeys();
  ReuseScope scope;
  for (size_t i = 0; i < scope.size(); ++i) scope[i] = static_cast<uint8_t>(i);
  const BlockKey root = keys.root(scope);
  const BlockKey key = keys.next(root, Counting(100));
  EXPECT_EQ(root, (BlockKey{.low = 0x457d9566b6fcd697, .high = 0x25e7c9b3424ceed2}));
  EXPECT_EQ(key, (BlockKey{.low = 0x4351fd4fc00fcf37, .high = 0x09dfd0b8775f5f67}));
}

}  // namespace
}  // namespace holdfast
