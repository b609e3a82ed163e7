#include "kvstore/prefix_index.h"

#include <array>
#include <map>
#include <random>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

using Outcome = PrefixIndex::Outcome;
using Tokens = std::array<TokenId, kBlockTokens>;

Tokens Filled(TokenId token) {
  Tokens tokens;
  tokens.fill(token);
  return tokens;
}

constexpr BlockKey kKey{.low = 1, .high = 2};
constexpr ReuseScope kScope{7};

std::optional<NodeId> Find(const PrefixIndex& index, const BlockKey& key, const ReuseScope& scope,
                           std::optional<NodeId> parent, const Tokens& tokens) {
  const std::optional<ScopeId> id = index.FindScope(scope);
  return id ? index.Find(key, *id, parent, tokens) : std::nullopt;
}

// A node that lies on the device, so that it stays.
NodeId Enter(PrefixIndex& index, const BlockKey& key, std::optional<NodeId> parent,
             const Tokens& tokens, const ReuseScope& scope = kScope) {
  const PrefixIndex::Inserted inserted = index.Insert(key, scope, parent, tokens, TenantIndex{0});
  EXPECT_EQ(inserted.outcome, Outcome::kNew);
  index.residence(inserted.node).place[0] = 0;
  return inserted.node;
}

void LoseAndForget(PrefixIndex& index, NodeId node) {
  index.residence(node).place = {kNoPlace, kNoPlace, kNoPlace};
  index.Forget(node);
}

TEST(PrefixIndexTest, FindsWhatWasInsertedUntilItIsForgotten) {
  PrefixIndex index(4);
  EXPECT_EQ(Find(index, kKey, kScope, std::nullopt, Filled(1)), std::nullopt);
  const NodeId node = Enter(index, kKey, std::nullopt, Filled(1));
  EXPECT_EQ(Find(index, kKey, kScope, std::nullopt, Filled(1)), node);
  EXPECT_EQ(index.size(), 1);
  index.Forget(node);  // it lies somewhere: it stays
  EXPECT_EQ(Find(index, kKey, kScope, std::nullopt, Filled(1)), node);
  LoseAndForget(index, node);
  EXPECT_EQ(Find(index, kKey, kScope, std::nullopt, Filled(1)), std::nullopt);
  EXPECT_EQ(index.size(), 0);
  EXPECT_EQ(index.FindScope(kScope), std::nullopt);
}

// The key alone proves nothing: each ingredient is compared.
TEST(PrefixIndexTest, TheSameKeyWithOtherContentIsNoHit) {
  PrefixIndex index(4);
  const NodeId parent = Enter(index, BlockKey{.low = 9}, std::nullopt, Filled(0));
  const NodeId other = Enter(index, BlockKey{.low = 10}, std::nullopt, Filled(9), ReuseScope{8});
  const NodeId node = Enter(index, kKey, parent, Filled(1));
  EXPECT_EQ(Find(index, kKey, kScope, parent, Filled(1)), node);
  Tokens last_differs = Filled(1);
  last_differs.back() = 2;
  EXPECT_EQ(Find(index, kKey, kScope, parent, last_differs), std::nullopt);
  EXPECT_EQ(Find(index, kKey, kScope, std::nullopt, Filled(1)), std::nullopt);
  EXPECT_EQ(Find(index, kKey, kScope, other, Filled(1)), std::nullopt);
  EXPECT_EQ(Find(index, kKey, ReuseScope{8}, parent, Filled(1)), std::nullopt);
}

TEST(PrefixIndexTest, ADuplicateIsAnsweredByTheEarlierAndACollisionByNone) {
  PrefixIndex index(4);
  const NodeId node = Enter(index, kKey, std::nullopt, Filled(1));
  const auto again = index.Insert(kKey, kScope, std::nullopt, Filled(1), TenantIndex{0});
  EXPECT_EQ(again.outcome, Outcome::kKnown);
  EXPECT_EQ(again.node, node);
  EXPECT_EQ(index.Insert(kKey, kScope, std::nullopt, Filled(2), TenantIndex{0}).outcome,
            Outcome::kCollision);
  EXPECT_EQ(index.Insert(kKey, ReuseScope{8}, std::nullopt, Filled(1), TenantIndex{0}).outcome,
            Outcome::kCollision);
  EXPECT_EQ(index.size(), 1);
  index.CheckInvariants();
}

TEST(PrefixIndexTest, AFullIndexRefusesAndKeepsWhatItHas) {
  PrefixIndex index(2);
  const NodeId first = Enter(index, kKey, std::nullopt, Filled(1));
  Enter(index, BlockKey{.low = 5}, first, Filled(2));
  EXPECT_EQ(index.Insert(BlockKey{.low = 6}, kScope, first, Filled(3), TenantIndex{0}).outcome,
            Outcome::kFull);
  EXPECT_EQ(index.Insert(kKey, kScope, std::nullopt, Filled(1), TenantIndex{0}).outcome,
            Outcome::kKnown);
  index.CheckInvariants();
}

TEST(PrefixIndexTest, AGhostStaysForItsChildrenAndGoesWithTheLast) {
  PrefixIndex index(8);
  const NodeId root = Enter(index, kKey, std::nullopt, Filled(1));
  const NodeId middle = Enter(index, BlockKey{.low = 5}, root, Filled(2));
  const NodeId leaf = Enter(index, BlockKey{.low = 6}, middle, Filled(3));
  LoseAndForget(index, root);
  LoseAndForget(index, middle);
  EXPECT_EQ(index.size(), 3);
  EXPECT_EQ(Find(index, kKey, kScope, std::nullopt, Filled(1)), root);
  LoseAndForget(index, leaf);
  EXPECT_EQ(index.size(), 0);
  index.CheckInvariants();
}

TEST(PrefixIndexDeathTest, AParentMustBeKnown) {
  PrefixIndex index(4);
  EXPECT_DEATH((void)index.Insert(kKey, kScope, NodeId{1}, Filled(1), TenantIndex{0}),
               "CHECK failed");
}

// Weak keys make long runs in the table, so that a removal has much to shift. The seed replays a
// failure.
TEST(PrefixIndexTest, FindsExactlyWhatAMapHoldsOnRandomWalks) {
  constexpr int32_t kCapacity = 24;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    PrefixIndex index(kCapacity);
    std::map<TokenId, NodeId> known;
    const auto key_of = [&](TokenId token) {
      const auto value = static_cast<uint64_t>(token);
      // All homes at the table's end, few low halves, so that runs wrap around.
      return BlockKey{.low = 0xffff'fff0u + value % (1 + seed % 5), .high = value};
    };
    for (int step = 0; step < 500; ++step) {
      const auto token = static_cast<TokenId>(rng() % 40);
      const auto found = known.find(token);
      ASSERT_EQ(Find(index, key_of(token), kScope, std::nullopt, Filled(token)),
                found == known.end() ? std::nullopt : std::optional(found->second));
      if (found != known.end()) {
        LoseAndForget(index, found->second);
        known.erase(found);
      } else if (index.size() < kCapacity) {
        known.emplace(token, Enter(index, key_of(token), std::nullopt, Filled(token)));
      }
      index.CheckInvariants();
    }
  }
}

}  // namespace
}  // namespace holdfast
