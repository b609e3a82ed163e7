#include "kvstore/prefix_index.h"

#include <array>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Tokens = std::array<TokenId, kBlockTokens>;

Tokens Filled(TokenId token) {
  Tokens tokens;
  tokens.fill(token);
  return tokens;
}

constexpr BlockKey kKey{.low = 1, .high = 2};
constexpr ReuseScope kScope{7};

TEST(PrefixIndexTest, FindsWhatWasInsertedUntilItIsRemoved) {
  PrefixIndex index(4);
  EXPECT_EQ(index.Find(kKey, kScope, std::nullopt, Filled(1)), std::nullopt);
  EXPECT_EQ(index.Insert(BlockId{3}, kKey, kScope, std::nullopt, Filled(1)), BlockId{3});
  EXPECT_EQ(index.Find(kKey, kScope, std::nullopt, Filled(1)), BlockId{3});
  EXPECT_EQ(index.size(), 1);
  index.Remove(BlockId{3});
  EXPECT_EQ(index.Find(kKey, kScope, std::nullopt, Filled(1)), std::nullopt);
  EXPECT_EQ(index.size(), 0);
}

// The key alone proves nothing: each ingredient is compared.
TEST(PrefixIndexTest, TheSameKeyWithOtherContentIsNoHit) {
  PrefixIndex index(4);
  const BlockKey other_key{.low = 9};
  ASSERT_EQ(index.Insert(BlockId{0}, other_key, kScope, std::nullopt, Filled(0)), BlockId{0});
  ASSERT_EQ(index.Insert(BlockId{1}, kKey, kScope, BlockId{0}, Filled(1)), BlockId{1});
  EXPECT_EQ(index.Find(kKey, kScope, BlockId{0}, Filled(1)), BlockId{1});
  Tokens last_differs = Filled(1);
  last_differs.back() = 2;
  EXPECT_EQ(index.Find(kKey, kScope, BlockId{0}, last_differs), std::nullopt);
  EXPECT_EQ(index.Find(kKey, kScope, std::nullopt, Filled(1)), std::nullopt);
  EXPECT_EQ(index.Find(kKey, kScope, BlockId{2}, Filled(1)), std::nullopt);
  EXPECT_EQ(index.Find(kKey, ReuseScope{8}, BlockId{0}, Filled(1)), std::nullopt);
}

TEST(PrefixIndexTest, ADuplicateIsAnsweredByTheEarlierAndACollisionByNone) {
  PrefixIndex index(4);
  ASSERT_EQ(index.Insert(BlockId{0}, kKey, kScope, std::nullopt, Filled(1)), BlockId{0});
  EXPECT_EQ(index.Insert(BlockId{1}, kKey, kScope, std::nullopt, Filled(1)), BlockId{0});
  EXPECT_EQ(index.Insert(BlockId{2}, kKey, kScope, std::nullopt, Filled(2)), std::nullopt);
  EXPECT_FALSE(index.Contains(BlockId{1}));
  EXPECT_FALSE(index.Contains(BlockId{2}));
  EXPECT_EQ(index.size(), 1);
}

TEST(PrefixIndexDeathTest, AParentStaysAsLongAsItsChildren) {
  PrefixIndex index(4);
  ASSERT_EQ(index.Insert(BlockId{0}, kKey, kScope, std::nullopt, Filled(1)), BlockId{0});
  ASSERT_EQ(index.Insert(BlockId{1}, BlockKey{.low = 5}, kScope, BlockId{0}, Filled(2)),
            BlockId{1});
  EXPECT_EQ(index.num_children(BlockId{0}), 1);
  EXPECT_DEATH(index.Remove(BlockId{0}), "CHECK failed");
  index.Remove(BlockId{1});
  index.Remove(BlockId{0});
  EXPECT_DEATH(index.Remove(BlockId{0}), "CHECK failed");
}

TEST(PrefixIndexDeathTest, AParentMustBeInTheIndex) {
  PrefixIndex index(4);
  EXPECT_DEATH((void)index.Insert(BlockId{0}, kKey, kScope, BlockId{1}, Filled(1)), "CHECK failed");
}

}  // namespace
}  // namespace holdfast
