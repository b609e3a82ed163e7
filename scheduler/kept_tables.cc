#include "scheduler/kept_tables.h"

#include <algorithm>

namespace holdfast {
namespace {

// So much more than is asked for, so that a table that grows moves seldom.
int32_t RoomFor(int32_t num_blocks) { return num_blocks + num_blocks / 2 + 8; }

}  // namespace

void BeginKeeping(StepPlan& plan, int32_t num_slots) {
  plan.ClearRows();
  const bool half_left = plan.blocks_left_behind > static_cast<int32_t>(plan.blocks.size()) / 2;
  if (plan.kept.size() == static_cast<size_t>(num_slots) && !half_left) return;
  plan.Clear();
  plan.kept.assign(static_cast<size_t>(num_slots), {});
}

int32_t KeepTable(StepPlan& plan, SequenceSlot slot, uint64_t version,
                  std::span<const BlockId> table, int32_t num_blocks) {
  StepPlan::KeptTable& kept = plan.kept[static_cast<size_t>(Number(slot))];
  if (kept.version != version) {
    kept.version = version;
    kept.num_blocks = 0;
  }
  if (num_blocks > kept.room) {
    plan.blocks_left_behind += kept.room;
    kept.begin = static_cast<int32_t>(plan.blocks.size());
    kept.room = RoomFor(num_blocks);
    kept.num_blocks = 0;
    plan.blocks.resize(plan.blocks.size() + static_cast<size_t>(kept.room));
  }
  if (num_blocks > kept.num_blocks) {
    std::copy(table.begin() + kept.num_blocks, table.begin() + num_blocks,
              plan.blocks.begin() + kept.begin + kept.num_blocks);
    kept.num_blocks = num_blocks;
  }
  return kept.begin;
}

}  // namespace holdfast
