#include "kvstore/block_pool.h"

#include "config/base/check.h"

namespace holdfast {

BlockPool::BlockPool(int32_t capacity) {
  CHECK(capacity > 0);
  entries_.resize(static_cast<size_t>(capacity));
  free_.reserve(entries_.size());
  for (int32_t block = capacity - 1; block >= 0; --block) free_.push_back(BlockId{block});
  counts_.free = capacity;
}

size_t BlockPool::Index(BlockId block) const {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(block)));
  CHECK(index < entries_.size());
  return index;
}

BlockState BlockPool::StateOf(const Entry& entry) {
  if (entry.references > 0) return BlockState::kHeld;
  if (entry.moves > 0) return BlockState::kMoving;
  return entry.published ? BlockState::kEvictable : BlockState::kFree;
}

int32_t& BlockPool::CountOf(BlockCounts& counts, BlockState state) {
  switch (state) {
    case BlockState::kFree:
      return counts.free;
    case BlockState::kHeld:
      return counts.held;
    case BlockState::kEvictable:
      return counts.evictable;
    case BlockState::kMoving:
      return counts.moving;
  }
  return counts.free;
}

BlockState BlockPool::Settle(BlockId block, BlockState before) {
  const BlockState after = StateOf(entries_[Index(block)]);
  if (after == before) return after;
  --CountOf(counts_, before);
  ++CountOf(counts_, after);
  if (after == BlockState::kFree) free_.push_back(block);
  return after;
}

bool BlockPool::TryAcquire(int32_t count, std::vector<BlockId>& table) {
  CHECK(count >= 0);
  if (count > counts_.free) return false;
  for (int32_t i = 0; i < count; ++i) {
    const BlockId block = free_.back();
    free_.pop_back();
    entries_[Index(block)].references = 1;
    table.push_back(block);
  }
  counts_.free -= count;
  counts_.held += count;
  return true;
}

BlockState BlockPool::Share(BlockId block) {
  Entry& entry = entries_[Index(block)];
  const BlockState before = StateOf(entry);
  CHECK(before != BlockState::kFree);
  ++entry.references;
  return Settle(block, before);
}

BlockState BlockPool::Release(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.references > 0);
  --entry.references;
  return Settle(block, BlockState::kHeld);
}

BlockState BlockPool::BeginMove(BlockId block) {
  Entry& entry = entries_[Index(block)];
  const BlockState before = StateOf(entry);
  CHECK(before != BlockState::kFree);
  ++entry.moves;
  return Settle(block, before);
}

BlockState BlockPool::EndMove(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.moves > 0);
  const BlockState before = StateOf(entry);
  --entry.moves;
  return Settle(block, before);
}

void BlockPool::Publish(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(StateOf(entry) != BlockState::kFree && !entry.published);
  entry.published = true;
}

BlockState BlockPool::Evict(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.references == 0 && entry.published);
  const BlockState before = StateOf(entry);
  entry.published = false;
  return Settle(block, before);
}

void BlockPool::CheckInvariants() const {
  BlockCounts counted;
  for (const Entry& entry : entries_) {
    CHECK(entry.references >= 0 && entry.moves >= 0);
    ++CountOf(counted, StateOf(entry));
  }
  CHECK(counted == counts_);
  CHECK(counted.free + counted.held + counted.evictable + counted.moving == capacity());
  CHECK(static_cast<size_t>(counted.free) == free_.size());
  for (BlockId block : free_) CHECK(state(block) == BlockState::kFree);
}

}  // namespace holdfast
