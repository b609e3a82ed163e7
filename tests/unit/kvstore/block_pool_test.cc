#include "kvstore/block_pool.h"

#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(BlockPoolTest, AGrantIsWholeOrNothing) {
  BlockPool pool(4);
  std::vector<BlockId> table;
  ASSERT_TRUE(pool.TryAcquire(3, table));
  EXPECT_FALSE(pool.TryAcquire(2, table));
  EXPECT_EQ(table.size(), 3u);
  EXPECT_EQ(pool.counts(), (BlockCounts{.free = 1, .held = 3}));
  EXPECT_TRUE(pool.TryAcquire(0, table));
}

TEST(BlockPoolTest, APublishedBlockIsEvictableAfterItsLastReferenceAndAnUnpublishedOneFree) {
  BlockPool pool(2);
  std::vector<BlockId> table;
  ASSERT_TRUE(pool.TryAcquire(2, table));
  pool.Publish(table[0]);
  pool.Share(table[0]);
  EXPECT_EQ(pool.Release(table[0]), BlockState::kHeld);
  EXPECT_EQ(pool.Release(table[0]), BlockState::kEvictable);
  EXPECT_EQ(pool.Release(table[1]), BlockState::kFree);
  EXPECT_EQ(pool.counts(), (BlockCounts{.free = 1, .evictable = 1}));
  pool.Share(table[0]);
  EXPECT_EQ(pool.state(table[0]), BlockState::kHeld);
  EXPECT_EQ(pool.Release(table[0]), BlockState::kEvictable);
  pool.Evict(table[0]);
  EXPECT_EQ(pool.counts(), (BlockCounts{.free = 2}));
}

TEST(BlockPoolTest, AMovingBlockIsNeitherLentNorFreedBeforeItsMoveEnds) {
  BlockPool pool(1);
  std::vector<BlockId> table;
  ASSERT_TRUE(pool.TryAcquire(1, table));
  pool.Publish(table[0]);
  pool.Release(table[0]);
  EXPECT_EQ(pool.BeginMove(table[0]), BlockState::kMoving);
  EXPECT_EQ(pool.counts(), (BlockCounts{.moving = 1}));
  EXPECT_EQ(pool.Share(table[0]), BlockState::kHeld);
  EXPECT_EQ(pool.Release(table[0]), BlockState::kMoving);
  EXPECT_EQ(pool.Evict(table[0]), BlockState::kMoving);
  EXPECT_FALSE(pool.TryAcquire(1, table));
  EXPECT_EQ(pool.EndMove(table[0]), BlockState::kFree);
  EXPECT_TRUE(pool.TryAcquire(1, table));
  pool.CheckInvariants();
}

TEST(BlockPoolDeathTest, WhatWasNeverLentCannotBeGivenBack) {
  BlockPool pool(2);
  EXPECT_DEATH(pool.Release(BlockId{0}), "CHECK failed");
  EXPECT_DEATH(pool.Release(BlockId{2}), "CHECK failed");
  EXPECT_DEATH(pool.Share(BlockId{0}), "CHECK failed");
  EXPECT_DEATH(pool.Publish(BlockId{0}), "CHECK failed");
}

TEST(BlockPoolDeathTest, AHeldBlockIsNeverEvicted) {
  BlockPool pool(1);
  std::vector<BlockId> table;
  ASSERT_TRUE(pool.TryAcquire(1, table));
  EXPECT_DEATH(pool.Evict(table[0]), "CHECK failed");
  pool.Publish(table[0]);
  EXPECT_DEATH(pool.Evict(table[0]), "CHECK failed");
}

// Walks at random beside a model too simple to be wrong: the references alive and the names of what
// is published. The seed replays a failure.
TEST(BlockPoolTest, CountsAgreeWithModelOnRandomWalks) {
  constexpr int32_t kCapacity = 8;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    BlockPool pool(kCapacity);
    std::vector<BlockId> alive;
    std::set<BlockId> published;
    const auto held = [&] { return std::set<BlockId>(alive.begin(), alive.end()); };
    for (int step = 0; step < 500; ++step) {
      switch (rng() % 5) {
        case 0: {
          const auto count = static_cast<int32_t>(rng() % 3);
          const bool fits = count <= pool.counts().free;
          const std::set<BlockId> before = held();
          const size_t size = alive.size();
          ASSERT_EQ(pool.TryAcquire(count, alive), fits);
          for (size_t i = size; i < alive.size(); ++i) {
            ASSERT_FALSE(before.contains(alive[i]));
            ASSERT_FALSE(published.contains(alive[i]));
          }
          break;
        }
        case 1:
        case 2:
          if (!alive.empty()) {
            std::swap(alive[rng() % alive.size()], alive.back());
            pool.Release(alive.back());
            alive.pop_back();
          }
          break;
        case 3:
          if (!alive.empty()) {
            const BlockId block = alive[rng() % alive.size()];
            if (published.insert(block).second) pool.Publish(block);
          }
          break;
        case 4:
          if (!published.empty()) {
            const BlockId block = *std::next(published.begin(), rng() % published.size());
            if (!held().contains(block) && rng() % 2 == 0) {
              pool.Evict(block);
              published.erase(block);
            } else {
              pool.Share(block);
              alive.push_back(block);
            }
          }
          break;
      }
      const std::set<BlockId> held_now = held();
      int32_t evictable = 0;
      for (BlockId block : published) evictable += held_now.contains(block) ? 0 : 1;
      const auto num_held = static_cast<int32_t>(held_now.size());
      ASSERT_EQ(pool.counts(), (BlockCounts{.free = kCapacity - num_held - evictable,
                                            .held = num_held,
                                            .evictable = evictable}));
      pool.CheckInvariants();
    }
  }
}

}  // namespace
}  // namespace holdfast
