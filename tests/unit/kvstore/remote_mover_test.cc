#include "kvstore/remote_mover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <vector>

#include "config/base/mutex.h"
#include "tests/unit/kvstore/redis_process.h"
#include "tests/unit/kvstore/test_directory.h"
#include "tests/unit/kvstore/tier_test_blocks.h"

namespace holdfast {
namespace {

constexpr size_t kBlockBytes = 20'000;
constexpr int32_t kBlocks = 64;

class Memory final : public BlockMover {
 public:
  explicit Memory(bool addressable) : addressable_(addressable), bytes_(kBlocks * kBlockBytes) {}
  std::span<std::byte> Bytes(int32_t block) {
    return std::span(bytes_).subspan(static_cast<size_t>(block) * kBlockBytes, kBlockBytes);
  }
  std::span<std::byte> HostView(BlockId block) override {
    return addressable_ ? Bytes(Number(block)) : std::span<std::byte>();
  }
  absl::Status CopyOut(BlockId block, std::span<std::byte> out) override {
    std::ranges::copy(Bytes(Number(block)), out.begin());
    return absl::OkStatus();
  }
  absl::Status CopyIn(BlockId block, std::span<const std::byte> in) override {
    std::ranges::copy(in, Bytes(Number(block)).begin());
    return absl::OkStatus();
  }

 private:
  const bool addressable_;
  std::vector<std::byte> bytes_;
};

class Answers final {
 public:
  void Take(MoveDone&& done) {
    MutexLock lock(&mutex_);
    if (done.read) {
      EXPECT_TRUE(done_[Number(done.id)].empty()) << "read after the outcome";
      ++read_[Number(done.id)];
    } else {
      done_[Number(done.id)].push_back(std::move(done.status));
      ++num_done_;
    }
    news_.NotifyAll();
  }
  void Take(RemoteFound&& found) {
    MutexLock lock(&mutex_);
    found_.push_back(std::move(found));
    news_.NotifyAll();
  }
  void WaitForDone(size_t count) {
    MutexLock lock(&mutex_);
    while (num_done_ < count) news_.Wait(&mutex_);
  }
  void WaitForRead(uint64_t id) {
    MutexLock lock(&mutex_);
    while (read_[id] == 0) news_.Wait(&mutex_);
  }
  RemoteFound WaitForFound() {
    MutexLock lock(&mutex_);
    while (found_.empty()) news_.Wait(&mutex_);
    RemoteFound found = std::move(found_.back());
    found_.pop_back();
    return found;
  }
  absl::Status Of(uint64_t id) {
    MutexLock lock(&mutex_);
    return done_[id].size() == 1 ? done_[id][0] : absl::UnknownError("not one answer");
  }
  int32_t num_read(uint64_t id) {
    MutexLock lock(&mutex_);
    return read_[id];
  }

 private:
  Mutex mutex_;
  CondVar news_;
  std::map<uint64_t, std::vector<absl::Status>> done_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, int32_t> read_ ABSL_GUARDED_BY(mutex_);
  std::vector<RemoteFound> found_ ABSL_GUARDED_BY(mutex_);
  size_t num_done_ ABSL_GUARDED_BY(mutex_) = 0;
};

MoveJob Job(uint64_t id, MoveKind kind, int32_t block, int32_t depth) {
  return {.id = MoveId{id},
          .kind = kind,
          .block = BlockId{block},
          .tier = TierKind::kRemote,
          .identity = TestIdentity(1, depth)};
}

class RemoteMoverTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (RedisProcess::Find().empty()) GTEST_SKIP() << "no redis-server; ./dev test installs it";
    std::signal(SIGPIPE, SIG_IGN);  // as the daemon does
    std::string output;
    ASSERT_TRUE(server_.Start(output)) << output;
    auto tier = RemoteTier::Create({.endpoint = server_.endpoint(),
                                    .block_bytes = kBlockBytes,
                                    .call_timeout = absl::Seconds(20)},
                                   clock_);
    ASSERT_TRUE(tier.ok()) << tier.status();
    tier_ = *std::move(tier);
    mover_ = std::make_unique<RemoteMover>(
        memory_, *tier_,
        RemoteMoverOptions{
            .block_bytes = kBlockBytes, .sends_max = 20, .lookups_max = 4, .batch_blocks = 8},
        [this](MoveDone&& done) { answers_.Take(std::move(done)); },
        [this](RemoteFound&& found) { answers_.Take(std::move(found)); });
  }
  void SendChain(int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
      FillTestBytes(static_cast<uint64_t>(i), memory_.Bytes(i));
      ASSERT_TRUE(mover_->TrySubmit(Job(static_cast<uint64_t>(i), MoveKind::kSend, i, i)));
    }
  }

  TestDirectory directory_;
  RedisProcess server_{directory_.path()};
  SteadyClock clock_;
  Memory memory_{GetParam()};  // addressable or not
  Answers answers_;
  std::unique_ptr<RemoteTier> tier_;
  std::unique_ptr<RemoteMover> mover_;
};

