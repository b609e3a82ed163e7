#include "kvstore/disk_tier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "config/base/page_buffer.h"
#include "tests/unit/kvstore/disk_tier_fixture.h"

namespace holdfast {
namespace {

class DiskTierTest : public testing::TestWithParam<DiskIoKind> {
 protected:
  void SetUp() override {
    if (auto io = MakeDiskIo(GetParam(), 1); !io.ok()) GTEST_SKIP() << io.status();
  }
  DiskTierOptions Options(int32_t segments, int32_t places) {
    return DiskTestOptions(directory_.path(), segments, places, GetParam());
  }
  TestDirectory directory_;
};

TEST_P(DiskTierTest, ABlockComesBackAlsoAfterARestart) {
  TierSlot slot{};
  {
    auto tier = OpenDiskTier(Options(4, 4));
    slot = *tier->TryReserve();
    ASSERT_TRUE(PutChain(*tier, slot, 5).ok());
    EXPECT_TRUE(FetchChain(*tier, slot, 5).ok());
  }
  auto tier = OpenDiskTier(Options(4, 4));
  const std::vector<RecoveredBlock> found = tier->RecoveredBlocks();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].identity.digest, TestIdentity(5).digest);
  EXPECT_EQ(found[0].identity.tokens, TestIdentity(5).tokens);
  EXPECT_EQ(found[0].identity.owner, TestIdentity(5).owner);
  EXPECT_TRUE(FetchChain(*tier, found[0].slot, 5).ok());
  EXPECT_EQ(tier->num_free(), tier->capacity() - 1);
  EXPECT_TRUE(tier->RecoveredBlocks().empty());
}

TEST_P(DiskTierTest, CallersNeedNotAlignTheirBytesAndBlocksNeedNotBeWholePages) {
  for (const size_t block_bytes :
       {size_t{1}, size_t{4095}, size_t{4096}, size_t{8192}, size_t{9000}}) {
    SCOPED_TRACE(block_bytes);
    TestDirectory directory;
    DiskTierOptions options = DiskTestOptions(directory.path(), 4, 4, GetParam());
    options.block_bytes = block_bytes;
    options.bytes_max = 1 << 20;
    auto tier = OpenDiskTier(options);
    auto memory = PageBuffer::Map(32768);
    for (const size_t shift : {0, 1, 64, 4000}) {
      const std::span<std::byte> bytes(memory->data() + shift, block_bytes);
      FillTestBytes(shift, bytes);
      const BlockIdentity identity = TestIdentity(static_cast<uint32_t>(shift));
      TierTransfer transfer{.slot = *tier->TryReserve(), .identity = &identity, .bytes = bytes};
      tier->Put({&transfer, 1});
      ASSERT_TRUE(transfer.status.ok()) << transfer.status;
      for (const size_t other_shift : {0, 3}) {
        transfer.bytes = {memory->data() + 16384 + other_shift, block_bytes};
        tier->Fetch({&transfer, 1});
        ASSERT_TRUE(transfer.status.ok()) << transfer.status;
        ASSERT_TRUE(std::ranges::equal(transfer.bytes, bytes));
      }
    }
  }
}

// Else slots without a place on the disk would look free, and nothing would make room for what
// comes.
TEST_P(DiskTierTest, ALimitBeyondWhatTheDiskHasIsTakenForWhatItHas) {
  DiskTierOptions options = Options(4, 4);
  options.block_bytes = 4 << 20;
  options.bytes_max = int64_t{1} << 60;
  options.segment_bytes = 0;
  auto tier = OpenDiskTier(options);
  EXPECT_LT(tier->capacity(), options.bytes_max / (4 << 20) / 2);
  ASSERT_EQ(tier->recovery().warnings.size(), 1u);
  EXPECT_NE(tier->recovery().warnings[0].find("room for"), std::string::npos);
}

