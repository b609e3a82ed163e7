#include "kvstore/eviction/lru.h"

#include <algorithm>
#include <deque>
#include <random>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(LruEvictionTest, TheLeastRecentlyAddedGoesFirst) {
  LruEviction lru(4);
  EXPECT_EQ(lru.Oldest(), std::nullopt);
  lru.Add(BlockId{2});
  lru.Add(BlockId{0});
  lru.Add(BlockId{3});
  EXPECT_EQ(lru.Oldest(), BlockId{2});
  lru.Remove(BlockId{2});
  EXPECT_EQ(lru.Oldest(), BlockId{0});
  lru.Add(BlockId{2});
  EXPECT_EQ(lru.Oldest(), BlockId{0});
}

TEST(LruEvictionDeathTest, ABlockIsInTheListOnceOrNotAtAll) {
  LruEviction lru(2);
  EXPECT_DEATH(lru.Remove(BlockId{0}), "CHECK failed");
  lru.Add(BlockId{0});
  EXPECT_DEATH(lru.Add(BlockId{0}), "CHECK failed");
  EXPECT_DEATH(lru.Add(BlockId{2}), "CHECK failed");
}

TEST(LruEvictionTest, AgreesWithAPlainQueueOnRandomWalks) {
  constexpr int32_t kCapacity = 10;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    LruEviction lru(kCapacity);
    std::deque<BlockId> model;
    for (int step = 0; step < 500; ++step) {
      const BlockId block{static_cast<int32_t>(rng() % kCapacity)};
      const auto at = std::find(model.begin(), model.end(), block);
      if (at == model.end()) {
        lru.Add(block);
        model.push_back(block);
      } else {
        lru.Remove(block);
        model.erase(at);
      }
      ASSERT_EQ(lru.size(), static_cast<int32_t>(model.size()));
      ASSERT_EQ(lru.Oldest(), model.empty() ? std::nullopt : std::optional(model.front()));
    }
  }
}

}  // namespace
}  // namespace holdfast
