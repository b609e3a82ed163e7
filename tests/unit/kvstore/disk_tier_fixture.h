// What the tests of the disk tier share: small segments, one block at a time, both kinds of I/O.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kvstore/disk_tier.h"
#include "tests/unit/kvstore/test_directory.h"
#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {

inline constexpr size_t kDiskTestBlockBytes = 5000;     // two pages, the second in part
inline constexpr int64_t kDiskTestRecordBytes = 12288;  // with the header's page

inline DiskTierOptions DiskTestOptions(const std::string& directory, int32_t segments,
                                       int32_t places, DiskIoKind io = DiskIoKind::kAuto) {
  DiskTierOptions options{.directory = directory,
                          .bytes_max = segments * places * kDiskTestRecordBytes,
                          .block_bytes = kDiskTestBlockBytes,
                          .io = io,
                          .io_depth = 4,
                          .segment_bytes = places * kDiskTestRecordBytes};
  options.layout.fill(9);
  return options;
}

inline std::unique_ptr<DiskTier> OpenDiskTier(const DiskTierOptions& options) {
  auto tier = DiskTier::Open(options);
  EXPECT_TRUE(tier.ok()) << tier.status();
  return tier.ok() ? *std::move(tier) : nullptr;
}

// Puts block `chain`, whose bytes are made of `chain` too.
inline absl::Status PutChain(Tier& tier, TierSlot slot, uint32_t chain, int32_t depth = 0) {
  const BlockIdentity identity = TestIdentity(chain, depth);
  std::vector<std::byte> bytes = TestBytes(chain, kDiskTestBlockBytes);
  TierTransfer transfer{.slot = slot, .identity = &identity, .bytes = bytes};
  tier.Put({&transfer, 1});
  return transfer.status;
}

// kOk only if the bytes are those of `chain`; wrong ones given out as good are kInternal.
inline absl::Status FetchChain(Tier& tier, TierSlot slot, uint32_t chain, int32_t depth = 0) {
  const BlockIdentity identity = TestIdentity(chain, depth);
  std::vector<std::byte> bytes(kDiskTestBlockBytes);
  TierTransfer transfer{.slot = slot, .identity = &identity, .bytes = bytes};
  tier.Fetch({&transfer, 1});
  if (transfer.status.ok() && bytes != TestBytes(chain, kDiskTestBlockBytes)) {
    return absl::InternalError("wrong bytes were served");
  }
  return transfer.status;
}

// The chain that TestIdentity made these tokens of.
inline uint32_t ChainOf(const BlockIdentity& identity) {
  uint32_t chain = 0;
  while (static_cast<TokenId>(chain * 31 % 49152) != identity.tokens[0]) ++chain;
  return chain;
}

inline std::string DiskIoName(const testing::TestParamInfo<DiskIoKind>& kind) {
  return kind.param == DiskIoKind::kUring ? "IoUring" : "Threads";
}

}  // namespace holdfast