TEST_P(DiskTierTest, ASlotAnswersForNoOtherBlock) {
  auto tier = OpenDiskTier(Options(4, 4));
  const TierSlot slot = *tier->TryReserve();
  EXPECT_TRUE(absl::IsDataLoss(FetchChain(*tier, slot, 5)));  // nothing was put
  ASSERT_TRUE(PutChain(*tier, slot, 5).ok());
  EXPECT_TRUE(absl::IsDataLoss(FetchChain(*tier, slot, 6)));
  EXPECT_TRUE(absl::IsDataLoss(FetchChain(*tier, slot, 5, /*depth=*/1)));
  tier->Drop(slot);
  EXPECT_TRUE(absl::IsDataLoss(FetchChain(*tier, *tier->TryReserve(), 5)));
}

TEST_P(DiskTierTest, OneCallMayBringMoreBlocksThanASegmentHasPlaces) {
  auto tier = OpenDiskTier(Options(8, 3));
  std::vector<BlockIdentity> identities;
  std::vector<std::vector<std::byte>> bytes;
  for (uint32_t i = 0; i < 10; ++i) {
    identities.push_back(TestIdentity(i));
    bytes.push_back(TestBytes(i, kDiskTestBlockBytes));
  }
  std::vector<TierTransfer> transfers;
  for (size_t i = 0; i < 10; ++i) {
    transfers.push_back(
        {.slot = *tier->TryReserve(), .identity = &identities[i], .bytes = bytes[i]});
  }
  tier->Put(transfers);
  for (uint32_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(transfers[i].status.ok());
    ASSERT_TRUE(FetchChain(*tier, transfers[i].slot, i).ok());
  }
}

TEST_P(DiskTierTest, FullIsAnAnswerAndTheLimitHoldsToTheLastBlock) {
  auto tier = OpenDiskTier(Options(4, 4));
  EXPECT_EQ(tier->capacity(), 3 * 4 * 7 / 8);  // one segment for compaction, an eighth not lent
  std::vector<TierSlot> slots;
  while (const std::optional<TierSlot> slot = tier->TryReserve()) {
    ASSERT_TRUE(PutChain(*tier, *slot, static_cast<uint32_t>(slots.size())).ok());
    slots.push_back(*slot);
  }
  EXPECT_EQ(static_cast<int32_t>(slots.size()), tier->capacity());
  EXPECT_LE(directory_.segment_bytes(), Options(4, 4).bytes_max);
  for (uint32_t i = 0; i < slots.size(); ++i) ASSERT_TRUE(FetchChain(*tier, slots[i], i).ok());
}

TEST_P(DiskTierTest, ASegmentGoesWhenItsLastBlockIsDropped) {
  auto tier = OpenDiskTier(Options(8, 2));
  std::vector<TierSlot> slots;
  for (uint32_t i = 0; i < 5; ++i) {
    slots.push_back(*tier->TryReserve());
    ASSERT_TRUE(PutChain(*tier, slots[i], i).ok());
  }
  ASSERT_EQ(directory_.segments().size(), 3u);
  tier->Drop(slots[0]);
  tier->Drop(slots[1]);
  ASSERT_TRUE(FetchChain(*tier, slots[2], 2).ok());  // a mover's call does the removing
  EXPECT_EQ(directory_.segments().size(), 2u);
  EXPECT_EQ(tier->bytes_used(), directory_.segment_bytes());
}

// Dropping at random leaves every segment half dead: only compaction makes room.
TEST_P(DiskTierTest, CompactionMakesRoomAndKeepsEveryLiveBlock) {
  const DiskTierOptions options = Options(5, 8);
  auto tier = OpenDiskTier(options);
  std::mt19937 rng(7);
  std::map<TierSlot, uint32_t> live;
  for (uint32_t chain = 0; chain < 300; ++chain) {
    if (tier->num_free() == 0) {
      auto victim = std::next(live.begin(), rng() % live.size());
      tier->Drop(victim->first);
      live.erase(victim);
    }
    const TierSlot slot = *tier->TryReserve();
    ASSERT_TRUE(PutChain(*tier, slot, chain).ok());
    live[slot] = chain;
    ASSERT_LE(directory_.segment_bytes(), options.bytes_max);
  }
  EXPECT_GT(tier->counters().blocks_compacted, 0u);
  EXPECT_EQ(tier->counters().blocks_lost_in_compaction, 0u);
  for (const auto& [slot, chain] : live) ASSERT_TRUE(FetchChain(*tier, slot, chain).ok());
}

