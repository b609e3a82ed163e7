#include "simulator/simulated_tiers.h"

#include <gtest/gtest.h>

#include <vector>

namespace holdfast {
namespace {

MoveJob Job(uint64_t id, MoveKind kind, TierKind tier) {
  return {.id = MoveId{id}, .kind = kind, .tier = tier};
}

constexpr TierCost kHost = {.restore_bytes_per_second = 1e9, .store_bytes_per_second = 5e8};
constexpr TierCost kDisk = {
    .restore_bytes_per_second = 1e8, .store_bytes_per_second = 1e8, .block_seconds = 1e-3};

TEST(SimulatedMoverTest, ALaneDoesOneMoveAfterTheOtherAndLanesRunSideBySide) {
  SimulatedMover mover(kHost, kDisk, 1'000'000);
  const std::vector<MoveJob> jobs = {
      Job(1, MoveKind::kRestore, TierKind::kHost),  // 1 ms
      Job(2, MoveKind::kRestore, TierKind::kHost),  // until 2 ms
      Job(3, MoveKind::kRestore, TierKind::kDisk),  // 11 ms
      Job(4, MoveKind::kOffload, TierKind::kHost),  // 2 ms
      Job(5, MoveKind::kDemote, TierKind::kHost),   // until 2 + 1 + 11 ms
  };
  mover.Take(jobs, 0);
  std::vector<std::pair<uint64_t, int64_t>> ends;
  while (const auto next = mover.next_nanos()) {
    ends.emplace_back(Number(mover.FinishNext().id), *next / 1'000'000);
  }
  const std::vector<std::pair<uint64_t, int64_t>> wanted = {
      {1, 1}, {2, 2}, {4, 2}, {3, 11}, {5, 14}};
  EXPECT_EQ(ends, wanted);
  EXPECT_EQ(mover.num_done(MoveKind::kRestore), 3);
}

TEST(SimulatedMoverTest, AnIdleLaneStartsWhenItIsAsked) {
  SimulatedMover mover(kHost, kDisk, 1'000'000);
  const std::vector<MoveJob> jobs = {Job(1, MoveKind::kRestore, TierKind::kHost)};
  mover.Take(jobs, 0);
  mover.FinishNext();
  mover.Take(jobs, 50'000'000);
  EXPECT_EQ(mover.next_nanos(), 51'000'000);
}

TEST(SimulatedTierTest, SlotsAreLentOnceUntilDropped) {
  SimulatedTier tier(TierKind::kHost, 2);
  const auto first = tier.TryReserve(), second = tier.TryReserve();
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  EXPECT_FALSE(tier.TryReserve());
  tier.Drop(*first);
  EXPECT_EQ(tier.num_free(), 1);
  EXPECT_EQ(tier.TryReserve(), first);
}

}  // namespace
}  // namespace holdfast
