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

void BlockPool::Share(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.references > 0 || entry.published);
  if (entry.references++ == 0) {
    --counts_.evictable;
    ++counts_.held;
  }
}

void BlockPool::Publish(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.references > 0 && !entry.published);
  entry.published = true;
}

BlockState BlockPool::Release(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.references > 0);
  if (--entry.references > 0) return BlockState::kHeld;
  --counts_.held;
  if (entry.published) {
    ++counts_.evictable;
    return BlockState::kEvictable;
  }
  ++counts_.free;
  free_.push_back(block);
  return BlockState::kFree;
}

void BlockPool::Evict(BlockId block) {
  Entry& entry = entries_[Index(block)];
  CHECK(entry.references == 0 && entry.published);
  entry.published = false;
  --counts_.evictable;
  ++counts_.free;
  free_.push_back(block);
}

BlockState BlockPool::state(BlockId block) const {
  const Entry& entry = entries_[Index(block)];
  if (entry.references > 0) return BlockState::kHeld;
  return entry.published ? BlockState::kEvictable : BlockState::kFree;
}

void BlockPool::CheckInvariants() const {
  BlockCounts counted;
  for (const Entry& entry : entries_) {
    CHECK(entry.references >= 0);
    if (entry.references > 0) {
      ++counted.held;
    } else if (entry.published) {
      ++counted.evictable;
    } else {
      ++counted.free;
    }
  }
  CHECK(counted == counts_);
  CHECK(counted.free + counted.held + counted.evictable == capacity());
  CHECK(static_cast<size_t>(counted.free) == free_.size());
  for (BlockId block : free_) CHECK(state(block) == BlockState::kFree);
}

}  // namespace holdfast
