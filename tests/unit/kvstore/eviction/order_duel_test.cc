#include "kvstore/eviction/order_duel.h"

#include <random>

#include "gtest/gtest.h"
#include "kvstore/eviction/use_memory.h"

namespace holdfast {
namespace {

TEST(OrderDuelTest, WhatIsComputedAgainBeforeTheSparedOneIsReusedSpeaksForTheOtherOrder) {
  OrderDuel duel(EvictionOrder::kValue, 8);
  duel.OnEvicted(1, 2);
  EXPECT_EQ(duel.order(), EvictionOrder::kValue);
  duel.OnComputed(1);
  EXPECT_EQ(duel.order(), EvictionOrder::kRecency);
}

TEST(OrderDuelTest, WhatWasSparedAndReusedSpeaksForTheOrderForEachBlockThatWentInstead) {
  OrderDuel duel(EvictionOrder::kValue, 8);
  for (uint64_t evicted = 10; evicted < 15; ++evicted) duel.OnEvicted(evicted, 2);
  duel.OnReused(2);  // five won
  for (uint64_t evicted = 20; evicted < 24; ++evicted) duel.OnEvicted(evicted, 3);
  for (uint64_t evicted = 20; evicted < 24; ++evicted) duel.OnComputed(evicted);  // four lost
  EXPECT_EQ(duel.order(), EvictionOrder::kValue);
}

TEST(OrderDuelTest, ABetOfWhichTheSparedOneLeftUnusedIsVoid) {
  OrderDuel duel(EvictionOrder::kValue, 8);
  duel.OnEvicted(1, 2);
  duel.OnForgotten(2);
  duel.OnComputed(1);
  duel.OnEvicted(3, 4);
  duel.OnEvicted(4, 4);
  duel.OnComputed(3);
  EXPECT_EQ(duel.order(), EvictionOrder::kValue);
}

TEST(OrderDuelTest, ChangesSidesAsOftenAsTheOtherIsClearlyAhead) {
  OrderDuel duel(EvictionOrder::kRecency, 100);
  uint64_t next = 1;
  const auto lose = [&] {
    duel.OnEvicted(next, next + 1);
    duel.OnComputed(next);
    next += 2;
  };
  for (int changes = 0; changes < 4; ++changes) {
    const EvictionOrder before = duel.order();
    int bets = 0;
    while (duel.order() == before && bets < 1000) lose(), ++bets;
    EXPECT_NE(duel.order(), before);
  }
}

TEST(OrderDuelTest, KeepsABoundedNumberOfBetsOnRandomWalks) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    OrderDuel duel(EvictionOrder::kRecency, 50);
    for (int step = 0; step < 5000; ++step) {
      const uint64_t content = rng() % 300;
      switch (rng() % 4) {
        case 0:
          duel.OnComputed(content);
          break;
        case 1:
          duel.OnReused(content);
          break;
        case 2:
          duel.OnForgotten(content);
          break;
        default:
          duel.OnEvicted(content, rng() % 300);
      }
      ASSERT_LE(duel.num_bets(), 50u);
    }
  }
}

TEST(UseMemoryTest, RemembersTheUsesOfTheLastContentOfEachSlot) {
  UseMemory memory(1000);
  EXPECT_EQ(memory.Uses(7), 0);
  memory.Remember(7, 3);
  EXPECT_EQ(memory.Uses(7), 3);
  memory.Remember(7, 1000);
  EXPECT_EQ(memory.Uses(7), 255);
  EXPECT_EQ(memory.Uses(8), 0);
  for (uint64_t content = 100; content < 100100; ++content) memory.Remember(content, 1);
  EXPECT_EQ(memory.Uses(7), 0);  // its slot was needed
}

}  // namespace
}  // namespace holdfast
