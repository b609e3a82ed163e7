#include "kvstore/host_tier.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "kvstore/block_checksum.h"
#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {
namespace {

constexpr size_t kBlockBytes = 10'000;  // not a whole number of pages

std::unique_ptr<HostTier> MakeTier(int32_t slots) {
  auto tier = HostTier::Create(int64_t{slots} * 12288, kBlockBytes);
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
