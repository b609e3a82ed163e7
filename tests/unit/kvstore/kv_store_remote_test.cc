// The store with a remote tier: each promise in a few lines. Random walks: kv_store_walk_test.cc.
#include <memory>

#include "gtest/gtest.h"
#include "kvstore/kv_store.h"
#include "tests/unit/kvstore/cached_tokens.h"
#include "tests/unit/kvstore/fake_medium.h"

namespace holdfast {
namespace {

constexpr ReuseScope kScope{1}, kOtherScope{2};

std::vector<TokenId> Prompt(int32_t count) {
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back(i);
  return tokens;
}

// One daemon's store; several may share what the remote tier holds.
struct Node {
  explicit Node(int32_t device_blocks = 16)
      : medium(device_blocks, 1, 1),
        store({.device_blocks = device_blocks,
               .remote_usable = [this] { return usable; },
               .block_bytes = 10,
               .remote_refresh = absl::Minutes(10)}) {}

  PrefixRequest RequestFor(const std::vector<TokenId>& tokens, const ReuseScope& scope = kScope) {
    return {.scope = scope,
            .tokens = tokens,
            .num_blocks = BlocksFor(static_cast<int64_t>(tokens.size()))};
  }
  // Computes all of `tokens` that is not found here, as a finished sequence.
  void Run(const std::vector<TokenId>& tokens) {
    std::vector<BlockId> table;
    PublishedPrefix prefix;
    ASSERT_TRUE(store.TryAcquirePrefix(RequestFor(tokens), now, table, prefix));
    store.Publish(kScope, tokens, static_cast<int32_t>(tokens.size()),
                  PrefixReuse::kMatchAndPublish, now, table, prefix);
    store.OfferToRemote(table, prefix, now);
    store.Release(now, table, prefix);
  }
  int32_t Start() {
    store.PlanMoves(now);
    std::vector<MoveJob> jobs;
    store.TakeMoves(jobs);
    for (const MoveJob& job : jobs) medium.Start(job);
    return static_cast<int32_t>(jobs.size());
  }
  void Finish(absl::Status status = absl::OkStatus()) {
    store.OnMoveDone(medium.Finish(0, std::move(status)), now);
  }
  // Returns how many were sent.
  int32_t SendAll() {
    int32_t sent = 0;
    while (Start() > 0) {
      for (; !medium.jobs.empty(); ++sent) Finish();
    }
    return sent;
  }
  // What it finds with the help of the remote tier; the caller fetches.
  std::optional<PrefixGrant> Arrive(const std::vector<TokenId>& tokens,
                                    const ReuseScope& scope = kScope) {
    PrefixRequest request = RequestFor(tokens, scope);
    const std::optional<KvStore::Lookup> lookup = store.MakeLookup(scope, tokens);
    const RemotePrefix found = lookup ? medium.LookUp(*lookup) : RemotePrefix();
    request.remote = &found;
    std::optional<PrefixGrant> grant = store.TryAcquirePrefix(request, now, table, prefix);
    Start();
    return grant;
  }

