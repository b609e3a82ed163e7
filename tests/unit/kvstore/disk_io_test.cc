#include "kvstore/disk_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <vector>

#include "config/base/page_buffer.h"
#include "tests/unit/kvstore/test_directory.h"
#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {
namespace {

class DiskIoTest : public testing::TestWithParam<DiskIoKind> {
 protected:
  static constexpr int32_t kDepth = 4;

  void SetUp() override {
    auto io = MakeDiskIo(GetParam(), kDepth);
    if (!io.ok()) GTEST_SKIP() << io.status();
    io_ = *std::move(io);
    fd_ = open((directory_.path() + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd_, 0);
  }
  void TearDown() override {
    if (fd_ >= 0) close(fd_);
  }

  DiskTransfer Transfer(DiskTransfer::Kind kind, int64_t page, std::byte* data, size_t bytes) {
    DiskTransfer transfer{.kind = kind, .fd = fd_, .offset = page * 4096};
    transfer.Add(data, bytes);
    return transfer;
  }

  TestDirectory directory_;
  std::unique_ptr<DiskIo> io_;
  int fd_ = -1;
};

TEST_P(DiskIoTest, ManyMoreTransfersThanTheDepthAllArrive) {
  constexpr int64_t kPages = 100;
  auto out = PageBuffer::Map(kPages * 4096), in = PageBuffer::Map(kPages * 4096);
  FillTestBytes(1, {out->data(), out->bytes()});
  std::vector<DiskTransfer> transfers;
  for (int64_t page = 0; page < kPages; ++page) {
    transfers.push_back(
        Transfer(DiskTransfer::Kind::kWrite, page, out->data() + page * 4096, 4096));
  }
  io_->Run(transfers);
  for (const DiskTransfer& transfer : transfers) ASSERT_TRUE(transfer.status.ok());
  transfers.clear();
  for (int64_t page = kPages; page-- > 0;) {
    DiskTransfer& read = transfers.emplace_back(
        Transfer(DiskTransfer::Kind::kRead, page, in->data() + page * 4096, 100));
    read.Add(in->data() + page * 4096 + 100, 1000);  // scattered
    read.Add(in->data() + page * 4096 + 1100, 4096 - 1100);
  }
  io_->Run(transfers);
  for (const DiskTransfer& transfer : transfers) ASSERT_TRUE(transfer.status.ok());
  EXPECT_EQ(memcmp(in->data(), out->data(), kPages * 4096), 0);
}

TEST_P(DiskIoTest, TheEndOfTheFileIsDataLossAndHarmsNoOther) {
  std::vector<std::byte> bytes = TestBytes(1, 6000);
  std::vector<DiskTransfer> write = {Transfer(DiskTransfer::Kind::kWrite, 0, bytes.data(), 6000)};
  io_->Run(write);
  ASSERT_TRUE(write[0].status.ok());
  std::vector<std::byte> first(4096), second(4096), third(4096);
  std::vector<DiskTransfer> reads = {Transfer(DiskTransfer::Kind::kRead, 0, first.data(), 4096),
                                     Transfer(DiskTransfer::Kind::kRead, 1, second.data(), 4096),
                                     Transfer(DiskTransfer::Kind::kRead, 9, third.data(), 4096)};
  io_->Run(reads);
  EXPECT_TRUE(reads[0].status.ok());
  EXPECT_EQ(reads[1].status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(reads[2].status.code(), absl::StatusCode::kDataLoss);
}

TEST_P(DiskIoTest, AFailingMediumIsUnavailableAndSaysWhy) {
  std::vector<std::byte> bytes(4096);
  std::vector<DiskTransfer> reads = {Transfer(DiskTransfer::Kind::kRead, 0, bytes.data(), 4096)};
  reads[0].fd = 1'000'000;
  io_->Run(reads);
  EXPECT_EQ(reads[0].status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(reads[0].status.message().find("Bad file descriptor"), absl::string_view::npos)
      << reads[0].status;
}

TEST_P(DiskIoTest, NoTransfersAreDoneAtOnce) { io_->Run({}); }

TEST_P(DiskIoTest, CallersDoNotDisturbEachOther) {
  std::vector<std::thread> callers;
  for (int64_t caller = 0; caller < 4; ++caller) {
    callers.emplace_back([this, caller] {
      const std::vector<std::byte> want = TestBytes(static_cast<uint64_t>(caller), 8 * 4096);
      for (int round = 0; round < 20; ++round) {
        std::vector<std::byte> bytes = want;
        std::vector<DiskTransfer> writes, reads;
        for (int64_t i = 0; i < 8; ++i) {
          writes.push_back(
              Transfer(DiskTransfer::Kind::kWrite, caller * 8 + i, bytes.data() + i * 4096, 4096));
        }
        io_->Run(writes);
        std::vector<std::byte> back(8 * 4096);
        for (int64_t i = 0; i < 8; ++i) {
          reads.push_back(
              Transfer(DiskTransfer::Kind::kRead, caller * 8 + i, back.data() + i * 4096, 4096));
        }
        io_->Run(reads);
        for (const DiskTransfer& read : reads) ASSERT_TRUE(read.status.ok()) << read.status;
        ASSERT_EQ(back, want);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(DiskIoRulesTest, NoRoomIsToldFromAFailingMedium) {
  EXPECT_EQ(DiskError("x", ENOSPC).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DiskError("x", EDQUOT).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DiskError("x", EIO).code(), absl::StatusCode::kUnavailable);
}

TEST(DiskIoRulesTest, AShortTransferGoesOnWhereItEnded) {
  std::vector<std::byte> memory(30);
  DiskTransfer transfer{.offset = 100};
  for (size_t i = 0; i < 3; ++i) transfer.Add(memory.data() + i * 10, 10);
  EXPECT_FALSE(AdvanceDiskTransfer(transfer, 14));
  EXPECT_EQ(transfer.offset, 114);
  ASSERT_EQ(transfer.num_pieces, 2);
  EXPECT_EQ(transfer.pieces[0].iov_base, memory.data() + 14);
  EXPECT_EQ(transfer.pieces[0].iov_len, 6u);
  EXPECT_FALSE(AdvanceDiskTransfer(transfer, -EINTR));
  EXPECT_TRUE(AdvanceDiskTransfer(transfer, 16));
  EXPECT_TRUE(transfer.status.ok());
}

INSTANTIATE_TEST_SUITE_P(Kinds, DiskIoTest,
                         testing::Values(DiskIoKind::kUring, DiskIoKind::kThreads),
                         [](const auto& kind) {
                           return kind.param == DiskIoKind::kUring ? "IoUring" : "Threads";
                         });

}  // namespace
}  // namespace holdfast
