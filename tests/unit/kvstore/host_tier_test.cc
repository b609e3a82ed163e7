#include "kvstore/host_tier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "kvstore/block_checksum.h"
#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {
namespace {

constexpr size_t kBlockBytes = 10'000;  // not a whole number of pages

constexpr int32_t kLayers = 5;

std::unique_ptr<HostTier> MakeTier(int32_t slots, int32_t num_layers = kLayers) {
  auto tier = HostTier::Create(int64_t{slots} * 12288, kBlockBytes, num_layers);
  EXPECT_TRUE(tier.ok()) << tier.status();
  return *std::move(tier);
}

absl::Status PutOne(Tier& tier, TierSlot slot, const BlockIdentity& identity,
                    std::vector<std::byte> bytes) {
  TierTransfer transfer{.slot = slot, .identity = &identity, .bytes = bytes};
  tier.Put({&transfer, 1});
  return transfer.status;
}

absl::Status FetchOne(Tier& tier, TierSlot slot, const BlockIdentity& identity,
                      std::vector<std::byte>& bytes) {
  bytes.assign(kBlockBytes, std::byte{0});
  TierTransfer transfer{.slot = slot, .identity = &identity, .bytes = bytes};
  tier.Fetch({&transfer, 1});
  return transfer.status;
}

TEST(BlockChecksumTest, CopyingGivesTheSameChecksumAsHashingForAllOddSizes) {
  for (const size_t size : {0, 1, 4095, 8191, 8192, 8193, 16384, 100'001}) {
    const std::vector<std::byte> from = TestBytes(size, size);
    std::vector<std::byte> to(size);
    EXPECT_EQ(CopyWithChecksum(to, from), BlockChecksum(from)) << size;
    EXPECT_EQ(to, from);
  }
}

// The value is written to disk and sent to other machines: it may never change.
TEST(BlockChecksumTest, IsXxh3) {
  EXPECT_EQ(BlockChecksum({}), 0x2D06800538D394C2u);  // xxHash's specification, empty input
}

TEST(HostTierTest, TakesAsManyBlocksAsFitAndRefusesTooLittle) {
  EXPECT_EQ(MakeTier(3)->capacity(), 3);
  auto none = HostTier::Create(12287, kBlockBytes);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(none.status().message().find("12288"), absl::string_view::npos) << none.status();
}

TEST(HostTierTest, ARestoredBlockHasTheBytesThatWerePut) {
  auto tier = MakeTier(2);
  const BlockIdentity identity = TestIdentity(1);
  const TierSlot slot = *tier->TryReserve();
  ASSERT_TRUE(PutOne(*tier, slot, identity, TestBytes(1, kBlockBytes)).ok());
  std::vector<std::byte> bytes;
  ASSERT_TRUE(FetchOne(*tier, slot, identity, bytes).ok());
  EXPECT_EQ(bytes, TestBytes(1, kBlockBytes));
}

TEST(HostTierTest, AFlippedBitIsDataLossWhereverItIs) {
  auto tier = MakeTier(1);
  const BlockIdentity identity = TestIdentity(1);
  const TierSlot slot = *tier->TryReserve();
  ASSERT_TRUE(PutOne(*tier, slot, identity, TestBytes(1, kBlockBytes)).ok());
  std::vector<std::byte> bytes;
  for (const size_t place : {size_t{0}, size_t{8192}, kBlockBytes - 1}) {
    tier->View(slot)[place] ^= std::byte{4};
    EXPECT_EQ(FetchOne(*tier, slot, identity, bytes).code(), absl::StatusCode::kDataLoss);
    tier->View(slot)[place] ^= std::byte{4};
    EXPECT_TRUE(FetchOne(*tier, slot, identity, bytes).ok());
  }
}

TEST(HostTierTest, LayersThatHaveChangedPlacesAreDataLoss) {
  auto tier = MakeTier(2);
  const BlockIdentity first = TestIdentity(1), second = TestIdentity(2);
  const TierSlot a = *tier->TryReserve(), b = *tier->TryReserve();
  ASSERT_TRUE(PutOne(*tier, a, first, TestBytes(1, kBlockBytes)).ok());
  ASSERT_TRUE(PutOne(*tier, b, second, TestBytes(2, kBlockBytes)).ok());
  constexpr ptrdiff_t kLayerBytes = kBlockBytes / kLayers;
  std::vector<std::byte> bytes;
  const auto in_a = tier->View(a).begin();
  std::swap_ranges(in_a, in_a + kLayerBytes, in_a + kLayerBytes);  // within the block
  EXPECT_EQ(FetchOne(*tier, a, first, bytes).code(), absl::StatusCode::kDataLoss);
  std::swap_ranges(in_a, in_a + kLayerBytes, in_a + kLayerBytes);
  EXPECT_TRUE(FetchOne(*tier, a, first, bytes).ok());
  std::swap_ranges(in_a, in_a + kLayerBytes, tier->View(b).begin());  // with another's
  EXPECT_EQ(FetchOne(*tier, a, first, bytes).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(FetchOne(*tier, b, second, bytes).code(), absl::StatusCode::kDataLoss);
}

TEST(HostTierTest, ALayerComesAloneAndLeavesTheOthersPlacesAlone) {
  auto tier = MakeTier(1);
  const BlockIdentity identity = TestIdentity(1);
  const TierSlot slot = *tier->TryReserve();
  const std::vector<std::byte> put = TestBytes(1, kBlockBytes);
  ASSERT_TRUE(PutOne(*tier, slot, identity, put).ok());
  std::vector<std::byte> bytes(kBlockBytes), expected(kBlockBytes);
  TierTransfer transfer{.slot = slot, .identity = &identity, .bytes = bytes};
  constexpr size_t kLayerBytes = kBlockBytes / kLayers;
  for (int32_t layer = 0; layer < tier->num_layers(); ++layer) {
    const size_t begin = static_cast<size_t>(layer) * kLayerBytes;
    std::copy_n(put.begin() + static_cast<ptrdiff_t>(begin), kLayerBytes,
                expected.begin() + static_cast<ptrdiff_t>(begin));
    tier->FetchLayer({&transfer, 1}, layer);
    ASSERT_TRUE(transfer.status.ok()) << transfer.status;
    ASSERT_EQ(bytes, expected) << "layer " << layer;
  }
}

TEST(HostTierTest, ABlockThatFailsInOneLayerStaysFailedAndHarmsNoOther) {
  auto tier = MakeTier(3);
  std::vector<BlockIdentity> identities;
  std::vector<std::vector<std::byte>> bytes(3, std::vector<std::byte>(kBlockBytes));
  std::vector<TierTransfer> transfers;
  for (uint32_t i = 0; i < 3; ++i) identities.push_back(TestIdentity(i));
  for (uint32_t i = 0; i < 3; ++i) {
    const TierSlot slot = *tier->TryReserve();
    ASSERT_TRUE(PutOne(*tier, slot, identities[i], TestBytes(i, kBlockBytes)).ok());
    transfers.push_back({.slot = slot, .identity = &identities[i], .bytes = bytes[i]});
  }
  constexpr int32_t kBadLayer = 2;
  tier->View(transfers[1].slot)[kBadLayer * kBlockBytes / kLayers + 9] ^= std::byte{1};
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    tier->FetchLayer(transfers, layer);
    EXPECT_TRUE(transfers[0].status.ok() && transfers[2].status.ok());
    EXPECT_EQ(transfers[1].status.ok(), layer < kBadLayer) << "layer " << layer;
  }
  EXPECT_EQ(bytes[0], TestBytes(0, kBlockBytes));
  EXPECT_EQ(bytes[2], TestBytes(2, kBlockBytes));
}

TEST(HostTierTest, WholeBlocksNeedNoLayers) {
  auto tier = MakeTier(1, /*num_layers=*/1);
  const BlockIdentity identity = TestIdentity(3);
  const TierSlot slot = *tier->TryReserve();
  ASSERT_TRUE(PutOne(*tier, slot, identity, TestBytes(3, kBlockBytes)).ok());
  std::vector<std::byte> bytes(kBlockBytes);
  TierTransfer transfer{.slot = slot, .identity = &identity, .bytes = bytes};
  tier->FetchLayer({&transfer, 1}, 0);
  EXPECT_TRUE(transfer.status.ok());
  EXPECT_EQ(bytes, TestBytes(3, kBlockBytes));
}

TEST(HostTierTest, ASlotAnswersForNoOtherBlock) {
  auto tier = MakeTier(2);
  const TierSlot slot = *tier->TryReserve();
  ASSERT_TRUE(PutOne(*tier, slot, TestIdentity(1), TestBytes(1, kBlockBytes)).ok());
  std::vector<std::byte> bytes;
  for (const BlockIdentity& other :
       {TestIdentity(2), TestIdentity(1, 1), TestIdentity(1, 0, /*scope=*/2)}) {
    EXPECT_EQ(FetchOne(*tier, slot, other, bytes).code(), absl::StatusCode::kDataLoss);
  }
  // Dropped and lent again, it holds nothing.
  tier->Drop(slot);
  const TierSlot again = *tier->TryReserve();
  EXPECT_EQ(FetchOne(*tier, again, TestIdentity(1), bytes).code(), absl::StatusCode::kDataLoss);
}

TEST(HostTierTest, AgreesWithAMapOnRandomWalks) {
  constexpr int32_t kSlots = 6;
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    auto tier = MakeTier(kSlots);
    std::map<TierSlot, uint32_t> model;  // slot: chain, which is also the seed of the bytes
    uint32_t next_chain = 0;
    for (int step = 0; step < 200; ++step) {
      ASSERT_EQ(tier->num_free(), kSlots - static_cast<int32_t>(model.size()));
      const uint32_t choice = rng() % 3;
      if (choice == 0) {
        const std::optional<TierSlot> slot = tier->TryReserve();
        ASSERT_EQ(slot.has_value(), model.size() < kSlots);
        if (!slot.has_value()) continue;
        ASSERT_FALSE(model.contains(*slot));
        model[*slot] = ++next_chain;
        ASSERT_TRUE(
            PutOne(*tier, *slot, TestIdentity(next_chain), TestBytes(next_chain, kBlockBytes))
                .ok());
      } else if (!model.empty()) {
        auto entry = std::next(model.begin(), rng() % model.size());
        if (choice == 1) {
          std::vector<std::byte> bytes;
          ASSERT_TRUE(FetchOne(*tier, entry->first, TestIdentity(entry->second), bytes).ok());
          ASSERT_EQ(bytes, TestBytes(entry->second, kBlockBytes));
        } else {
          tier->Drop(entry->first);
          model.erase(entry);
        }
      }
    }
  }
}

}  // namespace
}  // namespace holdfast
