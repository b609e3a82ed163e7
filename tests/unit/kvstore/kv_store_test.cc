#include "kvstore/kv_store.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"
#include "tests/unit/kvstore/cached_tokens.h"

namespace holdfast {
namespace {

constexpr ReuseScope kScope{1};
constexpr ReuseScope kOtherScope{2};

std::vector<TokenId> Prompt(int32_t count, TokenId salt = 0) {
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back(salt * 10'000 + i);
  return tokens;
}

// What a sequence keeps.
struct Holder {
  std::vector<BlockId> table;
  PublishedPrefix prefix;
};

// Each look at it is a little later: what goes first follows from the order of calls.
absl::Time Now() {
  static int64_t seconds = 0;
  return absl::UnixEpoch() + absl::Seconds(++seconds);
}

std::optional<int32_t> Start(KvStore& store, const std::vector<TokenId>& tokens, Holder& holder,
                             const ReuseScope& scope = kScope,
                             PrefixReuse reuse = PrefixReuse::kMatchAndPublish,
                             int32_t spare_blocks = 0) {
  const std::optional<PrefixGrant> grant =
      store.TryAcquirePrefix({.scope = scope,
                              .tokens = tokens,
                              .reuse = reuse,
                              .num_blocks = BlocksFor(static_cast<int64_t>(tokens.size())),
                              .spare_blocks = spare_blocks},
                             Now(), holder.table, holder.prefix);
  if (!grant) return std::nullopt;
  EXPECT_EQ(grant->restoring_blocks, 0);
  return grant->cached_tokens;
}

void ComputeAll(KvStore& store, const std::vector<TokenId>& tokens, Holder& holder,
                const ReuseScope& scope = kScope,
                PrefixReuse reuse = PrefixReuse::kMatchAndPublish) {
  store.Publish(scope, tokens, static_cast<int32_t>(tokens.size()), reuse, Now(), holder.table,
                holder.prefix);
}

void Release(KvStore& store, Holder& holder) { store.Release(Now(), holder.table, holder.prefix); }

bool Acquire(KvStore& store, int32_t count, Holder& holder) {
  return store.TryAcquire(count, TenantIndex{0}, Now(), holder.table);
}

void StartComputeRelease(KvStore& store, const std::vector<TokenId>& tokens,
                         const ReuseScope& scope = kScope) {
  Holder holder;
  ASSERT_TRUE(Start(store, tokens, holder, scope).has_value());
  ComputeAll(store, tokens, holder, scope);
  Release(store, holder);
  store.CheckInvariants();
}

TEST(KvStoreTest, AReleasedPrefixIsFoundAgainButNeverTheWholePrompt) {
  KvStore store({.device_blocks = 8});
  StartComputeRelease(store, Prompt(48));
  EXPECT_EQ(store.counts(), (BlockCounts{.free = 5, .evictable = 3}));
  Holder same, longer, shorter;
  EXPECT_EQ(Start(store, Prompt(48), same), 32);  // the last token must be computed
  EXPECT_EQ(Start(store, Prompt(49), longer), 48);
  EXPECT_EQ(Start(store, Prompt(17), shorter), 16);
  EXPECT_EQ(same.table[0], longer.table[0]);
  EXPECT_EQ(same.table[1], longer.table[1]);
  EXPECT_NE(same.table[2], longer.table[2]);
}

TEST(KvStoreTest, PartialBlocksAreNeverPublished) {
  KvStore store({.device_blocks = 4});
  StartComputeRelease(store, Prompt(31));
  EXPECT_EQ(store.counts(), (BlockCounts{.free = 3, .evictable = 1}));
}

TEST(KvStoreTest, AnotherScopeFindsNothing) {
  KvStore store({.device_blocks = 8});
  StartComputeRelease(store, Prompt(48));
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(48)), 32);
  EXPECT_EQ(CachedTokens(store, kOtherScope, Prompt(48)), 0);
}

TEST(KvStoreTest, WithoutReuseNothingIsFoundAndNothingLeftBehind) {
  KvStore store({.device_blocks = 8});
  StartComputeRelease(store, Prompt(48));
  Holder none;
  EXPECT_EQ(Start(store, Prompt(48), none, kScope, PrefixReuse::kNone), 0);
  ComputeAll(store, Prompt(48), none, kScope, PrefixReuse::kNone);
  Release(store, none);
  EXPECT_EQ(store.counts().evictable, 3);
  Holder anew;
  EXPECT_EQ(Start(store, Prompt(64, 5), anew, kScope, PrefixReuse::kPublish), 0);
  ComputeAll(store, Prompt(64, 5), anew, kScope, PrefixReuse::kPublish);
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(64, 5)), 48);
}

