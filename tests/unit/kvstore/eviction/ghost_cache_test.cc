#include "kvstore/eviction/ghost_cache.h"

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "kvstore/eviction/lru.h"

namespace holdfast {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

GhostCache OfRecency(int32_t capacity) {
  return GhostCache(capacity, std::make_unique<LruEviction>(capacity));
}

// What of the chain was found.
int UseChain(GhostCache& ghost, const std::vector<uint64_t>& chain, double seconds) {
  ghost.BeginChain(At(seconds));
  int found = 0;
  for (size_t i = 0; i < chain.size(); ++i) {
    found += ghost.Use(chain[i], static_cast<int32_t>(i), At(seconds)) ? 1 : 0;
  }
  return found;
}

TEST(GhostCacheTest, FindsWhatFitsIntoIt) {
  GhostCache ghost = OfRecency(4);
  EXPECT_EQ(UseChain(ghost, {1, 2}, 0), 0);
  EXPECT_EQ(UseChain(ghost, {1, 3}, 1), 1);
  EXPECT_EQ(UseChain(ghost, {1, 2}, 2), 2);
  EXPECT_EQ(UseChain(ghost, {7, 8}, 3), 0);  // 3 goes, which was used last at 1 s
  EXPECT_EQ(UseChain(ghost, {1, 2}, 4), 2);
}

TEST(GhostCacheTest, AChainThatDoesNotFitIsCutAndPushesNothingOutOfItself) {
  GhostCache ghost = OfRecency(3);
  EXPECT_EQ(UseChain(ghost, {1, 2, 3, 4, 5}, 0), 0);
  EXPECT_EQ(ghost.size(), 3u);
  EXPECT_EQ(UseChain(ghost, {1, 2, 3, 4, 5}, 1), 3);
}

TEST(GhostCacheTest, WhatAChainWasToldInPartOfLeavesAgain) {
  GhostCache ghost = OfRecency(3);
  UseChain(ghost, {1, 2, 3}, 0);
  UseChain(ghost, {1, 2}, 1);
  UseChain(ghost, {2, 3}, 2);
  UseChain(ghost, {9}, 3);
  EXPECT_EQ(UseChain(ghost, {4, 5, 6}, 4), 0);
  EXPECT_EQ(UseChain(ghost, {4, 5, 6}, 5), 3);
}

// A tree of chains, and a list of what is there in the order of use: of those without a child and
// not in the chain, the one used least recently, the deeper first, goes.
TEST(GhostCacheTest, AgreesWithAListOnRandomWalks) {
  constexpr size_t kCapacity = 12;
  struct Known {
    double used = 0;
    size_t depth = 0;
    std::optional<uint64_t> parent;
  };
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    GhostCache ghost = OfRecency(kCapacity);
    std::map<uint64_t, Known> model;
    for (int step = 0; step < 300; ++step) {
      // A path in a tree of three children each: a name is its parent's times 4, and 1 to 3.
      std::vector<uint64_t> chain;
      uint64_t name = 0;
      for (size_t length = 1 + rng() % 6; chain.size() < length;) {
        chain.push_back(name = name * 4 + 1 + rng() % 3);
      }
      const std::set<uint64_t> held(chain.begin(), chain.end());
      int expected = 0;
      std::optional<uint64_t> parent;
      for (size_t i = 0; i < chain.size(); ++i) {
        const bool found = model.contains(chain[i]);
        expected += found ? 1 : 0;
        if (!found && model.size() == kCapacity) {
          std::optional<uint64_t> victim;
          for (const auto& [content, known] : model) {
            bool may_go = !held.contains(content);
            for (const auto& [other, of_other] : model) may_go &= of_other.parent != content;
            if (!may_go) continue;
            const Known* least = victim ? &model[*victim] : nullptr;
            if (least == nullptr || known.used < least->used ||
                (known.used == least->used && known.depth > least->depth)) {
              victim = content;
            }
          }
          ASSERT_TRUE(victim.has_value());
          model.erase(*victim);
        }
        model[chain[i]] = {.used = step * 1.0, .depth = i, .parent = parent};
        parent = chain[i];
      }
      ASSERT_EQ(UseChain(ghost, chain, step), expected) << "step " << step;
      ASSERT_EQ(ghost.size(), model.size());
    }
  }
}

}  // namespace
}  // namespace holdfast
