#include "engine/cpu_block_mover.h"

#include <gtest/gtest.h>

#include <vector>

namespace holdfast {
namespace {

constexpr KvLayout kLayout{.num_layers = 2, .num_kv_heads = 1, .head_dim = 4};
constexpr int32_t kBlocks = 3;

TEST(CpuBlockMoverTest, BlocksLieOneAfterTheOtherInTheArena) {
  std::vector<std::byte> arena(kLayout.block_bytes() * kBlocks);
  CpuBlockMover mover(arena.data(), kLayout, kBlocks);
  for (int32_t block = 0; block < kBlocks; ++block) {
    const std::span<std::byte> view = mover.HostView(BlockId{block});
    EXPECT_EQ(view.data(), arena.data() + static_cast<size_t>(block) * kLayout.block_bytes());
    EXPECT_EQ(view.size(), kLayout.block_bytes());
  }
}

TEST(CpuBlockMoverTest, CopyingTouchesThatBlockAlone) {
  std::vector<std::byte> arena(kLayout.block_bytes() * kBlocks);
  CpuBlockMover mover(arena.data(), kLayout, kBlocks);
  const std::vector<std::byte> in(kLayout.block_bytes(), std::byte{7});
  ASSERT_TRUE(mover.CopyIn(BlockId{1}, in).ok());
  for (int32_t block = 0; block < kBlocks; ++block) {
    std::vector<std::byte> out(kLayout.block_bytes());
    ASSERT_TRUE(mover.CopyOut(BlockId{block}, out).ok());
    EXPECT_EQ(out,
              std::vector(kLayout.block_bytes(), std::byte{block == 1 ? uint8_t{7} : uint8_t{0}}));
  }
}

TEST(CpuBlockMoverDeathTest, ABlockThatTheArenaLacksStopsTheProcess) {
  std::vector<std::byte> arena(kLayout.block_bytes() * kBlocks);
  CpuBlockMover mover(arena.data(), kLayout, kBlocks);
  EXPECT_DEATH(mover.HostView(BlockId{kBlocks}), "CHECK failed");
}

}  // namespace
}  // namespace holdfast
