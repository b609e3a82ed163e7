// The store with lower tiers, pins and shares: each promise in a few lines. Random walks of all of
// it: kv_store_walk_test.cc.
#include <memory>
#include <set>
#include <utility>

#include "gtest/gtest.h"
#include "kvstore/kv_store.h"
#include "tests/unit/kvstore/cached_tokens.h"
#include "tests/unit/kvstore/fake_medium.h"

namespace holdfast {
namespace {

constexpr ReuseScope kScope{1};

std::vector<TokenId> Prompt(int32_t count, TokenId salt = 0) {
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back(salt * 10'000 + i);
  return tokens;
}

struct Holder {
  std::vector<BlockId> table;
  PublishedPrefix prefix;
};

// A small store with its medium. Each call is a second later.
class TieredStoreTest : public testing::Test {
 protected:
  void Make(int32_t device_blocks, int32_t host_slots, int32_t disk_slots,
            std::vector<TenantShares> tenants = {{}, {}}, double low_water = 1) {
    medium_ = std::make_unique<FakeMedium>(device_blocks, host_slots, disk_slots);
    store_ =
        std::make_unique<KvStore>(KvStoreOptions{.device_blocks = device_blocks,
                                                 .tenants = std::move(tenants),
                                                 .host = host_slots > 0 ? &medium_->host : nullptr,
                                                 .disk = disk_slots > 0 ? &medium_->disk : nullptr,
                                                 .block_bytes = 10,
                                                 .low_water = low_water});
  }
  absl::Time Now() { return now_ += absl::Seconds(1); }

  PrefixRequest RequestFor(const std::vector<TokenId>& tokens, int32_t tenant = 0) {
    return {.scope = kScope,
            .tokens = tokens,
            .tenant = TenantIndex{tenant},
            .num_blocks = BlocksFor(static_cast<int64_t>(tokens.size()))};
  }
  std::optional<PrefixGrant> Start(const std::vector<TokenId>& tokens, Holder& holder,
                                   int32_t tenant = 0) {
    return store_->TryAcquirePrefix(RequestFor(tokens, tenant), Now(), holder.table, holder.prefix);
  }
  void Compute(const std::vector<TokenId>& tokens, Holder& holder) {
    store_->Publish(kScope, tokens, static_cast<int32_t>(tokens.size()),
                    PrefixReuse::kMatchAndPublish, Now(), holder.table, holder.prefix);
  }
  void Release(Holder& holder) { store_->Release(Now(), holder.table, holder.prefix); }
  void Run(const std::vector<TokenId>& tokens, int32_t tenant = 0) {
    Holder holder;
    ASSERT_TRUE(Start(tokens, holder, tenant));
    Compute(tokens, holder);
    Release(holder);
  }
  RestorePoll Poll(const std::vector<TokenId>& tokens, Holder& holder) {
    return store_->PollRestore(RequestFor(tokens), Now(), holder.table, holder.prefix);
  }
  void Take() {
    std::vector<MoveJob> jobs;
    store_->TakeMoves(jobs);
    for (const MoveJob& job : jobs) medium_->Start(job);
  }
  void Finish(absl::Status status = absl::OkStatus()) {
    store_->OnMoveDone(medium_->Finish(0, std::move(status)), Now());
  }
  void FinishAll() {
    for (Take(); !medium_->jobs.empty(); Take()) Finish();
  }
  // Copies all that is unreferenced down, then takes the device's blocks for something else.
  void PushDown() {
    store_->PlanMoves(Now());
    FinishAll();
    Holder all;
    ASSERT_TRUE(store_->TryAcquire(store_->capacity(), TenantIndex{0}, Now(), all.table));
    Release(all);
  }
  // How many blocks were copied.
  int32_t HandDown() {
    store_->BeginHandDown();
    for (int i = 0; i < 100 && !store_->handed_down().ended; ++i) {
      store_->PlanMoves(Now());
      FinishAll();
      store_->CheckInvariants();
    }
    EXPECT_TRUE(store_->handed_down().ended);
    return store_->handed_down().copied;
  }
  // (salt, block) of what lies on disk.
  std::set<std::pair<TokenId, int32_t>> OnDisk() {
    std::set<std::pair<TokenId, int32_t>> found;
    for (int32_t i = 0; i < store_->index().num_nodes_ever(); ++i) {
      const NodeId id{static_cast<uint32_t>(i)};
      if (!store_->index().Contains(id)) continue;
      const PrefixNode& node = store_->index()[id];
      if (node.at.place[TierAt(TierKind::kDisk)] == kNoPlace) continue;
      found.emplace(node.tokens[0] / 10'000, node.depth);
    }
    return found;
  }
  int32_t Cached(const std::vector<TokenId>& tokens) {
    return CachedTokens(*store_, kScope, tokens);
  }

  std::unique_ptr<FakeMedium> medium_;
  std::unique_ptr<KvStore> store_;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(TieredStoreTest, WhatLeftTheDeviceComesBackFromTheHost) {
  Make(4, 4, 0);
  Run(Prompt(49));
  PushDown();
  EXPECT_EQ(store_->counts().free, 4);
  EXPECT_EQ(Cached(Prompt(49)), 48);
  Holder holder;
  EXPECT_EQ(Start(Prompt(49), holder), (PrefixGrant{.cached_tokens = 48, .restoring_blocks = 3}));
  EXPECT_EQ(Poll(Prompt(49), holder).state, RestorePoll::State::kPending);
  FinishAll();
  const RestorePoll poll = Poll(Prompt(49), holder);
  EXPECT_EQ(poll.state, RestorePoll::State::kReady);
  EXPECT_EQ(poll.cached_tokens, 48);
  EXPECT_EQ(store_->hit_tokens(TenantIndex{0})[TierAt(TierKind::kHost)], 48u);
  EXPECT_EQ(store_->counters().dropped_without_copy, 0u);
  EXPECT_EQ(store_->counters().moves[1].bytes, 30u);
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, ALeavingBlockStaysFindableAndWhoFindsItKeepsIt) {
  Make(4, 4, 0);
  Run(Prompt(33));
  store_->PlanMoves(Now());
  Take();
  EXPECT_EQ(store_->counts(), (BlockCounts{.free = 2, .moving = 2}));
  Holder holder;
  EXPECT_EQ(Start(Prompt(33), holder), (PrefixGrant{.cached_tokens = 32}));
  FinishAll();
  EXPECT_EQ(store_->counts(), (BlockCounts{.free = 1, .held = 3}));
  Release(holder);
  EXPECT_EQ(store_->counts(), (BlockCounts{.free = 2, .evictable = 2}));
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, WhenTheMoverIsTooSlowVictimsGoWithoutACopy) {
  Make(4, 4, 0, {{}, {}}, 0);
  Run(Prompt(49));
  Holder holder;
  ASSERT_TRUE(store_->TryAcquire(4, TenantIndex{0}, Now(), holder.table));
  EXPECT_EQ(store_->counters().dropped_without_copy, 3u);
  EXPECT_EQ(Cached(Prompt(49)), 0);
}

TEST_F(TieredStoreTest, TwoThatWantTheSameShareOneRestore) {
  Make(8, 4, 0);
  Run(Prompt(33));
  PushDown();
  Holder one, two;
  EXPECT_EQ(Start(Prompt(33), one)->restoring_blocks, 2);
  EXPECT_EQ(Start(Prompt(33), two)->restoring_blocks, 2);
  EXPECT_EQ(one.table[1], two.table[1]);
  Take();
  EXPECT_EQ(medium_->jobs.size(), 2u);
  FinishAll();
  EXPECT_EQ(Poll(Prompt(33), one).cached_tokens, 32);
  EXPECT_EQ(Poll(Prompt(33), two).cached_tokens, 32);
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, AFailedRestoreCutsEveryWaiterThereAndGivesEachItsOwnBlocks) {
  Make(8, 4, 0);
  Run(Prompt(49));
  PushDown();
  Holder one, two;
  ASSERT_TRUE(Start(Prompt(49), one));
  ASSERT_TRUE(Start(Prompt(49), two));
  Take();
  Finish();
  Finish(absl::DataLossError("checksum"));
  Finish();
  const RestorePoll first = Poll(Prompt(49), one);
  const RestorePoll second = Poll(Prompt(49), two);
  EXPECT_EQ(first.state, RestorePoll::State::kReady);
  EXPECT_EQ(first.cached_tokens, 16);
  EXPECT_EQ(second.cached_tokens, 16);
  EXPECT_EQ(one.table[0], two.table[0]);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(store_->pool().references(one.table[i]), 1);
    EXPECT_EQ(store_->pool().references(two.table[i]), 1);
  }
  EXPECT_EQ(store_->counters().corrupt_blocks, 1u);
  EXPECT_EQ(store_->counters().restores_cut, 2u);
  // Computed again, the lost block answers for what lay behind it.
  Compute(Prompt(49), one);
  EXPECT_EQ(Cached(Prompt(49)), 48);
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, ACutWithoutRoomGivesAllBack) {
  Make(4, 4, 0);
  Run(Prompt(33));
  PushDown();
  Holder one, two;
  ASSERT_TRUE(Start(Prompt(33), one));
  ASSERT_TRUE(Start(Prompt(33), two));
  Take();
  Finish(absl::UnavailableError("slow"));
  Finish();
  EXPECT_EQ(Poll(Prompt(33), one).state, RestorePoll::State::kNoRoom);
  EXPECT_TRUE(one.table.empty());
  EXPECT_EQ(Poll(Prompt(33), two).state, RestorePoll::State::kReady);
  EXPECT_EQ(store_->counters().lost_blocks, 1u);
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, ACancelInMidRestoreLeavesWhatArrivesFindable) {
  Make(4, 4, 0);
  Run(Prompt(33));
  PushDown();
  Holder holder;
  ASSERT_TRUE(Start(Prompt(33), holder));
  Take();
  Release(holder);
  EXPECT_EQ(store_->counts(), (BlockCounts{.free = 2, .moving = 2}));
  FinishAll();
  EXPECT_EQ(store_->counts(), (BlockCounts{.free = 2, .evictable = 2}));
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, AFullHostSendsItsVictimsToDiskOnce) {
  Make(4, 4, 8);
  for (TokenId salt = 1; salt <= 3; ++salt) {
    Run(Prompt(49, salt));
    for (int i = 0; i < 8; ++i) {
      store_->PlanMoves(Now());
      FinishAll();
    }
    Holder all;
    ASSERT_TRUE(store_->TryAcquire(4, TenantIndex{0}, Now(), all.table));
    Release(all);
  }
  EXPECT_EQ(Cached(Prompt(49, 1)), 48);
  EXPECT_EQ(Cached(Prompt(49, 2)), 48);
  EXPECT_EQ(store_->counters().moves[2].done,
            static_cast<uint64_t>(store_->used_blocks(TierKind::kDisk, TenantIndex{0})));
  Holder holder;
  EXPECT_EQ(Start(Prompt(49, 1), holder)->restoring_blocks, 3);
  FinishAll();
  EXPECT_EQ(Poll(Prompt(49, 1), holder).cached_tokens, 48);
  EXPECT_GT(store_->hit_tokens(TenantIndex{0})[TierAt(TierKind::kDisk)], 0u);
  store_->CheckInvariants();
}

// A copy on both tiers: a restore that began while the host's copy was being demoted.
TEST_F(TieredStoreTest, WhatTheHostLostComesBackFromTheDiskForAllWhoWait) {
  Make(4, 1, 8);
  Run(Prompt(17, 1));
  PushDown();
  Run(Prompt(17, 2));
  store_->PlanMoves(Now());  // the host is full: its one block goes down
  Take();
  Holder one, two;
  ASSERT_EQ(Start(Prompt(17, 1), one)->restoring_blocks, 1);
  ASSERT_EQ(Start(Prompt(17, 1), two)->restoring_blocks, 1);
  Take();
  ASSERT_EQ(medium_->jobs.size(), 2u);
  Finish();  // the demotion
  ASSERT_EQ(store_->used_blocks(TierKind::kHost, TenantIndex{0}), 1);
  ASSERT_EQ(store_->used_blocks(TierKind::kDisk, TenantIndex{0}), 1);
  Finish(absl::DataLossError("checksum"));
  Take();
  ASSERT_EQ(medium_->jobs.size(), 1u);
  EXPECT_EQ(medium_->jobs[0].first.tier, TierKind::kDisk);
  EXPECT_EQ(Poll(Prompt(17, 1), one).state, RestorePoll::State::kPending);
  store_->CheckInvariants();
  Finish();
  EXPECT_EQ(Poll(Prompt(17, 1), one).cached_tokens, 16);
  EXPECT_EQ(Poll(Prompt(17, 1), two).cached_tokens, 16);
  EXPECT_EQ(one.table[0], two.table[0]);
  EXPECT_EQ(store_->counters().corrupt_blocks, 1u);
  EXPECT_EQ(store_->counters().restores_cut, 0u);
  EXPECT_EQ(store_->hit_tokens(TenantIndex{0})[TierAt(TierKind::kDisk)], 32u);
  store_->CheckInvariants();
}

// And is not fetched for nobody.
TEST_F(TieredStoreTest, WhatFailsWhenAllWhoWaitedAreGoneIsNotFetchedAgain) {
  Make(4, 1, 8);
  Run(Prompt(17, 1));
  PushDown();
  Run(Prompt(17, 2));
  store_->PlanMoves(Now());
  Take();
  Holder holder;
  ASSERT_EQ(Start(Prompt(17, 1), holder)->restoring_blocks, 1);
  Take();
  Finish();
  Release(holder);
  Finish(absl::UnavailableError("slow"));
  Take();
  EXPECT_TRUE(medium_->jobs.empty());
  EXPECT_EQ(Cached(Prompt(17, 1)), 16);  // on the disk
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, ObservesEachTimeThatUnreferencedContentIsFoundWhereverItLay) {
  Make(4, 4, 0);
  KvObservations seen;
  Run(Prompt(33));
  store_->TakeObservations(seen);
  EXPECT_TRUE(seen.reuse_gap_seconds.empty());
  Holder one, two;
  ASSERT_TRUE(Start(Prompt(33), one));
  ASSERT_TRUE(Start(Prompt(33), two));  // somebody refers to it
  store_->TakeObservations(seen);
  EXPECT_EQ(seen.reuse_gap_seconds, std::vector<double>({1, 1}));
  Release(one);
  Release(two);
  store_->PlanMoves(Now());
  Take();
  ASSERT_TRUE(Start(Prompt(33), one));  // while it is being copied down
  FinishAll();
  Release(one);
  store_->TakeObservations(seen);
  EXPECT_EQ(seen.reuse_gap_seconds, std::vector<double>({2, 2}));
  PushDown();
  store_->TakeObservations(seen);
  EXPECT_EQ(seen.residency_seconds.size(), 2u);
  EXPECT_TRUE(seen.reuse_gap_seconds.empty());
  ASSERT_TRUE(Start(Prompt(33), one));  // from the host
  store_->TakeObservations(seen);
  ASSERT_EQ(seen.reuse_gap_seconds.size(), 2u);
  EXPECT_GT(seen.reuse_gap_seconds[0], 2);
}

TEST_F(TieredStoreTest, NothingIsTakenFromATenantAtItsFloor) {
  Make(6, 0, 0, {{.tiers = {TierShare{.floor_blocks = 2}}}, {}});
  Run(Prompt(49), 0);
  Holder other;
  EXPECT_FALSE(store_->TryAcquire(5, TenantIndex{1}, Now(), other.table));
  EXPECT_TRUE(store_->TryAcquire(4, TenantIndex{1}, Now(), other.table));
  EXPECT_EQ(Cached(Prompt(49)), 32);
  // Itself it may.
  Holder own;
  EXPECT_TRUE(store_->TryAcquire(2, TenantIndex{0}, Now(), own.table));
}

TEST_F(TieredStoreTest, ATenantAtItsCeilingReplacesItsOwn) {
  Make(12, 0, 0, {{}, {.tiers = {TierShare{.ceiling_blocks = 4}}}});
  Run(Prompt(49, 1), 0);
  for (TokenId salt = 2; salt < 8; ++salt) Run(Prompt(49, salt), 1);
  EXPECT_EQ(Cached(Prompt(49, 1)), 48);
  EXPECT_LE(store_->used_blocks(TierKind::kDevice, TenantIndex{1}), 4);
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, AForgottenDeviceTakesNoCopyOfWhatItHeld) {
  Make(4, 4, 0);
  Run(Prompt(33));
  store_->PlanMoves(Now());
  Take();
  store_->ForgetDevice(Now());
  medium_->device_lost = true;
  FinishAll();
  EXPECT_EQ(Cached(Prompt(33)), 0);
  EXPECT_EQ(store_->counts().free, 4);
  EXPECT_EQ(medium_->host.num_free(), 4);
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, OfTwoWithTheSamePromptOneComputes) {
  Make(16, 0, 0);
  Holder one;
  EXPECT_FALSE(store_->IsBeingComputed(kScope, Prompt(65)));
  ASSERT_TRUE(Start(Prompt(65), one));
  EXPECT_TRUE(store_->IsBeingComputed(kScope, Prompt(65)));
  EXPECT_TRUE(store_->IsBeingComputed(kScope, Prompt(17)));
  EXPECT_FALSE(store_->IsBeingComputed(ReuseScope{2}, Prompt(65)));
  EXPECT_FALSE(store_->IsBeingComputed(kScope, Prompt(65, 1)));
  // Two blocks are there: one that needs no more need not wait.
  store_->Publish(kScope, Prompt(65), 40, PrefixReuse::kMatchAndPublish, Now(), one.table,
                  one.prefix);
  EXPECT_FALSE(store_->IsBeingComputed(kScope, Prompt(33)));
  EXPECT_TRUE(store_->IsBeingComputed(kScope, Prompt(65)));
  Release(one);
  EXPECT_FALSE(store_->IsBeingComputed(kScope, Prompt(65)));
  EXPECT_EQ(store_->num_computing(), 0);
}

TEST_F(TieredStoreTest, APinKeepsATurnWithItsPartialBlockUntilItsDeadline) {
  Make(12, 0, 0);
  Holder turn;
  ASSERT_TRUE(Start(Prompt(40), turn));
  Compute(Prompt(40), turn);
  const absl::Time deadline = Now() + absl::Seconds(60);
  ASSERT_TRUE(store_->TryPin({.session = "s", .deadline = deadline}, kScope, Prompt(40), Now(),
                             turn.table, turn.prefix));
  EXPECT_TRUE(turn.table.empty());
  EXPECT_EQ(store_->counts().held, 3);
  Holder others;
  EXPECT_FALSE(store_->TryAcquire(10, TenantIndex{1}, Now(), others.table));
  // The next turn finds it whole.
  const std::vector<TokenId> next = Prompt(60);
  Holder holder;
  std::optional<PrefixGrant> grant = Start(next, holder);
  ASSERT_EQ(grant->cached_tokens, 32);
  const std::optional<PartialBlock> partial = store_->PinnedPartial(TenantIndex{0}, "s");
  ASSERT_TRUE(partial);
  const std::optional<BlockCopy> copy =
      store_->CopyPartial(*partial, RequestFor(next), holder.table, holder.prefix, *grant);
  ASSERT_TRUE(copy);
  EXPECT_EQ(grant->cached_tokens, 40);
  EXPECT_EQ(copy->to, holder.table[2]);
  EXPECT_EQ(copy->num_tokens, 8);
  Release(holder);
  EXPECT_EQ(store_->ExpirePins(deadline - absl::Seconds(1)), 0);
  EXPECT_EQ(store_->ExpirePins(deadline), 1);
  EXPECT_EQ(store_->counts(), (BlockCounts{.free = 10, .evictable = 2}));
  EXPECT_FALSE(store_->PinnedPartial(TenantIndex{0}, "s"));
  store_->CheckInvariants();
}

TEST_F(TieredStoreTest, PinsKeepNoMoreThanHalfAndGoByForceWhenASequenceMustGrow) {
  Make(8, 0, 0);
  Holder small, large;
  ASSERT_TRUE(Start(Prompt(64), small));
  Compute(Prompt(64), small);
  ASSERT_TRUE(store_->TryPin({.session = "a", .deadline = Now() + absl::Hours(1)}, kScope,
                             Prompt(64), Now(), small.table, small.prefix));
  ASSERT_TRUE(Start(Prompt(16, 2), large, 1));
  Compute(Prompt(16, 2), large);
  EXPECT_FALSE(
      store_->TryPin({.tenant = TenantIndex{1}, .session = "b", .deadline = Now() + absl::Hours(1)},
                     kScope, Prompt(16, 2), Now(), large.table, large.prefix));
  EXPECT_FALSE(store_->TryAcquire(6, TenantIndex{1}, Now(), large.table));
  EXPECT_TRUE(store_->ForceLeastPin(Now()));
  EXPECT_TRUE(store_->TryAcquire(6, TenantIndex{1}, Now(), large.table));
  EXPECT_FALSE(store_->ForceLeastPin(Now()));
  EXPECT_EQ(store_->pins().num_ended(PinEnd::kForced), 1u);
  store_->CheckInvariants();
}

// What a disk tier found at start, in the store of the next life.
class AdoptionTest : public TieredStoreTest {
 protected:
  AdoptionTest() {
    const OwnerTag tag{.low = 7};
    Make(4, 0, 4, {{.tag = tag}});
    BlockDigest parent = RootDigest(kScope);
    const std::vector<TokenId> tokens = Prompt(48);
    for (int32_t i = 0; i < 3; ++i) {
      BlockIdentity block{.scope = kScope, .parent = parent, .owner = tag, .depth = i};
      std::copy_n(tokens.begin() + i * kBlockTokens, kBlockTokens, block.tokens.begin());
      block.digest = parent = NextDigest(parent, block.tokens);
      blocks_.push_back(block);
    }
  }
  bool Adopt(const BlockIdentity& identity) {
    const TierSlot slot = *medium_->disk.TryReserve();
    const bool taken = store_->AdoptDiskBlock(slot, identity, Now());
    if (!taken) medium_->disk.Drop(slot);
    store_->CheckInvariants();
    return taken;
  }
  std::vector<BlockIdentity> blocks_;
};

TEST_F(AdoptionTest, WhatIsProvenIsFoundAndRestored) {
  for (const BlockIdentity& block : blocks_) EXPECT_TRUE(Adopt(block));
  store_->FinishAdoption();
  EXPECT_EQ(Cached(Prompt(49)), 48);
  EXPECT_EQ(store_->counters().blocks_adopted, 3u);
  Holder holder;
  EXPECT_EQ(Start(Prompt(49), holder)->restoring_blocks, 3);
  Take();
  EXPECT_EQ(medium_->jobs[2].first.identity.digest, blocks_[2].digest);
}

TEST_F(AdoptionTest, WhatIsNotProvenIsRefused) {
  EXPECT_FALSE(Adopt(blocks_[1]));  // its parent is not known
  BlockIdentity changed = blocks_[0];
  ++changed.tokens[3];
  EXPECT_FALSE(Adopt(changed));
  changed = blocks_[0];
  changed.scope[0] = 9;  // the root's digest is of another scope
  EXPECT_FALSE(Adopt(changed));
  changed = blocks_[0];
  changed.owner.low = 8;
  EXPECT_FALSE(Adopt(changed));
  ASSERT_TRUE(Adopt(blocks_[0]));
  EXPECT_FALSE(Adopt(blocks_[0]));  // twice
  changed = blocks_[1];
  changed.depth = 2;
  EXPECT_FALSE(Adopt(changed));
  changed = blocks_[1];
  changed.scope[0] = 9;
  EXPECT_FALSE(Adopt(changed));
  EXPECT_EQ(store_->counters().blocks_refused, 7u);
  EXPECT_EQ(medium_->disk.num_free(), 3);
}

TEST_F(TieredStoreTest, AtTheEndWhatLiesInMemoryAloneIsCopiedToDisk) {
  Make(/*device_blocks=*/6, /*host_slots=*/4, /*disk_slots=*/9);
  Run(Prompt(49, 1));
  PushDown();  // to the host
  Run(Prompt(33, 2));
  Holder third;
  ASSERT_TRUE(Start(Prompt(20, 3), third));
  Compute(Prompt(20, 3), third);
  Release(third);
  EXPECT_TRUE(OnDisk().empty());
  EXPECT_EQ(HandDown(), 6);
  EXPECT_EQ(OnDisk(), (std::set<std::pair<TokenId, int32_t>>{
                          {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {3, 0}}));
}

TEST_F(TieredStoreTest, AtTheEndADiskThatIsSmallGetsWhatWasUsedLastFromItsBeginning) {
  Make(/*device_blocks=*/9, /*host_slots=*/0, /*disk_slots=*/4, {{}, {}}, /*low_water=*/0);
  Run(Prompt(49, 1));
  Run(Prompt(49, 2));
  Run(Prompt(33, 1));  // so that its first two blocks are the newest
  EXPECT_EQ(HandDown(), 4);
  EXPECT_EQ(OnDisk(), (std::set<std::pair<TokenId, int32_t>>{{1, 0}, {1, 1}, {2, 0}, {2, 1}}));
}

TEST_F(TieredStoreTest, AtTheEndWhatIsNewerOnAFullDiskStays) {
  Make(/*device_blocks=*/4, /*host_slots=*/0, /*disk_slots=*/3);
  Run(Prompt(49, 1));
  PushDown();
  Run(Prompt(17, 2));
  EXPECT_EQ(HandDown(), 1);  // in the place of the older one's last block
  EXPECT_EQ(OnDisk(), (std::set<std::pair<TokenId, int32_t>>{{1, 0}, {1, 1}, {2, 0}}));

  Make(/*device_blocks=*/4, /*host_slots=*/0, /*disk_slots=*/1);
  Run(Prompt(17, 1));
  PushDown();
  Run(Prompt(17, 2));
  Holder holder;
  ASSERT_TRUE(Start(Prompt(17, 1), holder));  // used again, and on disk already
  FinishAll();
  ASSERT_EQ(Poll(Prompt(17, 1), holder).state, RestorePoll::State::kReady);
  Release(holder);
  EXPECT_EQ(HandDown(), 0);
  EXPECT_EQ(OnDisk(), (std::set<std::pair<TokenId, int32_t>>{{1, 0}}));
}

TEST_F(TieredStoreTest, AtTheEndADiskThatTakesNothingIsNotWaitedFor) {
  Make(/*device_blocks=*/4, /*host_slots=*/0, /*disk_slots=*/4, {{}, {}}, /*low_water=*/0);
  Run(Prompt(49, 1));
  medium_->disk.Refuse(true);
  EXPECT_EQ(HandDown(), 0);
}

TEST_F(TieredStoreTest, AtTheEndWhatTheDiskTakesForOldButWasUsedSinceStays) {
  Make(/*device_blocks=*/8, /*host_slots=*/0, /*disk_slots=*/2);
  for (TokenId salt : {1, 2}) {
    Run(Prompt(17, salt));
    store_->PlanMoves(Now());
    FinishAll();
  }
  ASSERT_EQ(OnDisk(), (std::set<std::pair<TokenId, int32_t>>{{1, 0}, {2, 0}}));
  Run(Prompt(33, 1));  // its first block is the newest, of which the disk has not heard
  EXPECT_EQ(HandDown(), 1);
  EXPECT_EQ(OnDisk(), (std::set<std::pair<TokenId, int32_t>>{{1, 0}, {1, 1}}));
}

TEST_F(TieredStoreTest, AtTheEndNothingIsCopiedWithoutItsBeginning) {
  Make(/*device_blocks=*/8, /*host_slots=*/0, /*disk_slots=*/4, {{}, {}}, /*low_water=*/0);
  Run(Prompt(49, 1));
  store_->BeginHandDown();
  store_->PlanMoves(Now());
  Take();
  ASSERT_EQ(medium_->jobs.size(), 3u);
  EXPECT_EQ(medium_->jobs[0].first.identity.depth, 0);

  Make(/*device_blocks=*/70, /*host_slots=*/0, /*disk_slots=*/70, {{}, {}}, /*low_water=*/0);
  Run(Prompt(65 * kBlockTokens, 1));  // more than move at a time
  store_->BeginHandDown();
  store_->PlanMoves(Now());
  Take();
  ASSERT_EQ(medium_->jobs.size(), 64u);
  for (int i = 0; i < 64; ++i) Finish(absl::UnavailableError("the disk is broken"));
  store_->PlanMoves(Now());
  Take();
  EXPECT_TRUE(medium_->jobs.empty());
  EXPECT_TRUE(store_->handed_down().ended);
  EXPECT_EQ(store_->handed_down().copied, 0);
  store_->CheckInvariants();
}

}  // namespace
}  // namespace holdfast
