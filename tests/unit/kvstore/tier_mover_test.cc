#include "kvstore/tier_mover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "config/base/mutex.h"
#include "kvstore/disk_tier.h"
#include "kvstore/host_tier.h"
#include "tests/unit/kvstore/disk_tier_fixture.h"

namespace holdfast {
namespace {

constexpr size_t kBlockBytes = kDiskTestBlockBytes;
constexpr int32_t kBlocks = 64;

// A device whose memory is addressable or not; may refuse to copy one block.
class TestDevice final : public BlockMover {
 public:
  explicit TestDevice(bool addressable)
      : addressable_(addressable), memory_(kBlocks * kBlockBytes) {}

  std::span<std::byte> Bytes(int32_t block) {
    return std::span(memory_).subspan(static_cast<size_t>(block) * kBlockBytes, kBlockBytes);
  }
  std::span<std::byte> HostView(BlockId block) override {
    return addressable_ ? Bytes(Number(block)) : std::span<std::byte>();
  }
  absl::Status CopyOut(BlockId block, std::span<std::byte> out) override {
    if (Number(block) == failing_block_) return absl::UnavailableError("the device is lost");
    std::ranges::copy(Bytes(Number(block)), out.begin());
    return absl::OkStatus();
  }
  absl::Status CopyIn(BlockId block, std::span<const std::byte> in) override {
    if (Number(block) == failing_block_) return absl::UnavailableError("the device is lost");
    std::ranges::copy(in, Bytes(Number(block)).begin());
    return absl::OkStatus();
  }
  void FailFor(int32_t block) { failing_block_ = block; }

 private:
  const bool addressable_;
  std::vector<std::byte> memory_;
  int32_t failing_block_ = -1;
};

// A tier that answers when it is let, and remembers how many blocks came at a time.
class GatedTier final : public Tier {
 public:
  explicit GatedTier(TierKind kind) : kind_(kind) {}
  TierKind kind() const override { return kind_; }
  int32_t capacity() const override { return 1000; }
  std::optional<TierSlot> TryReserve() override { return TierSlot{next_++}; }
  void Drop(TierSlot) override {}
  int32_t num_free() const override { return 1000 - next_; }
  void Put(std::span<TierTransfer> transfers) override { Pass(transfers); }
  void Fetch(std::span<TierTransfer> transfers) override { Pass(transfers); }

  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  void WaitUntilEntered() {
    MutexLock lock(&mutex_);
    while (batches_.empty()) changed_.Wait(&mutex_);
  }
  std::vector<size_t> batches() {
    MutexLock lock(&mutex_);
    return batches_;
  }