TEST(KvStoreTest, AnAcquisitionThatDoesNotFitChangesNothing) {
  KvStore store({.device_blocks = 4});
  StartComputeRelease(store, Prompt(32));
  Holder other;
  ASSERT_TRUE(Acquire(store, 2, other));
  const BlockCounts before = store.counts();
  ASSERT_EQ(before, (BlockCounts{.free = 0, .held = 2, .evictable = 2}));
  // Two hits are evictable: they cannot be counted as room for the rest.
  Holder too_long;
  EXPECT_EQ(Start(store, Prompt(33), too_long), std::nullopt);
  EXPECT_TRUE(too_long.table.empty());
  EXPECT_EQ(store.counts(), before);
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(33)), 32);
  EXPECT_FALSE(Acquire(store, 3, too_long));
  EXPECT_EQ(store.counts(), before);
}

TEST(KvStoreTest, SpareBlocksStayAvailable) {
  KvStore store({.device_blocks = 4});
  Holder holder;
  EXPECT_EQ(Start(store, Prompt(48), holder, kScope, PrefixReuse::kMatchAndPublish, 2),
            std::nullopt);
  EXPECT_EQ(Start(store, Prompt(48), holder, kScope, PrefixReuse::kMatchAndPublish, 1), 0);
  EXPECT_EQ(store.available(), 1);
}

TEST(KvStoreTest, TheTailOfTheLeastRecentPrefixIsEvictedFirst) {
  KvStore store({.device_blocks = 6});
  StartComputeRelease(store, Prompt(48, 1));
  StartComputeRelease(store, Prompt(48, 2));
  Holder holder;
  ASSERT_TRUE(Acquire(store, 1, holder));
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(49, 1)), 32);
  ASSERT_TRUE(Acquire(store, 1, holder));
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(49, 1)), 16);
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(49, 2)), 48);
  EXPECT_EQ(store.counters().blocks_evicted, 2u);
  store.CheckInvariants();
}

TEST(KvStoreTest, AHitMakesAPrefixRecentAgain) {
  KvStore store({.device_blocks = 4});
  StartComputeRelease(store, Prompt(32, 1));
  StartComputeRelease(store, Prompt(32, 2));
  Holder holder;
  EXPECT_EQ(Start(store, Prompt(32, 1), holder), 16);  // evicts the tail of 1
  Release(store, holder);
  Holder others;
  ASSERT_TRUE(Acquire(store, 3, others));
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(33, 1)), 16);
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(33, 2)), 0);
}

TEST(KvStoreTest, OfTwoThatComputedTheSameTheSecondTakesTheBlocksOfTheFirst) {
  KvStore store({.device_blocks = 8});
  Holder one, two;
  ASSERT_EQ(Start(store, Prompt(48), one), 0);
  ASSERT_EQ(Start(store, Prompt(48), two), 0);
  ComputeAll(store, Prompt(48), one);
  EXPECT_EQ(store.counts().held, 6);
  ComputeAll(store, Prompt(48), two);
  EXPECT_EQ(one.table, two.table);
  EXPECT_EQ(store.counts(), (BlockCounts{.free = 5, .held = 3}));
  EXPECT_EQ(store.counters().blocks_duplicate, 3u);
  store.CheckInvariants();
  // What the second computes further is found after the first is gone.
  Release(store, one);
  ASSERT_TRUE(Acquire(store, 1, two));
  ComputeAll(store, Prompt(64), two);
  Release(store, two);
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(65)), 64);
  store.CheckInvariants();
}

TEST(KvStoreTest, ForgettingLeavesNothingToFind) {
  KvStore store({.device_blocks = 8});
  StartComputeRelease(store, Prompt(48, 1));
  StartComputeRelease(store, Prompt(48, 2));
  store.ForgetDevice(Now());
  EXPECT_EQ(store.counts(), (BlockCounts{.free = 8}));
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(48, 1)), 0);
  store.CheckInvariants();
}

// A hash with only a few values: nearly every key is taken by other content.
BlockKeyFunctions WeakKeys() {
  return {.root = [](const ReuseScope&) { return BlockKey{}; },
          .next =
              [](const BlockKey& parent, BlockTokens tokens) {
                return BlockKey{.low = (parent.low + static_cast<uint64_t>(tokens[0])) % 3};
              }};
}
BlockKeyFunctions ConstantKeys() {
  return {.root = [](const ReuseScope&) { return BlockKey{}; },
          .next = [](const BlockKey&, BlockTokens) { return BlockKey{}; }};
}

TEST(KvStoreTest, ACollisionCostsAMissAndNeverAWrongHit) {
  KvStore store({.device_blocks = 8, .keys = ConstantKeys()});
  StartComputeRelease(store, Prompt(48, 1));
  EXPECT_EQ(store.counters().key_collisions, 1u);  // its own second block
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(48, 1), ConstantKeys()), 16);
  EXPECT_EQ(CachedTokens(store, kScope, Prompt(48, 2), ConstantKeys()), 0);
  EXPECT_EQ(CachedTokens(store, kOtherScope, Prompt(48, 1), ConstantKeys()), 0);
  StartComputeRelease(store, Prompt(48, 1), kOtherScope);
  EXPECT_EQ(CachedTokens(store, kOtherScope, Prompt(48, 1), ConstantKeys()), 0);
  EXPECT_EQ(store.counts(), (BlockCounts{.free = 7, .evictable = 1}));
}