TEST_P(RemoteMoverTest, BlocksGoThereAndComeBackWhole) {
  SendChain(20);
  answers_.WaitForDone(20);
  for (uint64_t id = 0; id < 20; ++id) {
    EXPECT_TRUE(answers_.Of(id).ok()) << answers_.Of(id);
    EXPECT_EQ(answers_.num_read(id), 1);
  }
  for (int32_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        mover_->TrySubmit(Job(100 + static_cast<uint64_t>(i), MoveKind::kRestore, 30 + i, i)));
  }
  answers_.WaitForDone(40);
  for (int32_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(answers_.Of(100 + static_cast<uint64_t>(i)).ok());
    EXPECT_TRUE(std::ranges::equal(memory_.Bytes(30 + i), memory_.Bytes(i)));
  }
}

TEST_P(RemoteMoverTest, ALookUpTellsTheLeadingBlocksThatAreThere) {
  SendChain(5);
  answers_.WaitForDone(5);
  RemoteLookup lookup{.id = LookupId{7}, .parent = TestIdentity(1, 0).parent};
  for (int32_t i = 0; i < 9; ++i) {
    const auto tokens = TestIdentity(1, i).tokens;
    lookup.tokens.insert(lookup.tokens.end(), tokens.begin(), tokens.end());
  }
  ASSERT_TRUE(mover_->TryLookUp(RemoteLookup(lookup)));
  const RemoteFound found = answers_.WaitForFound();
  EXPECT_EQ(found.id, LookupId{7});
  EXPECT_TRUE(found.status.ok()) << found.status;
  ASSERT_EQ(found.digests.size(), 5u);
  for (int32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(found.digests[static_cast<size_t>(i)], TestIdentity(1, i).digest);
  }
  // Of another beginning nothing is there, though tokens are alike.
  lookup.parent = TestIdentity(1, 0, /*scope=*/2).parent;
  ASSERT_TRUE(mover_->TryLookUp(std::move(lookup)));
  EXPECT_TRUE(answers_.WaitForFound().digests.empty());
}

TEST_P(RemoteMoverTest, ABlockIsReadAtOnceThoughTheServerHangsAndStoppingAnswersAll) {
  server_.Pause();
  SendChain(20);
  for (uint64_t id = 0; id < 20; ++id) answers_.WaitForRead(id);
  EXPECT_FALSE(mover_->TrySubmit(Job(20, MoveKind::kSend, 20, 20)));  // as many as may be
  server_.Resume();
  mover_->Stop();
  answers_.WaitForDone(20);
  for (uint64_t id = 0; id < 20; ++id) {
    EXPECT_TRUE(answers_.Of(id).ok() || absl::IsCancelled(answers_.Of(id))) << answers_.Of(id);
  }
  EXPECT_FALSE(mover_->TrySubmit(Job(21, MoveKind::kRestore, 21, 21)));
  EXPECT_FALSE(mover_->TryLookUp({}));
}

TEST_P(RemoteMoverTest, WithoutAServerAllIsAnswered) {
  server_.Kill();
  SendChain(10);
  ASSERT_TRUE(mover_->TrySubmit(Job(10, MoveKind::kRestore, 10, 10)));
  ASSERT_TRUE(mover_->TryLookUp({.id = LookupId{1}, .tokens = std::vector<TokenId>(16)}));
  answers_.WaitForDone(11);
  for (uint64_t id = 0; id < 11; ++id) {
    EXPECT_TRUE(absl::IsUnavailable(answers_.Of(id))) << answers_.Of(id);
  }
  EXPECT_FALSE(answers_.WaitForFound().status.ok());
}

INSTANTIATE_TEST_SUITE_P(Memory, RemoteMoverTest, testing::Bool(), [](const auto& addressable) {
  return addressable.param ? "InPlace" : "Staged";
});

}  // namespace
}  // namespace holdfast
