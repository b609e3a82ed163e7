#include "kvstore/eviction/cost_aware.h"

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "config/limits.h"
#include "gtest/gtest.h"
#include "kvstore/eviction/lru.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

constexpr CostAwareOptions kOptions;
constexpr CostAwareOptions kByValue = {.first = EvictionOrder::kValue};

// Evicts the worst of a cache of `capacity` contents whenever there is no room; all contents have
// the same depth, no parents.
class SmallCache {
 public:
  SmallCache(EvictionPolicy& policy, int32_t capacity) : policy_(policy), capacity_(capacity) {}

  bool Use(uint64_t content, absl::Time now, int32_t depth = 0) {
    const auto at = std::find_if(blocks_.begin(), blocks_.end(), [&](const EvictableBlock& block) {
      return block.content == content;
    });
    const bool hit = at != blocks_.end();
    EvictableBlock block = {.depth = depth, .content = content};
    if (hit) {
      block = *at;
      policy_.Remove(at->place, EvictionLeave::kReused, now);
      blocks_.erase(at);
    } else {
      block.place = static_cast<int32_t>(blocks_.size());
      if (block.place == capacity_) {
        const int32_t place = policy_.Worst(now)->place;
        policy_.Remove(place, EvictionLeave::kEvicted, now);
        std::erase_if(blocks_, [&](const EvictableBlock& other) { return other.place == place; });
        block.place = place;
      }
    }
    block.last_used = now;
    policy_.OnUsed(content, depth, now);
    policy_.Add(block, now);
    blocks_.push_back(block);
    return hit;
  }
  bool Contains(uint64_t content) const {
    return std::any_of(blocks_.begin(), blocks_.end(),
                       [&](const EvictableBlock& block) { return block.content == content; });
  }

 private:
  EvictionPolicy& policy_;
  const int32_t capacity_;
  std::vector<EvictableBlock> blocks_;
};

TEST(CostAwareEvictionTest, OfTwoEquallyOldTheOneThatIsCheaperToComputeGoesFirst) {
  CostAwareEviction policy(8, kByValue);
  EXPECT_EQ(policy.Worst(At(0)), std::nullopt);
  policy.Add({.place = 1, .depth = 500, .content = 1, .last_used = At(0)}, At(0));
  policy.Add({.place = 2, .depth = 3, .content = 2, .last_used = At(0)}, At(0));
  EXPECT_EQ(policy.Worst(At(5))->place, 2);
}

TEST(CostAwareEvictionTest, OfTwoEquallyDearTheOlderGoesFirst) {
  CostAwareEviction policy(8, kByValue);
  policy.Add({.place = 1, .depth = 3, .content = 1, .last_used = At(10)}, At(10));
  policy.Add({.place = 2, .depth = 3, .content = 2, .last_used = At(0)}, At(10));
  EXPECT_EQ(policy.Worst(At(11))->place, 2);
}

TEST(CostAwareEvictionTest, TheCostOfABlockIsItsWeightsAndItsAttention) {
  constexpr CostAwareOptions options = {.cost = RecomputeCost::OfDecoder(1000, 2, 3, 4)};
  CostAwareEviction policy(8, options);
  // 2 x 1000 FLOP a token; 4 x 2 x 3 x 4 = 96 for each token before it.
  policy.Add({.place = 0, .depth = 0, .content = 1, .last_used = At(0)}, At(0));
  policy.Add({.place = 1, .depth = 10, .content = 2, .last_used = At(0)}, At(0));
  const double first = policy.KeepValue(0, At(1));
  const double later = policy.KeepValue(1, At(1));
  EXPECT_NEAR(later / first, (2000 + 96 * 10.5 * kBlockTokens) / (2000 + 96 * 0.5 * kBlockTokens),
              1e-9);
}

TEST(CostAwareEvictionTest, VictimsAreTheLeastOfTheOrderFollowedOnRandomWalks) {
  constexpr int32_t kCapacity = ValueOrder::kLookedAt;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    CostAwareEviction policy(kCapacity, kByValue);
    std::vector<EvictableBlock> model;
    std::array<int, kCapacity> added{};
    double now = 0;
    for (int step = 0; step < 2000; ++step) {
      now += static_cast<double>(rng() % 1000) / 250;
      const auto place = static_cast<int32_t>(rng() % kCapacity);
      const auto at = std::find_if(model.begin(), model.end(), [&](const EvictableBlock& block) {
        return block.place == place;
      });
      if (at != model.end()) {
        policy.Remove(place, static_cast<EvictionLeave>(rng() % 3), At(now));
        model.erase(at);
      } else {
        const EvictableBlock block = {.place = place,
                                      .depth = static_cast<int32_t>(rng() % 4000),
                                      .content = static_cast<uint64_t>(place) * 4 + rng() % 4,
                                      .last_used = At(now - static_cast<double>(rng() % 50))};
        policy.OnUsed(block.content, block.depth, At(now));
        policy.Add(block, At(now));
        model.push_back(block);
        added[static_cast<size_t>(place)] = step;
      }
      ASSERT_EQ(policy.size(), static_cast<int32_t>(model.size()));
      const std::optional<Victim> worst = policy.Worst(At(now));
      ASSERT_EQ(worst.has_value(), !model.empty());
      if (model.empty()) continue;
      const bool by_value = policy.order() == EvictionOrder::kValue;
      const auto goes_before = [&](const EvictableBlock& a, const EvictableBlock& b) {
        const double value_a = policy.KeepValue(a.place, At(now)),
                     value_b = policy.KeepValue(b.place, At(now));
        if (by_value && value_a != value_b) return value_a < value_b;
        if (a.last_used != b.last_used) return a.last_used < b.last_used;
        if (a.depth != b.depth) return a.depth > b.depth;
        if (!by_value)
          return added[static_cast<size_t>(a.place)] < added[static_cast<size_t>(b.place)];
        return a.place < b.place;
      };
      const EvictableBlock least = *std::min_element(model.begin(), model.end(), goes_before);
      ASSERT_EQ(worst->place, least.place);
      ASSERT_EQ(worst->keep_value, policy.KeepValue(least.place, At(now)));
      ASSERT_EQ(policy.Worst(At(now))->place, worst->place);  // asking changes nothing
    }
  }
}

