// What may lie in the directory or happen to the medium: nothing of it is believed, and nothing of
// it stops the tier.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>

#include "tests/unit/kvstore/disk_tier_fixture.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;

class DiskTierFaultsTest : public testing::TestWithParam<DiskIoKind> {
 protected:
  void SetUp() override {
    if (auto io = MakeDiskIo(GetParam(), 1); !io.ok()) GTEST_SKIP() << io.status();
  }
  DiskTierOptions Options() { return DiskTestOptions(directory_.path(), 8, 4, GetParam()); }

  // Chains 0 to `count` - 1, in order of place.
  void Write(uint32_t count) {
    auto tier = OpenDiskTier(Options());
    for (uint32_t i = 0; i < count; ++i) {
      ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), i).ok());
    }
  }
  void FlipBit(int64_t offset) {
    std::fstream file(directory_.segments().at(0), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    const int byte = file.get();
    file.seekp(offset);
    file.put(static_cast<char>(byte ^ 1));
  }
  static int64_t Place(int64_t place) { return place * kDiskTestRecordBytes; }

  TestDirectory directory_;
};

TEST_P(DiskTierFaultsTest, AFlippedBitInAHeaderLosesThatBlockAlone) {
  Write(4);
  FlipBit(Place(1) + 100);
  auto tier = OpenDiskTier(Options());
  EXPECT_EQ(tier->recovery().scanned.torn, 1);
  EXPECT_EQ(tier->recovery().scanned.good, 3);
  for (const RecoveredBlock& block : tier->RecoveredBlocks()) {
    EXPECT_NE(ChainOf(block.identity), 1u);
    EXPECT_TRUE(FetchChain(*tier, block.slot, ChainOf(block.identity)).ok());
  }
}