TEST_P(DiskTierTest, RecoveredBlocksComeParentsFirstAndTheRefusedGo) {
  {
    auto tier = OpenDiskTier(Options(8, 4));
    for (const int32_t depth : {2, 0, 1}) {  // as eviction brings them: in any order
      ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), 3, depth).ok());
    }
  }
  auto tier = OpenDiskTier(Options(8, 4));
  const std::vector<RecoveredBlock> found = tier->RecoveredBlocks();
  ASSERT_EQ(found.size(), 3u);
  for (int32_t depth = 0; depth < 3; ++depth) {
    EXPECT_EQ(found[static_cast<size_t>(depth)].identity.depth, depth);
  }
  for (const RecoveredBlock& block : found) tier->Drop(block.slot);
  ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), 1).ok());  // and with it the segment is removed
  EXPECT_EQ(directory_.segments().size(), 1u);
  EXPECT_EQ(tier->num_free(), tier->capacity() - 1);
}

TEST_P(DiskTierTest, OfTwoRecordsOfABlockTheNewerWins) {
  {
    auto tier = OpenDiskTier(Options(8, 2));
    const TierSlot first = *tier->TryReserve();
    ASSERT_TRUE(PutChain(*tier, first, 1).ok());
    tier->Drop(first);
    ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), 1).ok());
    ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), 2).ok());
  }
  auto tier = OpenDiskTier(Options(8, 2));
  EXPECT_EQ(tier->recovery().duplicate, 1);
  EXPECT_EQ(tier->RecoveredBlocks().size(), 2u);
}

TEST_P(DiskTierTest, ASmallerLimitIsKeptFromTheStart) {
  {
    auto tier = OpenDiskTier(Options(16, 2));
    for (uint32_t i = 0; i < 20; ++i) {
      ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), i).ok());
    }
  }
  auto tier = OpenDiskTier(Options(5, 2));
  EXPECT_LE(directory_.segment_bytes(), Options(5, 2).bytes_max);
  EXPECT_GT(tier->recovery().over_capacity, 0);
  const std::vector<RecoveredBlock> found = tier->RecoveredBlocks();
  EXPECT_EQ(static_cast<int32_t>(found.size()), tier->capacity());
  for (const RecoveredBlock& block : found) {
    ASSERT_TRUE(FetchChain(*tier, block.slot, ChainOf(block.identity)).ok());
  }
}

TEST_P(DiskTierTest, OtherSegmentSizesAreReadAndBroughtToTheNewOne) {
  for (const int32_t places : {2, 8}) {
    TestDirectory directory;
    {
      auto tier = OpenDiskTier(DiskTestOptions(directory.path(), 8, 4, GetParam()));
      for (uint32_t i = 0; i < 6; ++i) {
        ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), i).ok());
      }
    }
    auto tier = OpenDiskTier(DiskTestOptions(directory.path(), 8, places, GetParam()));
    EXPECT_EQ(directory.segment_bytes(), 2 * places * kDiskTestRecordBytes);
    const std::vector<RecoveredBlock> found = tier->RecoveredBlocks();
    EXPECT_EQ(found.size(), places == 2 ? 4u : 6u);
    for (const RecoveredBlock& block : found) {
      ASSERT_TRUE(FetchChain(*tier, block.slot, ChainOf(block.identity)).ok());
    }
  }
}

TEST_P(DiskTierTest, SyncingAtTheEndOfSegmentsChangesNothingElse) {
  DiskTierOptions options = Options(5, 2);
  options.sync = DiskSync::kSegmentEnd;
  auto tier = OpenDiskTier(options);
  std::vector<TierSlot> slots;
  for (uint32_t i = 0; i < 30; ++i) {
    if (tier->num_free() == 0) {
      tier->Drop(slots.front());
      slots.erase(slots.begin());
    }
    slots.push_back(*tier->TryReserve());
    ASSERT_TRUE(PutChain(*tier, slots.back(), i).ok());
  }
  EXPECT_EQ(tier->counters().syncs_failed, 0u);
  EXPECT_TRUE(FetchChain(*tier, slots.back(), 29).ok());
}

