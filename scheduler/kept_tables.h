// Block tables that stay in a plan from one filling to the next. A table changes in one step of
// sixteen, by one block at its end; copied anew each step, those of 4,096 sequences are more memory
// than a core has caches near it.
//
//   plan.blocks   [table of slot 0, room |   | table of slot 2, room | ...]
//
// A table that outgrows its room moves to the end, with more. When half of the memory is what has
// been moved away from, all tables are written anew.
#pragma once

#include <cstdint>
#include <span>

#include "config/ids.h"
#include "engine/step_plan.h"

namespace holdfast {

// Empties the plan of all but the tables. It was filled by the same scheduler, or is new.
void BeginKeeping(StepPlan& plan, int32_t num_slots);

// The first `num_blocks` of the slot's `table` are in plan.blocks from the offset returned on.
// `version` > 0 names what `table` holds, up to further blocks at its end: another table, or one of
// which a block was replaced, has another.
int32_t KeepTable(StepPlan& plan, SequenceSlot slot, uint64_t version,
                  std::span<const BlockId> table, int32_t num_blocks);

}  // namespace holdfast