 private:
  void Pass(std::span<TierTransfer> transfers) {
    MutexLock lock(&mutex_);
    batches_.push_back(transfers.size());
    changed_.NotifyAll();
    while (!open_) changed_.Wait(&mutex_);
    for (TierTransfer& transfer : transfers) transfer.status = absl::OkStatus();
  }
  const TierKind kind_;
  int32_t next_ = 0;
  Mutex mutex_;
  CondVar changed_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<size_t> batches_ ABSL_GUARDED_BY(mutex_);
};

class Answers final {
 public:
  void Take(MoveDone&& done) {
    MutexLock lock(&mutex_);
    answers_[Number(done.id)].push_back(std::move(done.status));
    ++count_;
    changed_.NotifyAll();
  }
  void WaitFor(size_t count) {
    MutexLock lock(&mutex_);
    while (count_ < count) changed_.Wait(&mutex_);
  }
  // The one answer to `id`; kUnknown for none or several.
  absl::Status Of(uint64_t id) {
    MutexLock lock(&mutex_);
    const std::vector<absl::Status>& all = answers_[id];
    return all.size() == 1 ? all[0] : absl::UnknownError("not one answer");
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<uint64_t, std::vector<absl::Status>> answers_ ABSL_GUARDED_BY(mutex_);
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

MoveJob Job(uint64_t id, MoveKind kind, int32_t block, TierKind tier, TierSlot slot,
            uint32_t chain = 0) {
  return {.id = MoveId{id},
          .kind = kind,
          .block = BlockId{block},
          .tier = tier,
          .slot = slot,
          .identity = TestIdentity(chain)};
}

std::unique_ptr<TierMover> MakeMover(BlockMover& device, std::vector<Tier*> tiers, Answers& answers,
                                     int32_t jobs_max = 256) {
  return std::make_unique<TierMover>(
      device, tiers,
      TierMoverOptions{.block_bytes = kBlockBytes, .disk_restore_threads = 1, .jobs_max = jobs_max},
      [&answers](MoveDone&& done) { answers.Take(std::move(done)); });
}

class TierMoverTest : public testing::TestWithParam<bool> {
 protected:
  TierMoverTest()
      : device_(GetParam()),
        host_(*HostTier::Create(16 * 8192, kBlockBytes)),
        disk_(OpenDiskTier(DiskTestOptions(directory_.path(), 8, 4))) {}

  TestDirectory directory_;
  TestDevice device_;  // addressable or not
  std::unique_ptr<HostTier> host_;
  std::unique_ptr<DiskTier> disk_;
  Answers answers_;
};

TEST_P(TierMoverTest, BlocksGoDownToTheDiskAndComeBackWhole) {
  auto mover = MakeMover(device_, {host_.get(), disk_.get()}, answers_);
  const TierSlot host_slot = *host_->TryReserve(), disk_slot = *disk_->TryReserve();
  FillTestBytes(5, device_.Bytes(1));

  ASSERT_TRUE(mover->TrySubmit(Job(1, MoveKind::kOffload, 1, TierKind::kHost, host_slot, 5)));
  answers_.WaitFor(1);
  ASSERT_TRUE(answers_.Of(1).ok()) << answers_.Of(1);
  MoveJob demote = Job(2, MoveKind::kDemote, 0, TierKind::kHost, host_slot, 5);
  demote.lower_tier = TierKind::kDisk;
  demote.lower_slot = disk_slot;
  ASSERT_TRUE(mover->TrySubmit(std::move(demote)));
  answers_.WaitFor(2);
  ASSERT_TRUE(answers_.Of(2).ok()) << answers_.Of(2);
  ASSERT_TRUE(mover->TrySubmit(Job(3, MoveKind::kRestore, 2, TierKind::kHost, host_slot, 5)));
  ASSERT_TRUE(mover->TrySubmit(Job(4, MoveKind::kRestore, 3, TierKind::kDisk, disk_slot, 5)));
  answers_.WaitFor(4);
  for (const int32_t block : {2, 3}) {
    ASSERT_TRUE(answers_.Of(static_cast<uint64_t>(block) + 1).ok());
    EXPECT_TRUE(std::ranges::equal(device_.Bytes(block), device_.Bytes(1)));
  }
  EXPECT_EQ(mover->num_under_way(), 0);
}

TEST_P(TierMoverTest, AFailedMoveHarmsNoOther) {
  auto mover = MakeMover(device_, {host_.get(), disk_.get()}, answers_);
  std::vector<TierSlot> slots;
  for (uint32_t i = 0; i < 4; ++i) {
    slots.push_back(*host_->TryReserve());
    FillTestBytes(i, device_.Bytes(static_cast<int32_t>(i)));
    ASSERT_TRUE(mover->TrySubmit(
        Job(i, MoveKind::kOffload, static_cast<int32_t>(i), TierKind::kHost, slots[i], i)));
  }
  answers_.WaitFor(4);
  host_->View(slots[1])[77] ^= std::byte{1};
  for (uint32_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(mover->TrySubmit(Job(10 + i, MoveKind::kRestore, 10 + static_cast<int32_t>(i),
                                     TierKind::kHost, slots[i], i)));
  }
  MoveJob demote = Job(20, MoveKind::kDemote, 0, TierKind::kHost, slots[1], 1);
  demote.lower_tier = TierKind::kDisk;
  demote.lower_slot = *disk_->TryReserve();
  ASSERT_TRUE(mover->TrySubmit(std::move(demote)));
  answers_.WaitFor(9);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answers_.Of(10 + i).code(),
              i == 1 ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
  }
  EXPECT_EQ(answers_.Of(20).code(), absl::StatusCode::kDataLoss);
}

INSTANTIATE_TEST_SUITE_P(Memory, TierMoverTest, testing::Bool(), [](const auto& addressable) {
  return addressable.param ? "InPlace" : "Staged";
});

TEST(TierMoverLanesTest, ADeviceThatCannotCopyFailsTheMove) {
  TestDevice device(/*addressable=*/false);
  device.FailFor(3);
  auto host = *HostTier::Create(16 * 8192, kBlockBytes);
  Answers answers;
  auto mover = MakeMover(device, {host.get()}, answers);
  for (const int32_t block : {2, 3}) {
    ASSERT_TRUE(mover->TrySubmit(Job(static_cast<uint64_t>(block), MoveKind::kOffload, block,
                                     TierKind::kHost, *host->TryReserve())));
  }
  answers.WaitFor(2);
  EXPECT_TRUE(answers.Of(2).ok());
  EXPECT_EQ(answers.Of(3).code(), absl::StatusCode::kUnavailable);
}

TEST(TierMoverLanesTest, FullIsAnAnswerAndRoomComesBack) {
  TestDevice device(true);
  GatedTier host(TierKind::kHost);
  Answers answers;
  auto mover = MakeMover(device, {&host}, answers, /*jobs_max=*/5);
  for (uint64_t id = 0; id < 5; ++id) {
    ASSERT_TRUE(mover->TrySubmit(
        Job(id, MoveKind::kOffload, static_cast<int32_t>(id), TierKind::kHost, TierSlot{0})));
  }
  EXPECT_FALSE(mover->TrySubmit(Job(5, MoveKind::kOffload, 5, TierKind::kHost, TierSlot{0})));
  host.Open();
  answers.WaitFor(5);
  EXPECT_TRUE(mover->TrySubmit(Job(6, MoveKind::kOffload, 6, TierKind::kHost, TierSlot{0})));
  answers.WaitFor(6);
}

TEST(TierMoverLanesTest, RestoresDoNotWaitForOffloadsNorTheHostForTheDisk) {
  TestDevice device(true);
  GatedTier disk(TierKind::kDisk);
  auto host = *HostTier::Create(16 * 8192, kBlockBytes);
  const TierSlot slot = *host->TryReserve();
  const BlockIdentity identity = TestIdentity(0);
  TierTransfer put{.slot = slot, .identity = &identity, .bytes = device.Bytes(0)};
  host->Put({&put, 1});
  Answers answers;
  auto mover = MakeMover(device, {host.get(), &disk}, answers);
  ASSERT_TRUE(mover->TrySubmit(Job(1, MoveKind::kOffload, 1, TierKind::kDisk, TierSlot{0})));
  ASSERT_TRUE(mover->TrySubmit(Job(2, MoveKind::kRestore, 2, TierKind::kDisk, TierSlot{0})));
  disk.WaitUntilEntered();
  ASSERT_TRUE(mover->TrySubmit(Job(3, MoveKind::kRestore, 3, TierKind::kHost, slot)));
  answers.WaitFor(1);
  EXPECT_TRUE(answers.Of(3).ok());
  disk.Open();
  answers.WaitFor(3);
}

TEST(TierMoverLanesTest, WhatADeviceHeldBeforeItWasLostIsNotWrittenToATier) {
  TestDevice device(true);
  GatedTier disk(TierKind::kDisk);
  Answers answers;
  auto mover = MakeMover(device, {&disk}, answers);
  ASSERT_TRUE(mover->TrySubmit(Job(1, MoveKind::kOffload, 1, TierKind::kDisk, TierSlot{1})));
  disk.WaitUntilEntered();
  ASSERT_TRUE(mover->TrySubmit(Job(2, MoveKind::kOffload, 2, TierKind::kDisk, TierSlot{2})));
  mover->ForgetDevice();
  ASSERT_TRUE(mover->TrySubmit(Job(3, MoveKind::kOffload, 3, TierKind::kDisk, TierSlot{3})));
  disk.Open();
  answers.WaitFor(3);
  EXPECT_TRUE(answers.Of(1).ok());  // it was being written already
  EXPECT_EQ(answers.Of(2).code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(answers.Of(3).ok());
}

TEST(TierMoverLanesTest, WhatGathersBehindASlowMediumGoesInBatches) {
  TestDevice device(true);
  GatedTier disk(TierKind::kDisk);
  Answers answers;
  auto mover = MakeMover(device, {&disk}, answers);
  ASSERT_TRUE(mover->TrySubmit(Job(0, MoveKind::kRestore, 0, TierKind::kDisk, TierSlot{0})));
  disk.WaitUntilEntered();
  for (uint64_t id = 1; id <= 40; ++id) {
    ASSERT_TRUE(mover->TrySubmit(
        Job(id, MoveKind::kRestore, static_cast<int32_t>(id), TierKind::kDisk, TierSlot{0})));
  }
  disk.Open();
  answers.WaitFor(41);
  EXPECT_EQ(disk.batches(), (std::vector<size_t>{1, 16, 16, 8}));
}

TEST(TierMoverLanesTest, StoppingFinishesWhatIsAtWorkAndCancelsTheRestOnceEach) {
  TestDevice device(true);
  GatedTier host(TierKind::kHost), disk(TierKind::kDisk);
  host.Open();
  Answers answers;
  auto mover = MakeMover(device, {&host, &disk}, answers);
  ASSERT_TRUE(mover->TrySubmit(Job(0, MoveKind::kRestore, 0, TierKind::kDisk, TierSlot{0})));
  disk.WaitUntilEntered();
  for (uint64_t id = 1; id <= 30; ++id) {
    ASSERT_TRUE(mover->TrySubmit(
        Job(id, MoveKind::kRestore, static_cast<int32_t>(id), TierKind::kDisk, TierSlot{0})));
  }
  std::thread stopper([&] { mover->Stop(); });
  // The mailboxes close before the threads are waited for. One at a time in the other lane, so that
  // a refusal means just that and not that too many are under way.
  for (size_t probes = 1;
       mover->TrySubmit(Job(99 + probes, MoveKind::kRestore, 31, TierKind::kHost, TierSlot{0}));
       ++probes) {
    answers.WaitFor(probes);
  }
  disk.Open();
  stopper.join();
  EXPECT_TRUE(answers.Of(0).ok());
  for (uint64_t id = 1; id <= 30; ++id) {
    EXPECT_EQ(answers.Of(id).code(), absl::StatusCode::kCancelled) << id;
  }
  EXPECT_FALSE(mover->TrySubmit(Job(98, MoveKind::kRestore, 0, TierKind::kDisk, TierSlot{0})));
}

// Behind a gate: blocks 10, 11, ... of one sequence, out of a host tier of kLayers layers.
class TierMoverGateTest : public testing::TestWithParam<bool> {
 protected:
  static constexpr int32_t kLayers = 5;
  static constexpr int32_t kGated = 20;  // more than one batch

  TierMoverGateTest()
      : device_(GetParam()), host_(*HostTier::Create(24 * 8192, kBlockBytes, kLayers)) {
    for (uint32_t i = 0; i < kGated; ++i) {
      const BlockIdentity identity = TestIdentity(i);
      std::vector<std::byte> bytes = TestBytes(i, kBlockBytes);
      slots_.push_back(*host_->TryReserve());
      TierTransfer put{.slot = slots_.back(), .identity = &identity, .bytes = bytes};
      host_->Put({&put, 1});
    }
    gate_.Arm(kGated);
  }

  static int32_t BlockOf(uint32_t i) { return 10 + static_cast<int32_t>(i); }
  MoveJob GatedJob(uint32_t i) {
    MoveJob job = Job(i, MoveKind::kRestore, BlockOf(i), TierKind::kHost, slots_[i], i);
    job.gate = &gate_;
    return job;
  }
  bool HasLayer(uint32_t i, int32_t layer) {
    constexpr size_t kLayerBytes = kBlockBytes / kLayers;
    const size_t begin = static_cast<size_t>(layer) * kLayerBytes;
    const std::vector<std::byte> expected = TestBytes(i, kBlockBytes);
    return std::ranges::equal(device_.Bytes(BlockOf(i)).subspan(begin, kLayerBytes),
                              std::span(expected).subspan(begin, kLayerBytes));
  }

  TestDevice device_;  // addressable or not
  std::unique_ptr<HostTier> host_;
  std::vector<TierSlot> slots_;
  LayerGate gate_{0, kLayers};
  Answers answers_;
};

TEST_P(TierMoverGateTest, EachLayerOfAllBlocksComesBeforeTheNextOfAny) {
  int32_t num_told = 0, too_early = 0;
  Tier* const tiers[] = {host_.get()};
  TierMover mover(
      device_, tiers, {.block_bytes = kBlockBytes},
      [&](MoveDone&& done) {
        too_early += gate_.ended();  // answers come first
        answers_.Take(std::move(done));
      },
      [&] {
        const int32_t open = gate_.num_open();
        EXPECT_EQ(open, num_told++ == 0 ? 1 : gate_.num_half());
        for (uint32_t i = 0; i < kGated; ++i) {
          EXPECT_TRUE(HasLayer(i, open - 1)) << "block " << i;
          EXPECT_FALSE(HasLayer(i, open)) << "block " << i;
        }
      });
  for (uint32_t i = 0; i < kGated; ++i) ASSERT_TRUE(mover.TrySubmit(GatedJob(i)));
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    ASSERT_TRUE(gate_.Wait(layer + 1));
    for (uint32_t i = 0; i < kGated; ++i) EXPECT_TRUE(HasLayer(i, layer)) << "block " << i;
  }
  answers_.WaitFor(kGated);
  for (uint32_t i = 0; i < kGated; ++i) EXPECT_TRUE(answers_.Of(i).ok());
  mover.Stop();
  EXPECT_EQ(num_told, GetParam() ? 2 : 0);  // staged ones come whole
  EXPECT_EQ(too_early, 0);
}

TEST_P(TierMoverGateTest, ABadLayerFailsTheGateAndItsBlockAlone) {
  for (const uint32_t bad : {0u, 7u}) {
    for (const int32_t layer : {0, 2, kLayers - 1}) {
      SCOPED_TRACE(testing::Message() << "block " << bad << ", layer " << layer);
      const size_t place = static_cast<size_t>(layer) * kBlockBytes / kLayers + 3;
      host_->View(slots_[bad])[place] ^= std::byte{1};
      Answers answers;
      auto mover = MakeMover(device_, {host_.get()}, answers);
      for (uint32_t i = 0; i < kGated; ++i) ASSERT_TRUE(mover->TrySubmit(GatedJob(i)));
      EXPECT_FALSE(gate_.Wait(kLayers));
      answers.WaitFor(kGated);
      mover->Stop();
      for (uint32_t i = 0; i < kGated; ++i) {
        EXPECT_EQ(answers.Of(i).code(),
                  i == bad ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
        if (i == bad) continue;
        for (int32_t l = 0; l < kLayers; ++l) EXPECT_TRUE(HasLayer(i, l)) << "block " << i;
      }
      host_->View(slots_[bad])[place] ^= std::byte{1};
      gate_.Arm(kGated);
    }
  }
}

TEST_P(TierMoverGateTest, TheyBeginWhenTheLastIsHereAndOthersMayComeBetween) {
  auto mover = MakeMover(device_, {host_.get()}, answers_);
  for (uint32_t i = 0; i < kGated; ++i) {
    EXPECT_EQ(gate_.num_open(), 0);
    ASSERT_TRUE(mover->TrySubmit(GatedJob(i)));
    if (i != 3) continue;
    ASSERT_TRUE(mover->TrySubmit(Job(99, MoveKind::kRestore, 2, TierKind::kHost, slots_[5], 5)));
  }
  EXPECT_TRUE(gate_.Wait(kLayers));
  answers_.WaitFor(kGated + 1);
  EXPECT_TRUE(answers_.Of(99).ok());
  EXPECT_TRUE(std::ranges::equal(device_.Bytes(2), TestBytes(5, kBlockBytes)));
}

TEST_P(TierMoverGateTest, StoppingFailsAGateWhoseJobsAreNotAllHere) {
  auto mover = MakeMover(device_, {host_.get()}, answers_);
  for (uint32_t i = 0; i + 1 < kGated; ++i) ASSERT_TRUE(mover->TrySubmit(GatedJob(i)));
  std::thread engine([&] { EXPECT_FALSE(gate_.Wait(1)); });
  mover->Stop();
  engine.join();
  EXPECT_FALSE(mover->TrySubmit(GatedJob(kGated - 1)));
  for (uint32_t i = 0; i + 1 < kGated; ++i) {
    EXPECT_EQ(answers_.Of(i).code(), absl::StatusCode::kCancelled);
  }
  EXPECT_EQ(mover->num_under_way(), 0);
}

TEST_P(TierMoverGateTest, HoweverItIsStoppedTheGateEndsAndEachJobIsAnsweredOnce) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    if (seed > 0) gate_.Arm(kGated);
    Answers answers;
    auto mover = MakeMover(device_, {host_.get()}, answers);
    std::thread engine([&] {
      for (int32_t layer = 1; layer <= kLayers && gate_.Wait(layer); ++layer) {
      }
    });
    uint32_t accepted = 0;
    std::thread stopper([&] {
      if (seed % 2 == 0) answers.WaitFor(1);
      mover->Stop();
    });
    while (accepted < kGated && mover->TrySubmit(GatedJob(accepted))) ++accepted;
    if (accepted == 0) gate_.Fail();  // nobody has seen it
    stopper.join();
    engine.join();
    const bool ok = !gate_.failed();
    EXPECT_TRUE(gate_.ended());
    for (uint32_t i = 0; i < accepted; ++i) EXPECT_EQ(answers.Of(i).ok(), ok) << i;
    if (!gate_.ended()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(Memory, TierMoverGateTest, testing::Bool(), [](const auto& addressable) {
  return addressable.param ? "InPlace" : "Staged";
});

// All at once, for the thread sanitizer: several that submit, real tiers, and a stop under way.
TEST(TierMoverLanesTest, EveryAcceptedJobIsAnsweredOnceWhateverHappens) {
  for (uint32_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TestDirectory directory;
    TestDevice device(seed % 2 == 0);
    auto host = *HostTier::Create(32 * 8192, kBlockBytes);
    auto disk = OpenDiskTier(DiskTestOptions(directory.path(), 12, 4));
    Answers answers;
    auto mover =
        std::make_unique<TierMover>(device, std::vector<Tier*>{host.get(), disk.get()},
                                    TierMoverOptions{.block_bytes = kBlockBytes,
                                                     .disk_restore_threads = 2,
                                                     .offload_threads = 2,
                                                     .jobs_max = 64,
                                                     .batch_blocks = 4},
                                    [&answers](MoveDone&& done) { answers.Take(std::move(done)); });
    std::array<std::vector<uint64_t>, 2> accepted;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {  // one tier each, as slots are reserved by one thread
        Tier& tier = t == 0 ? static_cast<Tier&>(*host) : *disk;
        std::mt19937 rng(seed * 2 + static_cast<uint32_t>(t));
        for (uint64_t i = 0; i < 30; ++i) {
          const int32_t block = static_cast<int32_t>(t * 32 + i);
          const std::optional<TierSlot> slot = tier.TryReserve();
          if (!slot.has_value()) break;
          const uint64_t id = t * 1000 + i;
          if (mover->TrySubmit(Job(id, MoveKind::kOffload, block, tier.kind(), *slot, block))) {
            accepted[t].push_back(id);
          }
        }
      });
    }
    if (seed >= 2) mover->Stop();
    for (std::thread& thread : threads) thread.join();
    mover->Stop();
    for (const std::vector<uint64_t>& ids : accepted) {
      for (const uint64_t id : ids) {
        const absl::Status status = answers.Of(id);
        EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << id << ": " << status;
      }
    }
    EXPECT_EQ(mover->num_under_way(), 0);
  }
}

}  // namespace
}  // namespace holdfast