  bool usable = true;
  FakeMedium medium;
  KvStore store;
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
  std::vector<BlockId> table;
  PublishedPrefix prefix;
};

TEST(KvStoreRemoteTest, WhatOneDaemonComputedAnotherFetchesAndCountsAsItsOwnHit) {
  Node one, other;
  one.Run(Prompt(100));
  EXPECT_EQ(one.SendAll(), 6);
  other.medium.remote = one.medium.remote;
  const std::optional<PrefixGrant> grant = other.Arrive(Prompt(100));
  EXPECT_EQ(grant, (PrefixGrant{.cached_tokens = 96, .restoring_blocks = 6}));
  while (!other.medium.jobs.empty()) other.Finish();
  const RestorePoll poll =
      other.store.PollRestore(other.RequestFor(Prompt(100)), other.now, other.table, other.prefix);
  EXPECT_EQ(poll.cached_tokens, 96);
  EXPECT_EQ(other.store.hit_tokens({})[TierAt(TierKind::kRemote)], 96u);
  EXPECT_EQ(other.store.counters().remote_fetched, 6u);
  // What came from there is not sent back.
  other.store.OfferToRemote(other.table, other.prefix, other.now);
  EXPECT_EQ(other.SendAll(), 0);
  other.store.CheckInvariants();
}

TEST(KvStoreRemoteTest, AnotherScopeAsksForOtherNames) {
  Node one;
  one.Run(Prompt(100));
  one.SendAll();
  Node other;
  other.medium.remote = one.medium.remote;
  EXPECT_EQ(other.Arrive(Prompt(100), kOtherScope), PrefixGrant{});
}

TEST(KvStoreRemoteTest, ABlockThatIsNotProvenOrGoneCutsThereAndIsSentAnew) {
  for (const absl::Status& fault : {absl::DataLossError("changed"), absl::NotFoundError("evicted"),
                                    absl::UnavailableError("gone")}) {
    Node one, other;
    one.Run(Prompt(100));
    one.SendAll();
    other.medium.remote = one.medium.remote;
    ASSERT_TRUE(other.Arrive(Prompt(100)));
    other.Finish();
    other.Finish();
    other.Finish(fault);
    while (!other.medium.jobs.empty()) other.Finish();
    const std::vector<TokenId> tokens = Prompt(100);
    const RestorePoll poll =
        other.store.PollRestore(other.RequestFor(tokens), other.now, other.table, other.prefix);
    EXPECT_EQ(poll.state, RestorePoll::State::kReady);
    EXPECT_EQ(poll.cached_tokens, 32);
    EXPECT_EQ(other.store.counters().corrupt_blocks, absl::IsDataLoss(fault) ? 1u : 0u);
    EXPECT_EQ(other.store.counters().lost_blocks, 0u);
    other.store.Publish(kScope, tokens, 100, PrefixReuse::kMatchAndPublish, other.now, other.table,
                        other.prefix);
    other.store.OfferToRemote(other.table, other.prefix, other.now);
    other.store.Release(other.now, other.table, other.prefix);
    EXPECT_EQ(other.SendAll(), 1);
    other.store.CheckInvariants();
  }
}

TEST(KvStoreRemoteTest, NoBlockIsSentTwiceUntilItMayHaveBeenEvictedThere) {
  Node node;
  node.Run(Prompt(100));
  EXPECT_EQ(node.SendAll(), 6);
  node.Run(Prompt(100));
  EXPECT_EQ(node.SendAll(), 0);
  node.Run(Prompt(120));
  EXPECT_EQ(node.SendAll(), 1);
  node.now += absl::Minutes(11);
  node.Run(Prompt(100));
  EXPECT_EQ(node.SendAll(), 6);
}

TEST(KvStoreRemoteTest, WhatCouldNotBeSentIsSentWhenItIsUsedAgain) {
  Node node;
  node.Run(Prompt(100));
  while (node.Start() > 0) {
    while (!node.medium.jobs.empty()) node.Finish(absl::UnavailableError("gone"));
  }
  node.usable = false;
  node.Run(Prompt(100));
  EXPECT_EQ(node.SendAll(), 0);
  EXPECT_EQ(node.store.counters().sends_skipped, 6u);
  node.usable = true;
  node.Run(Prompt(100));
  EXPECT_EQ(node.SendAll(), 6);
}

TEST(KvStoreRemoteTest, ABlockIsLentAgainOnceItIsReadHoweverLongTheServerTakes) {
  Node node(8);
  node.Run(Prompt(100));
  EXPECT_EQ(node.Start(), 1);  // few at a time keep a block
  EXPECT_EQ(node.store.counts().moving, 1);
  EXPECT_EQ(node.store.num_moves(), 1);
  node.store.OnMoveDone(node.medium.Read(0), node.now);
  EXPECT_EQ(node.store.counts().moving, 0);
  EXPECT_EQ(node.store.num_moves(), 0);
  std::vector<BlockId> all;
  ASSERT_TRUE(node.store.TryAcquire(8, {}, node.now, all));
  node.Finish();
  EXPECT_EQ(node.medium.remote.size(), 1u);
  EXPECT_EQ(node.SendAll(), 0);  // the rest has left the device
  EXPECT_EQ(node.store.counters().sends_skipped, 5u);
  PublishedPrefix none;
  node.store.Release(node.now, all, none);
  node.store.CheckInvariants();
}

TEST(KvStoreRemoteTest, FewMissingBlocksAreNotWorthAQuestion) {
  Node node;
  EXPECT_FALSE(node.store.MakeLookup(kScope, Prompt(kLookupBlocksMin * kBlockTokens)));
  EXPECT_TRUE(node.store.MakeLookup(kScope, Prompt(kLookupBlocksMin * kBlockTokens + 1)));
  node.Run(Prompt(33));
  const auto lookup = node.store.MakeLookup(kScope, Prompt(200));
  ASSERT_TRUE(lookup);
  EXPECT_EQ(lookup->first_block, 2);
  EXPECT_EQ(lookup->ask.tokens.size(), 10u * kBlockTokens);
  const auto longest = node.store.MakeLookup(kScope, Prompt(100'000));
  EXPECT_EQ(longest->ask.tokens.size(), static_cast<size_t>(kLookupBlocksMax) * kBlockTokens);
}

TEST(KvStoreRemoteTest, AnAnswerFromBeforeABlockWasLostHereFillsNoGap) {
  Node one, other;
  one.Run(Prompt(100));
  one.SendAll();
  other.medium.remote = one.medium.remote;
  other.Run(Prompt(33));  // so that the look-up is for block 2 and later
  const std::vector<TokenId> tokens = Prompt(100);
  PrefixRequest request = other.RequestFor(tokens);
  const RemotePrefix found = other.medium.LookUp(*other.store.MakeLookup(kScope, tokens));
  request.remote = &found;
  other.store.ForgetDevice(other.now);
  EXPECT_EQ(other.store.TryAcquirePrefix(request, other.now, other.table, other.prefix),
            PrefixGrant{});
}

TEST(KvStoreRemoteTest, AtTheEndWhatWaitsForTheServerIsSent) {
  Node node(8);
  node.Run(Prompt(100));
  node.store.BeginHandDown();
  EXPECT_FALSE(node.store.handed_down().ended);
  EXPECT_EQ(node.SendAll(), 6);
  EXPECT_TRUE(node.store.handed_down().ended);
  EXPECT_EQ(node.medium.remote.size(), 6u);
}

}  // namespace
}  // namespace holdfast