TEST_P(DiskTierFaultsTest, AFlippedBitInAPayloadIsFoundWhenItIsFetched) {
  for (const int64_t place_in_payload : {0, 4999}) {
    TestDirectory fresh;
    Write(3);
    FlipBit(Place(1) + 4096 + place_in_payload);
    auto tier = OpenDiskTier(Options());
    for (const RecoveredBlock& block : tier->RecoveredBlocks()) {
      const uint32_t chain = ChainOf(block.identity);
      EXPECT_EQ(FetchChain(*tier, block.slot, chain).code(),
                chain == 1 ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
    }
    EXPECT_EQ(tier->counters().fetches_unproven, 1u);
    tier.reset();
    for (const fs::path& path : directory_.segments()) fs::remove(path);
  }
}

TEST_P(DiskTierFaultsTest, AFlippedBitIsNotCarriedOnByCompaction) {
  DiskTierOptions options = DiskTestOptions(directory_.path(), 4, 4, GetParam());
  auto tier = OpenDiskTier(options);
  std::vector<TierSlot> slots;
  for (uint32_t i = 0; i < 10; ++i) {
    slots.push_back(*tier->TryReserve());
    ASSERT_TRUE(PutChain(*tier, slots.back(), i).ok());
  }
  FlipBit(Place(1) + 5000);
  for (const uint32_t dropped : {0, 2, 4}) tier->Drop(slots[dropped]);
  for (uint32_t i = 10; i < 13; ++i) {
    ASSERT_TRUE(PutChain(*tier, *tier->TryReserve(), i).ok());
  }
  EXPECT_EQ(tier->counters().blocks_lost_in_compaction, 1u);
  EXPECT_TRUE(absl::IsDataLoss(FetchChain(*tier, slots[1], 1)));
  EXPECT_TRUE(FetchChain(*tier, slots[3], 3).ok());
  tier->Drop(slots[1]);  // as the store does after a loss
}

TEST_P(DiskTierFaultsTest, ATruncatedFileGivesTheBlocksThatAreWhole) {
  for (const int64_t bytes : {Place(2) + 4096 + 100, Place(2) + 4096, Place(2) + 50, Place(2)}) {
    SCOPED_TRACE(bytes);
    for (const fs::path& path : directory_.segments()) fs::remove(path);
    Write(4);
    fs::resize_file(directory_.segments().at(0), static_cast<uintmax_t>(bytes));
    auto tier = OpenDiskTier(Options());
    EXPECT_EQ(tier->recovery().scanned.good, 2);
    EXPECT_EQ(tier->recovery().scanned.torn, bytes >= Place(2) + 4096 ? 1 : 0);
    for (const RecoveredBlock& block : tier->RecoveredBlocks()) {
      EXPECT_TRUE(FetchChain(*tier, block.slot, ChainOf(block.identity)).ok());
    }
  }
}

// The file is cut off while the tier has it open.
TEST_P(DiskTierFaultsTest, ATruncationUnderTheRunningTierIsDataLoss) {
  auto tier = OpenDiskTier(Options());
  const TierSlot slot = *tier->TryReserve();
  ASSERT_TRUE(PutChain(*tier, slot, 0).ok());
  fs::resize_file(directory_.segments().at(0), 4096);
  EXPECT_TRUE(absl::IsDataLoss(FetchChain(*tier, slot, 0)));
}

// Their blocks are still read by the open files, and the room of those that leave is had again.
TEST_P(DiskTierFaultsTest, FilesThatSomebodyDeletedUnderTheRunningTierCostNoRoomForEver) {
  auto tier = OpenDiskTier(Options());
  std::vector<TierSlot> slots;
  uint32_t chain = 0;
  while (const std::optional<TierSlot> slot = tier->TryReserve()) {
    ASSERT_TRUE(PutChain(*tier, *slot, chain++).ok());
    slots.push_back(*slot);
  }
  for (const fs::path& path : directory_.segments()) fs::remove(path);
  for (uint32_t i = 0; i < slots.size(); ++i) {
    ASSERT_TRUE(FetchChain(*tier, slots[i], i).ok());
    tier->Drop(slots[i]);
  }
  for (uint32_t i = 0; i < slots.size(); ++i) {
    const TierSlot slot = *tier->TryReserve();
    ASSERT_TRUE(PutChain(*tier, slot, i).ok());
    EXPECT_TRUE(FetchChain(*tier, slot, i).ok());
  }
}

TEST_P(DiskTierFaultsTest, FilesOfNoLengthAndOfNoiseAreRemoved) {
  fs::create_directories(directory_.path());
  std::ofstream(directory_.path() + "/" + SegmentFileName(3)).flush();
  const std::vector<std::byte> noise = TestBytes(1, 3 * kDiskTestRecordBytes);
  std::ofstream(directory_.path() + "/" + SegmentFileName(4), std::ios::binary)
      .write(reinterpret_cast<const char*>(noise.data()),
             static_cast<std::streamsize>(noise.size()));
  auto tier = OpenDiskTier(Options());
  EXPECT_EQ(tier->recovery().segments, 2);
  EXPECT_EQ(tier->recovery().segments_removed, 2);
  EXPECT_EQ(tier->recovery().scanned.torn, 3);
  EXPECT_TRUE(directory_.segments().empty());
  EXPECT_TRUE(PutChain(*tier, *tier->TryReserve(), 0).ok());
}

TEST_P(DiskTierFaultsTest, FilesOfOthersAreLeftAloneAndNamed) {
  std::ofstream(directory_.path() + "/notes.txt") << "mine";
  std::ofstream(directory_.path() + "/segment-1.hfkv") << "not our way to write a number";
  fs::create_directory(directory_.path() + "/" + SegmentFileName(7));
  fs::create_symlink("/etc/passwd", directory_.path() + "/" + SegmentFileName(8));
  auto tier = OpenDiskTier(Options());
  EXPECT_TRUE(fs::exists(directory_.path() + "/notes.txt"));
  EXPECT_TRUE(fs::exists(directory_.path() + "/segment-1.hfkv"));
  EXPECT_TRUE(fs::is_directory(directory_.path() + "/" + SegmentFileName(7)));
  EXPECT_TRUE(fs::is_symlink(directory_.path() + "/" + SegmentFileName(8)));
  EXPECT_EQ(tier->recovery().warnings.size(), 4u);
  for (const char* name : {"notes.txt", "segment-1.hfkv", "0007.hfkv", "0008.hfkv"}) {
    EXPECT_TRUE(std::ranges::any_of(tier->recovery().warnings, [&](const std::string& warning) {
      return warning.find(name) != std::string::npos;
    })) << name;
  }
  EXPECT_TRUE(PutChain(*tier, *tier->TryReserve(), 0).ok());
}

TEST_P(DiskTierFaultsTest, WarningsHaveABound) {
  for (int i = 0; i < 100; ++i) {
    std::ofstream(directory_.path() + "/other-" + std::to_string(i)).flush();
  }
  EXPECT_EQ(OpenDiskTier(Options())->recovery().warnings.size(), 17u);
}

TEST_P(DiskTierFaultsTest, BlocksOfAnotherModelOrLayoutAreCountedAndDropped) {
  for (const size_t block_bytes : {kDiskTestBlockBytes, size_t{20'000}}) {  // same size; another
    SCOPED_TRACE(block_bytes);
    DiskTierOptions other = Options();
    other.layout.fill(1);
    other.block_bytes = block_bytes;
    other.bytes_max *= 4;
    {
      auto tier = OpenDiskTier(other);
      for (uint32_t i = 0; i < 3; ++i) {
        const BlockIdentity identity = TestIdentity(i);
        std::vector<std::byte> bytes = TestBytes(i, block_bytes);
        TierTransfer transfer{.slot = *tier->TryReserve(), .identity = &identity, .bytes = bytes};
        tier->Put({&transfer, 1});
        ASSERT_TRUE(transfer.status.ok());
      }
    }
    auto tier = OpenDiskTier(Options());
    EXPECT_EQ(tier->recovery().scanned.other_layout, 3);
    EXPECT_EQ(tier->recovery().scanned.good, 0);
    EXPECT_TRUE(tier->RecoveredBlocks().empty());
    EXPECT_EQ(tier->num_free(), tier->capacity());
  }
}

TEST_P(DiskTierFaultsTest, BlocksOfAnotherVersionAreCountedAndDropped) {
  Write(2);
  FlipBit(Place(0) + 8);
  auto tier = OpenDiskTier(Options());
  EXPECT_EQ(tier->recovery().scanned.other_version, 1);
  EXPECT_EQ(tier->recovery().scanned.good, 1);
}

TEST_P(DiskTierFaultsTest, TwoDaemonsNeverShareADirectory) {
  auto tier = OpenDiskTier(Options());
  const auto second = DiskTier::Open(Options());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find("used by another daemon"), absl::string_view::npos)
      << second.status();
  tier.reset();
  EXPECT_TRUE(DiskTier::Open(Options()).ok());
}

TEST_P(DiskTierFaultsTest, ADirectoryThatCannotBeUsedIsAClearError) {
  const auto error = [&](const std::string& directory) {
    DiskTierOptions options = Options();
    options.directory = directory;
    return DiskTier::Open(options).status();
  };
  std::ofstream(directory_.path() + "/file").flush();
  for (const std::string& path : {directory_.path() + "/file", directory_.path() + "/no/parent",
                                  std::string("/proc/holdfast"), std::string("/proc/self")}) {
    const absl::Status status = error(path);
    EXPECT_FALSE(status.ok()) << path;
    EXPECT_NE(status.message().find(path), absl::string_view::npos) << status;
  }
  EXPECT_NE(error("/proc/self").message().find("cannot be written"), absl::string_view::npos)
      << error("/proc/self");

  DiskTierOptions tiny = Options();
  tiny.bytes_max = 4 * kDiskTestRecordBytes - 1;
  EXPECT_EQ(DiskTier::Open(tiny).status().code(), absl::StatusCode::kInvalidArgument);
}

// A file size limit stands for a full disk.
TEST_P(DiskTierFaultsTest, AFullDiskFailsThePutsAndTheTierGoesOnWhenThereIsRoomAgain) {
  auto tier = OpenDiskTier(Options());
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tiny = old;
  tiny.rlim_cur = 8192;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tiny), 0);
  const TierSlot slot = *tier->TryReserve();
  const absl::Status full = PutChain(*tier, slot, 0);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_TRUE(directory_.segments().empty()) << "a file that did not get its bytes is undone";
  EXPECT_EQ(tier->counters().puts_failed, 1u);
  tier->Drop(slot);
  const TierSlot again = *tier->TryReserve();
  EXPECT_TRUE(PutChain(*tier, again, 0).ok());
  EXPECT_TRUE(FetchChain(*tier, again, 0).ok());
}

INSTANTIATE_TEST_SUITE_P(Kinds, DiskTierFaultsTest,
                         testing::Values(DiskIoKind::kUring, DiskIoKind::kThreads), DiskIoName);

}  // namespace
}  // namespace holdfast