// Beside a map from slot to chain; with restarts, after which what the map holds must be there
// unless so many dropped records came back with it that the limit cut some off.
TEST_P(DiskTierTest, AgreesWithAMapOnRandomWalksWithRestarts) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TestDirectory directory;
    std::mt19937 rng(seed);
    const DiskTierOptions options =
        DiskTestOptions(directory.path(), 4 + static_cast<int32_t>(rng() % 4),
                        1 + static_cast<int32_t>(rng() % 6), GetParam());
    auto tier = OpenDiskTier(options);
    std::map<TierSlot, uint32_t> model;
    uint32_t next_chain = 0;
    for (int step = 0; step < 300; ++step) {
      ASSERT_EQ(tier->num_free(), tier->capacity() - static_cast<int32_t>(model.size()));
      ASSERT_LE(directory.segment_bytes(), options.bytes_max);
      const uint32_t choice = rng() % 100;
      if (choice < 45) {
        const std::optional<TierSlot> slot = tier->TryReserve();
        ASSERT_EQ(slot.has_value(), static_cast<int32_t>(model.size()) < tier->capacity());
        if (!slot.has_value()) continue;
        ASSERT_FALSE(model.contains(*slot));
        ASSERT_TRUE(PutChain(*tier, *slot, next_chain).ok());
        model[*slot] = next_chain++;
      } else if (choice < 97) {
        if (model.empty()) continue;
        auto entry = std::next(model.begin(), rng() % model.size());
        ASSERT_TRUE(FetchChain(*tier, entry->first, entry->second).ok());
        if (choice < 75) continue;
        tier->Drop(entry->first);
        model.erase(entry);
      } else {
        tier.reset();
        tier = OpenDiskTier(options);
        std::set<uint32_t> wanted;
        for (const auto& [slot, chain] : model) wanted.insert(chain);
        model.clear();
        for (const RecoveredBlock& block : tier->RecoveredBlocks()) {
          const uint32_t chain = ChainOf(block.identity);
          ASSERT_LT(chain, next_chain);
          if (wanted.erase(chain) > 0) {
            model[block.slot] = chain;
          } else {
            tier->Drop(block.slot);
          }
        }
        if (tier->recovery().over_capacity == 0) {
          ASSERT_TRUE(wanted.empty());
        }
      }
    }
  }
}

// Movers put and fetch, the store's thread drops, all at once; compaction runs under them.
TEST_P(DiskTierTest, ThreadsPutFetchAndDropWhileSegmentsAreCompacted) {
  const DiskTierOptions options = Options(5, 4);
  auto tier = OpenDiskTier(options);
  constexpr int kThreads = 3;
  constexpr uint32_t kRounds = 150;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 rng(static_cast<uint32_t>(t));
      std::vector<std::pair<TierSlot, uint32_t>> mine;
      for (uint32_t round = 0; round < kRounds; ++round) {
        const uint32_t chain = static_cast<uint32_t>(t) * kRounds + round;
        const std::optional<TierSlot> slot = tier->TryReserve();
        if (slot.has_value()) {
          if (!PutChain(*tier, *slot, chain).ok()) ++wrong;
          mine.emplace_back(*slot, chain);
        }
        if (!mine.empty()) {
          const size_t i = rng() % mine.size();
          if (!FetchChain(*tier, mine[i].first, mine[i].second).ok()) ++wrong;
          if (!slot.has_value() || rng() % 3 == 0) {
            tier->Drop(mine[i].first);
            mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(i));
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(directory_.segment_bytes(), options.bytes_max);
}

INSTANTIATE_TEST_SUITE_P(Kinds, DiskTierTest,
                         testing::Values(DiskIoKind::kUring, DiskIoKind::kThreads), DiskIoName);

}  // namespace
}  // namespace holdfast