TEST(CostAwareEvictionTest, InALargeCacheVictimsAreAmongTheLeastTwentieth) {
  constexpr int32_t kCapacity = 20000;
  std::mt19937 rng(7);
  CostAwareEviction policy(kCapacity, kByValue);
  std::vector<double> values;
  std::vector<EvictableBlock> blocks;
  for (int32_t place = 0; place < kCapacity; ++place) {
    blocks.push_back({.place = place,
                      .depth = static_cast<int32_t>(rng() % 4000),
                      .content = rng(),
                      .last_used = At(static_cast<double>(rng() % 1000))});
    policy.Add(blocks.back(), At(1000));
    values.push_back(policy.KeepValue(place, At(1000)));
  }
  std::sort(values.begin(), values.end());
  double rank_sum = 0;
  constexpr int kVictims = 500;
  for (int i = 0; i < kVictims; ++i) {
    const Victim worst = *policy.Worst(At(1000));
    policy.Remove(worst.place, EvictionLeave::kEvicted, At(1000));
    const auto rank = std::lower_bound(values.begin(), values.end(), worst.keep_value);
    rank_sum += static_cast<double>(rank - values.begin()) / kCapacity;
  }
  EXPECT_LT(rank_sum / kVictims, 0.05);
}

TEST(CostAwareEvictionTest, TheSameHistoryEvictsTheSameBlocks) {
  const auto walk = [] {
    std::mt19937 rng(3);
    CostAwareEviction policy(300, kOptions);
    SmallCache cache(policy, 300);
    std::vector<bool> hits;
    for (int i = 0; i < 20000; ++i) {
      hits.push_back(cache.Use(rng() % 1000, At(i * 0.1), static_cast<int32_t>(rng() % 100)));
    }
    return hits;
  };
  EXPECT_EQ(walk(), walk());
}

TEST(CostAwareEvictionTest, AScanOfContentsThatComeOnceDoesNotPushOutWhatIsInUse) {
  constexpr int32_t kCapacity = 60;
  const auto hits_of = [](EvictionPolicy& policy) {
    SmallCache cache(policy, kCapacity);
    int hits = 0;
    uint64_t once = 1000;
    for (int round = 0; round < 400; ++round) {  // 40 in use, each every 10 s; 80 that come once
      for (uint64_t i = 0; i < 120; ++i) {
        const absl::Time now = At(round * 10 + static_cast<double>(i) / 12);
        if (i % 3 != 0) {
          cache.Use(once++, now);
        } else if (cache.Use(i / 3, now) && round >= 200) {
          ++hits;
        }
      }
    }
    return hits;
  };
  LruEviction lru(kCapacity);
  CostAwareEviction cost_aware(kCapacity, kOptions);
  EXPECT_EQ(hits_of(lru), 0);
  EXPECT_GT(hits_of(cost_aware), 6400);  // of 8000 that are possible
}

TEST(CostAwareEvictionTest, WhatComesBackAfterItsEvictionIsLearntToBeWorthKeeping) {
  // A ring larger than the cache: recency keeps none of it until it comes again.
  constexpr int32_t kCapacity = 50;
  const auto hits_of = [](EvictionPolicy& policy) {
    SmallCache cache(policy, kCapacity);
    int hits = 0;
    for (uint64_t i = 0; i < 40000; ++i) {
      hits += cache.Use(i % 100, At(static_cast<double>(i) * 0.1)) && i >= 20000 ? 1 : 0;
    }
    return hits;
  };
  LruEviction lru(kCapacity);
  CostAwareEviction cost_aware(kCapacity, kOptions);
  EXPECT_EQ(hits_of(lru), 0);
  EXPECT_GT(hits_of(cost_aware), 5000);  // 10000 are possible: half of the ring stays
}

TEST(CostAwareEvictionTest, WatchesABoundedNumberOfContents) {
  CostAwareEviction policy(100, kOptions);
  SmallCache cache(policy, 100);
  for (uint64_t i = 0; i < 100000; ++i) {
    cache.Use(i, At(static_cast<double>(i) * 0.01));
    ASSERT_LE(policy.num_watched(), ReuseSample::kWatchedMax);
  }
  EXPECT_EQ(policy.size(), 100);
}

TEST(CostAwareEvictionDeathTest, APlaceIsPresentOnceOrNotAtAll) {
  CostAwareEviction policy(4, kOptions);
  EXPECT_DEATH(policy.Remove(0, EvictionLeave::kEvicted, At(0)), "CHECK failed");
  policy.Add({.place = 0, .last_used = At(0)}, At(0));
  EXPECT_DEATH(policy.Add({.place = 0, .last_used = At(0)}, At(0)), "CHECK failed");
}

}  // namespace
}  // namespace holdfast
