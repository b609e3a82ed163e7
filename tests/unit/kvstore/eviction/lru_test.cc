#include "kvstore/eviction/lru.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

TEST(LruEvictionTest, OfTwoUsedLastAtTheSameTimeTheOneAddedEarlierGoesFirst) {
  LruEviction lru(4);
  EXPECT_EQ(lru.Worst(At(1)), std::nullopt);
  lru.Add({.place = 2, .last_used = At(1)}, At(1));
  lru.Add({.place = 0, .last_used = At(1)}, At(1));
  EXPECT_EQ(lru.Worst(At(1))->place, 2);
}

TEST(LruEvictionDeathTest, ABlockIsInTheListOnceOrNotAtAll) {
  LruEviction lru(2);
  EXPECT_DEATH(lru.Remove(0, EvictionLeave::kEvicted, At(0)), "CHECK failed");
  lru.Add({.place = 0}, At(0));
  EXPECT_DEATH(lru.Add({.place = 0}, At(0)), "CHECK failed");
  EXPECT_DEATH(lru.Add({.place = 2}, At(0)), "CHECK failed");
}

TEST(LruEvictionTest, AParentThatComesLateStandsWhereItsLastUsePutsIt) {
  LruEviction lru(4);
  lru.Add({.place = 0, .depth = 3, .last_used = At(1)}, At(1));
  lru.Add({.place = 1, .depth = 3, .last_used = At(2)}, At(2));
  ASSERT_EQ(lru.Worst(At(9))->place, 0);
  lru.Remove(0, EvictionLeave::kEvicted, At(9));
  lru.Add({.place = 2, .depth = 2, .last_used = At(1)}, At(9));  // the parent of what left
  EXPECT_EQ(lru.Worst(At(9))->place, 2);
}

TEST(LruEvictionTest, OfTwoUsedLastAtTheSameTimeTheDeeperGoesFirst) {
  LruEviction lru(4);
  lru.Add({.place = 0, .depth = 1, .last_used = At(1)}, At(1));
  lru.Add({.place = 1, .depth = 5, .last_used = At(1)}, At(1));
  EXPECT_EQ(lru.Worst(At(2))->place, 1);
}

TEST(LruEvictionTest, CandidatesOfSeveralInstancesCompareByLastUse) {
  LruEviction one(2), other(2);
  one.Add({.place = 0, .last_used = At(10.5)}, At(11));
  other.Add({.place = 0, .last_used = At(10.25)}, At(11));
  EXPECT_EQ(one.Worst(At(12))->keep_value, 10.5);
  EXPECT_GT(one.Worst(At(12))->keep_value, other.Worst(At(12))->keep_value);
}

TEST(LruEvictionTest, VictimsAgreeWithASortedListOnRandomWalks) {
  constexpr int32_t kCapacity = 12;
  struct Row {
    EvictableBlock block;
    int order;
  };
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    LruEviction lru(kCapacity);
    std::vector<Row> model;
    for (int step = 0; step < 500; ++step) {
      const auto place = static_cast<int32_t>(rng() % kCapacity);
      const auto at = std::find_if(model.begin(), model.end(),
                                   [&](const Row& row) { return row.block.place == place; });
      if (at == model.end()) {
        const EvictableBlock block = {.place = place,
                                      .depth = static_cast<int32_t>(rng() % 3),
                                      .content = rng(),
                                      .last_used = At(static_cast<double>(rng() % 8))};
        lru.Add(block, At(step));
        model.push_back({block, step});
      } else {
        lru.Remove(place, static_cast<EvictionLeave>(rng() % 3), At(step));
        model.erase(at);
      }
      ASSERT_EQ(lru.size(), static_cast<int32_t>(model.size()));
      const std::optional<Victim> worst = lru.Worst(At(step));
      ASSERT_EQ(worst.has_value(), !model.empty());
      if (model.empty()) continue;
      const Row least =
          *std::min_element(model.begin(), model.end(), [](const Row& a, const Row& b) {
            if (a.block.last_used != b.block.last_used)
              return a.block.last_used < b.block.last_used;
            if (a.block.depth != b.block.depth) return a.block.depth > b.block.depth;
            return a.order < b.order;
          });
      ASSERT_EQ(worst->place, least.block.place);
    }
  }
}

}  // namespace
}  // namespace holdfast
