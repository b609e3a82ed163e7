#include "kvstore/eviction/order_duel.h"

#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kvstore/eviction/use_memory.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// Each use is of a chain of two blocks: a root that all share, and a block of its own.
class Duel {
 public:
  explicit Duel(int32_t capacity, EvictionOrder first = EvictionOrder::kRecency,
                double per_position = 0)
      : value_(capacity + 1, RecomputeCost{.token = 1, .per_position = per_position},
               absl::Minutes(30)),
        duel_(capacity + 1, first, absl::Minutes(30), value_) {}

  void Use(uint64_t content, double seconds, int32_t depth = 1) {
    for (const auto& [name, at] : {std::pair{kRoot, 0}, std::pair{content, depth}}) {
      value_.OnUsed(name, at, At(seconds));
      duel_.OnUsed(name, at, At(seconds));
    }
  }
  EvictionOrder order() const { return duel_.order(); }

 private:
  static constexpr uint64_t kRoot = uint64_t{1} << 60;
  BlockValue value_;
  OrderDuel duel_;
};

TEST(OrderDuelTest, WhereAllFitsTheFirstOrderStays) {
  for (EvictionOrder first : {EvictionOrder::kRecency, EvictionOrder::kValue}) {
    Duel duel(50, first);
    for (int i = 0; i < 5000; ++i) duel.Use(static_cast<uint64_t>(i % 50), i);
    EXPECT_EQ(duel.order(), first);
  }
}

TEST(OrderDuelTest, WhereNothingComesBackTheFirstOrderStays) {
  for (EvictionOrder first : {EvictionOrder::kRecency, EvictionOrder::kValue}) {
    Duel duel(50, first);
    for (int i = 0; i < 5000; ++i) duel.Use(static_cast<uint64_t>(i), i);
    EXPECT_EQ(duel.order(), first);
  }
}

TEST(OrderDuelTest, ARingLargerThanTheCacheIsKeptInPartByValueWhichIsFollowed) {
  Duel duel(50);
  for (int i = 0; i < 20000; ++i) duel.Use(static_cast<uint64_t>(i % 100), i * 0.1);
  EXPECT_EQ(duel.order(), EvictionOrder::kValue);
}

TEST(OrderDuelTest, AnOrderThatSavesMoreWorkAndFindsFewerBlocksIsNotFollowed) {
  // Half of the uses are of a few that are cheap, half of many that are dear: by value the dear
  // ones are kept, which come back less often.
  Duel duel(50, EvictionOrder::kValue, /*per_position=*/100);
  std::mt19937 rng(1);
  for (int i = 0; i < 20000; ++i) {
    if (rng() % 2 == 0) {
      duel.Use(rng() % 30, i * 0.1);
    } else {
      duel.Use(1000 + rng() % 300, i * 0.1, 3000);
    }
  }
  EXPECT_EQ(duel.order(), EvictionOrder::kRecency);
}

TEST(OrderDuelTest, ASingleChainThatIsFoundMoreIsLuckAndNotFollowed) {
  Duel duel(50, EvictionOrder::kRecency, /*per_position=*/1);
  // Of two that lie equally far back, value kept the dearer one; it is used again once.
  duel.Use(1, 0, 100);
  for (uint64_t i = 100; i < 160; ++i) duel.Use(i, static_cast<double>(i));
  duel.Use(1, 200, 100);
  for (uint64_t i = 200; i < 500; ++i) duel.Use(i, static_cast<double>(i));
  EXPECT_EQ(duel.order(), EvictionOrder::kRecency);
}

TEST(OrderDuelTest, TheSameHistoryFollowsTheSameOrders) {
  const auto walk = [] {
    std::mt19937 rng(5);
    Duel duel(40);
    std::vector<EvictionOrder> orders;
    for (int i = 0; i < 20000; ++i) {
      duel.Use(rng() % 4 == 0 ? rng() % 30 : 100 + rng() % 2000, i * 0.1);
      orders.push_back(duel.order());
    }
    return orders;
  };
  EXPECT_EQ(walk(), walk());
}

TEST(UseMemoryTest, RemembersTheUsesOfTheLastContentOfEachSlot) {
  UseMemory memory(1000);
  EXPECT_EQ(memory.Uses(7), 0);
  for (int i = 0; i < 3; ++i) memory.Count(7);
  EXPECT_EQ(memory.Uses(7), 3);
  for (int i = 0; i < 1000; ++i) memory.Count(7);
  EXPECT_EQ(memory.Uses(7), 255);
  EXPECT_EQ(memory.Uses(8), 0);
  for (uint64_t content = 100; content < 100100; ++content) memory.Count(content);
  EXPECT_EQ(memory.Uses(7), 0);  // its slot was needed
}

}  // namespace
}  // namespace holdfast
