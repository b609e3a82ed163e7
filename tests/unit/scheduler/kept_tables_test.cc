#include "scheduler/kept_tables.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace holdfast {
namespace {

struct Table {
  uint64_t version = 0;
  std::vector<BlockId> blocks;
};

std::vector<BlockId> Kept(const StepPlan& plan, int32_t begin, size_t num_blocks) {
  const auto from = plan.blocks.begin() + begin;
  return {from, from + static_cast<std::ptrdiff_t>(num_blocks)};
}

// Two plans by turns, as one is planned beside the step of the other.
TEST(KeptTablesTest, EachPlanHasTheTablesAsTheyAreOnRandomWalks) {
  constexpr int32_t kSlots = 6;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::vector<Table> tables(kSlots);
    StepPlan plans[2];
    uint64_t versions = 0;
    for (int step = 0; step < 400; ++step) {
      StepPlan& plan = plans[step % 2];
      BeginKeeping(plan, kSlots);
      std::map<int32_t, int32_t> begins;
      for (int32_t slot = 0; slot < kSlots; ++slot) {
        Table& table = tables[static_cast<size_t>(slot)];
        if (table.blocks.empty() || rng() % 40 == 0) {
          table = {.version = ++versions, .blocks = {BlockId{static_cast<int32_t>(rng())}}};
        } else if (rng() % 20 == 0) {
          table.version = ++versions;
          table.blocks[rng() % table.blocks.size()] = BlockId{static_cast<int32_t>(rng())};
        } else if (rng() % 2 == 0) {
          table.blocks.push_back(BlockId{static_cast<int32_t>(rng())});
        }
        if (rng() % 8 == 0) continue;  // it has no rows in this step
        begins[slot] = KeepTable(plan, SequenceSlot{slot}, table.version, table.blocks,
                                 static_cast<int32_t>(table.blocks.size()));
      }
      for (const auto& [slot, begin] : begins) {
        const std::vector<BlockId>& blocks = tables[static_cast<size_t>(slot)].blocks;
        ASSERT_EQ(Kept(plan, begin, blocks.size()), blocks);
      }
    }
  }
}

TEST(KeptTablesTest, ATableThatHasNotChangedIsNotWrittenAgain) {
  StepPlan plan;
  BeginKeeping(plan, 1);
  std::vector<BlockId> table = {BlockId{3}, BlockId{4}};
  const int32_t begin = KeepTable(plan, SequenceSlot{0}, 1, table, 2);
  BeginKeeping(plan, 1);
  const std::vector<BlockId> unread = {BlockId{8}, BlockId{9}, BlockId{5}};
  EXPECT_EQ(KeepTable(plan, SequenceSlot{0}, 1, unread, 3), begin);
  EXPECT_EQ(Kept(plan, begin, 3), (std::vector<BlockId>{BlockId{3}, BlockId{4}, BlockId{5}}));
}

TEST(KeptTablesTest, WhatTablesHaveMovedAwayFromIsBoundedByWhatTheyTake) {
  StepPlan plan;
  std::vector<BlockId> table;
  for (int32_t size = 1; size <= 20'000; ++size) {
    table.push_back(BlockId{size});
    BeginKeeping(plan, 1);
    KeepTable(plan, SequenceSlot{0}, 1, table, size);
    ASSERT_LE(plan.blocks.size(), 4 * table.size() + 32) << size;
  }
}

}  // namespace
}  // namespace holdfast