// Random sequences over a small alphabet of blocks, so that prefixes are often shared. The model is
// the content of each block, as an engine would have written it: the whole prefix and the scope.
// The seed replays a failure.
void WalkAtRandom(BlockKeyFunctions keys, uint32_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  constexpr int32_t kCapacity = 24;
  KvStore store({.device_blocks = kCapacity, .keys = keys});
  using Content = std::pair<ReuseScope, std::vector<TokenId>>;
  std::map<BlockId, Content> written;
  struct Live {
    ReuseScope scope;
    std::vector<TokenId> tokens;
    PrefixReuse reuse = PrefixReuse::kMatchAndPublish;
    int32_t computed = 0;
    Holder holder;
  };
  std::vector<Live> live;
  const auto content_of = [](const Live& sequence, int32_t block) -> Content {
    return {sequence.scope,
            {sequence.tokens.begin(), sequence.tokens.begin() + (block + 1) * kBlockTokens}};
  };
  const auto extend = [&](std::vector<TokenId>& tokens) {
    tokens.insert(tokens.end(), kBlockTokens, static_cast<TokenId>(rng() % 3));
  };
  for (int step = 0; step < 600; ++step) {
    const uint32_t action = rng() % 8;
    if (action < 3) {
      Live sequence{.scope = rng() % 3 == 0 ? kOtherScope : kScope};
      const uint32_t num_blocks = rng() % 5;
      for (uint32_t i = 0; i < num_blocks; ++i) extend(sequence.tokens);
      sequence.tokens.insert(sequence.tokens.end(), 1 + rng() % kBlockTokens, 1);
      sequence.reuse = static_cast<PrefixReuse>(rng() % 8 < 6 ? 0 : 1 + rng() % 2);
      const int32_t available = store.available();
      const std::optional<int32_t> cached =
          Start(store, sequence.tokens, sequence.holder, sequence.scope, sequence.reuse);
      if (!cached) {
        ASSERT_TRUE(sequence.holder.table.empty());
        ASSERT_EQ(store.available(), available);
        continue;
      }
      ASSERT_LT(*cached, static_cast<int32_t>(sequence.tokens.size()));
      if (sequence.reuse != PrefixReuse::kMatchAndPublish) {
        ASSERT_EQ(*cached, 0);
      }
      for (int32_t i = 0; i < *cached / kBlockTokens; ++i) {
        ASSERT_EQ(written.at(sequence.holder.table[static_cast<size_t>(i)]),
                  content_of(sequence, i));
      }
      sequence.computed = *cached;
      live.push_back(std::move(sequence));
    } else if (!live.empty()) {
      std::swap(live[rng() % live.size()], live.back());
      Live& sequence = live.back();
      if (action < 6) {  // compute some, as a committed step does
        const auto size = static_cast<int32_t>(sequence.tokens.size());
        const auto chunk = static_cast<int32_t>(1 + rng() % 40);
        const int32_t end = std::min(size, sequence.computed + chunk);
        for (int32_t i = sequence.computed / kBlockTokens; i < end / kBlockTokens; ++i) {
          const BlockId block = sequence.holder.table[static_cast<size_t>(i)];
          ASSERT_EQ(store.pool().references(block), 1);
          written[block] = content_of(sequence, i);
        }
        sequence.computed = end;
        store.Publish(sequence.scope, sequence.tokens, end, sequence.reuse, Now(),
                      sequence.holder.table, sequence.holder.prefix);
      } else if (action == 6) {  // grow
        if (Acquire(store, 1, sequence.holder)) {
          const auto missing = kBlockTokens - sequence.tokens.size() % kBlockTokens;
          sequence.tokens.insert(sequence.tokens.end(), missing % kBlockTokens, 2);
          extend(sequence.tokens);
        }
      } else {
        Release(store, sequence.holder);
        live.pop_back();
      }
    }
    store.CheckInvariants();
    std::set<BlockId> held;
    for (const Live& sequence : live) {
      held.insert(sequence.holder.table.begin(), sequence.holder.table.end());
      // Nobody has overwritten what it has computed.
      for (int32_t i = 0; i < sequence.computed / kBlockTokens; ++i) {
        ASSERT_EQ(written.at(sequence.holder.table[static_cast<size_t>(i)]),
                  content_of(sequence, i));
      }
    }
    ASSERT_EQ(store.counts().held, static_cast<int32_t>(held.size()));
  }
  for (Live& sequence : live) Release(store, sequence.holder);
  store.CheckInvariants();
  ASSERT_EQ(store.available(), kCapacity);
}

TEST(KvStoreTest, EveryHitHoldsExactlyItsPrefixOnRandomWalks) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    WalkAtRandom(Xxh3BlockKeys(), seed);
    if (HasFatalFailure()) return;
  }
}

TEST(KvStoreTest, EveryHitHoldsExactlyItsPrefixWithAWeakHash) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    WalkAtRandom(WeakKeys(), seed);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace holdfast
