#include "kvstore/kv_store.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {
namespace {

BlockTokens TokensOfBlock(std::span<const TokenId> tokens, int32_t block_index) {
  return tokens.subspan(static_cast<size_t>(block_index) * kBlockTokens).first<kBlockTokens>();
}

}  // namespace

KvStore::KvStore(int32_t num_blocks, BlockKeyFunctions keys)
    : keys_(keys), pool_(num_blocks), index_(num_blocks), lru_(num_blocks) {}

template <typename Visit>
void KvStore::WalkPrefix(const ReuseScope& scope, std::span<const TokenId> tokens,
                         Visit visit) const {
  if (tokens.empty()) return;
  const auto num_blocks_max = static_cast<int32_t>((tokens.size() - 1) / kBlockTokens);
  BlockKey key = keys_.root(scope);
  std::optional<BlockId> parent;
  for (int32_t i = 0; i < num_blocks_max; ++i) {
    const BlockTokens block_tokens = TokensOfBlock(tokens, i);
    key = keys_.next(key, block_tokens);
    parent = index_.Find(key, scope, parent, block_tokens);
    if (!parent) return;
    visit(*parent, key);
  }
}

std::optional<int32_t> KvStore::TryAcquirePrefix(const ReuseScope& scope,
                                                 std::span<const TokenId> tokens, PrefixReuse reuse,
                                                 int32_t num_blocks, int32_t spare_blocks,
                                                 std::vector<BlockId>& table,
                                                 PublishedPrefix& prefix) {
  CHECK(table.empty() && prefix.num_blocks == 0 && num_blocks >= 0 && spare_blocks >= 0);
  int32_t num_evictable_hits = 0;
  BlockKey last_key = keys_.root(scope);
  if (reuse == PrefixReuse::kMatchAndPublish) {
    WalkPrefix(scope, tokens, [&](BlockId block, const BlockKey& key) {
      table.push_back(block);
      last_key = key;
      if (pool_.state(block) == BlockState::kEvictable) ++num_evictable_hits;
    });
  }
  const auto num_hits = static_cast<int32_t>(table.size());
  CHECK(num_hits <= num_blocks);
  if (num_blocks - num_hits + spare_blocks > available() - num_evictable_hits) {
    table.clear();
    return std::nullopt;
  }
  // Before any eviction, or a hit might go to make room for the rest.
  for (BlockId block : table) ShareBlock(block);
  CHECK(TryAcquire(num_blocks - num_hits, table));
  counters_.blocks_hit += static_cast<uint64_t>(num_hits);
  prefix = {.num_blocks = num_hits, .key = last_key, .started = true};
  return num_hits * kBlockTokens;
}

bool KvStore::TryAcquire(int32_t count, std::vector<BlockId>& table) {
  if (count > available()) return false;
  while (pool_.counts().free < count) EvictOldest();
  return pool_.TryAcquire(count, table);
}

void KvStore::Publish(const ReuseScope& scope, std::span<const TokenId> computed, PrefixReuse reuse,
                      std::vector<BlockId>& table, PublishedPrefix& prefix) {
  if (reuse == PrefixReuse::kNone || prefix.cut) return;
  const auto num_full = static_cast<int32_t>(computed.size() / kBlockTokens);
  CHECK(static_cast<size_t>(num_full) <= table.size());
  if (!prefix.started) prefix = {.key = keys_.root(scope), .started = true};
  while (prefix.num_blocks < num_full) {
    const int32_t i = prefix.num_blocks;
    const BlockTokens tokens = TokensOfBlock(computed, i);
    const BlockKey key = keys_.next(prefix.key, tokens);
    const std::optional<BlockId> parent =
        i == 0 ? std::nullopt : std::optional(table[static_cast<size_t>(i) - 1]);
    BlockId& block = table[static_cast<size_t>(i)];
    const std::optional<BlockId> answers = index_.Insert(block, key, scope, parent, tokens);
    if (!answers) {
      ++counters_.key_collisions;
      prefix.cut = true;
      return;
    }
    if (*answers == block) {
      pool_.Publish(block);
      ++counters_.blocks_published;
    } else {
      ShareBlock(*answers);
      ReleaseBlock(block);
      block = *answers;
      ++counters_.blocks_duplicate;
    }
    prefix.key = key;
    ++prefix.num_blocks;
  }
}

void KvStore::Release(std::vector<BlockId>& table, PublishedPrefix& prefix) {
  for (auto block = table.rbegin(); block != table.rend(); ++block) ReleaseBlock(*block);
  table.clear();
  prefix = {};
}

void KvStore::ForgetEvictable() {
  while (lru_.size() > 0) EvictOldest();
}

void KvStore::ShareBlock(BlockId block) {
  if (pool_.state(block) == BlockState::kEvictable) lru_.Remove(block);
  pool_.Share(block);
}

void KvStore::ReleaseBlock(BlockId block) {
  if (pool_.Release(block) == BlockState::kEvictable) lru_.Add(block);
}

void KvStore::EvictOldest() {
  const std::optional<BlockId> block = lru_.Oldest();
  CHECK(block.has_value());
  lru_.Remove(*block);
  index_.Remove(*block);
  pool_.Evict(*block);
  ++counters_.blocks_evicted;
}

void KvStore::CheckInvariants() const {
  pool_.CheckInvariants();
  CHECK(lru_.size() == counts().evictable);
  int32_t num_published = 0;
  for (int32_t i = 0; i < capacity(); ++i) {
    const BlockId block{i};
    CHECK(pool_.published(block) == index_.Contains(block));
    if (!index_.Contains(block)) continue;
    ++num_published;
    if (const std::optional<BlockId> parent = index_.parent(block)) {
      CHECK(index_.Contains(*parent));
      // Whoever holds a block holds its prefix.
      CHECK(pool_.references(*parent) >= pool_.references(block));
    }
  }
  CHECK(num_published == index_.size());
}

}  // namespace holdfast
