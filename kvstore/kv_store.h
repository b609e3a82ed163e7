// Where KV blocks are, who refers to them, how they are found again and which go first: pool, index
// and eviction under one roof. Knows token spans, block ids and opaque scopes; a sequence keeps its
// own block table and cursor.
//
//   TryAcquirePrefix: [published blocks that match | fresh blocks]      all or nothing
//   Publish:          computed blocks become findable, in order
//   Release:          published blocks stay findable until room is needed, others are free at once
//
// What is published is closed under prefixes: whoever holds a block holds its parents (Publish
// puts the index's own block in the place of a duplicate), so a parent is never evicted before its
// children.
//
// Thread: the scheduler's alone.    Bound: the capacity; nothing is allocated after construction
// but growth of the callers' tables.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "config/ids.h"
#include "kvstore/block_key.h"
#include "kvstore/block_pool.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/prefix_index.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

// Blocks that cover this many token places.
constexpr int32_t BlocksFor(int64_t num_tokens) {
  return static_cast<int32_t>((num_tokens + kBlockTokens - 1) / kBlockTokens);
}

// How far a sequence's leading blocks are published. Kept by the sequence beside its table, read
// and written by the store alone.
struct PublishedPrefix {
  int32_t num_blocks = 0;
  BlockKey key;  // of the last of them; at 0 blocks, the scope's
  bool started = false;
  bool cut = false;  // the next block's key was taken by other content: nothing more is published
};

// Whether a sequence may find others' blocks and be found by others.
enum class PrefixReuse : uint8_t {
  kMatchAndPublish,
  kPublish,  // all is computed anew (logprobs of the prompt are wanted), and may be found later
  kNone,
};

struct KvStoreCounters {  // since construction
  uint64_t blocks_hit = 0;
  uint64_t blocks_published = 0;
  uint64_t blocks_duplicate = 0;  // computed twice at the same time; the second was given back
  uint64_t blocks_evicted = 0;
  uint64_t key_collisions = 0;
};

class KvStore final {
 public:
  explicit KvStore(int32_t num_blocks, BlockKeyFunctions keys = Xxh3BlockKeys());

  // For a sequence that begins to compute `tokens`: fills the empty `table` with `num_blocks`
  // blocks, of which the leading ones are those that hold the longest published prefix of `tokens`.
  // At least the last token is left to compute. Returns the number of tokens found (a multiple of
  // kBlockTokens); nullopt, with nothing changed: there is not room enough, also counting
  // `spare_blocks` that must stay available after it. Evicts what is needed.
  std::optional<int32_t> TryAcquirePrefix(const ReuseScope& scope, std::span<const TokenId> tokens,
                                          PrefixReuse reuse, int32_t num_blocks,
                                          int32_t spare_blocks, std::vector<BlockId>& table,
                                          PublishedPrefix& prefix);

  // Appends `count` fresh blocks, evicting where needed. False: too few are available, and nothing
  // has changed.
  [[nodiscard]] bool TryAcquire(int32_t count, std::vector<BlockId>& table);

  // `computed` are the tokens whose KV is in `table`, all of it written by committed steps. Makes
  // its full blocks findable that are not yet. Where another sequence has published the same
  // meanwhile, that block takes the place in `table` and ours is given back: the content is the
  // same, and steps already planned run before any later step may write to ours.
  void Publish(const ReuseScope& scope, std::span<const TokenId> computed, PrefixReuse reuse,
               std::vector<BlockId>& table, PublishedPrefix& prefix);

  // Gives back a whole table, tail first, and empties it and its cursor.
  void Release(std::vector<BlockId>& table, PublishedPrefix& prefix);

  // Forgets all evictable blocks: what the device holds is in doubt. Blocks still held and
  // published stay findable, so release all tables first.
  void ForgetEvictable();

  BlockCounts counts() const { return pool_.counts(); }
  int32_t capacity() const { return pool_.capacity(); }
  int32_t available() const { return counts().free + counts().evictable; }
  const KvStoreCounters& counters() const { return counters_; }
  const BlockPool& pool() const { return pool_; }
  const PrefixIndex& index() const { return index_; }

  void CheckInvariants() const;  // stops the process; O(capacity), for tests and idle time

 private:
  // Calls `visit(block, key)` for each block of the longest published prefix.
  template <typename Visit>
  void WalkPrefix(const ReuseScope& scope, std::span<const TokenId> tokens, Visit visit) const;
  void ReleaseBlock(BlockId block);
  void ShareBlock(BlockId block);
  void EvictOldest();

  const BlockKeyFunctions keys_;
  BlockPool pool_;
  PrefixIndex index_;
  LruEviction lru_;
  KvStoreCounters counters_;
};

}  // namespace holdfast
