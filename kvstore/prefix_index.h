// Finds published blocks by what they hold. An answer is proven: scope, parent block and all 16
// tokens are compared, so that two prefixes whose keys collide are never taken for one another.
//
//   scope ── [block 7: tokens 0..15] ── [block 3: tokens 16..31] ── ...
//                       └── [block 9: other tokens 16..31]
//
// A block's parent is named by its BlockId. That is an identity for as long as the parent is
// published, and a parent is never removed before its children: Remove stops the process instead.
// By induction from the root, a proven block stands for exactly the tokens of the whole prefix.
//
// One block a key: a second one whose content is the same is a duplicate; one whose content differs
// is a collision and stays unpublished, which costs a later miss.
//
// Thread: the scheduler's alone.    Bound: one entry for each block of the pool, allocated at
// construction. No order of the hash table is ever looked at.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "config/ids.h"
#include "kvstore/block_key.h"
#include "kvstore/reuse_scope.h"

namespace holdfast {

class PrefixIndex final {
 public:
  explicit PrefixIndex(int32_t capacity);  // in blocks

  // The block that holds exactly `tokens`, right after `parent` (nullopt: first of the sequence)
  // in `scope`. `key` is theirs.
  std::optional<BlockId> Find(const BlockKey& key, const ReuseScope& scope,
                              std::optional<BlockId> parent, BlockTokens tokens) const;

  // Enters `block` under `key`. Returns the block that answers from now on: `block`, or an earlier
  // one with the same content; nullopt if the key is taken by other content. In the last two cases
  // nothing has changed. `parent` must be in the index.
  std::optional<BlockId> Insert(BlockId block, const BlockKey& key, const ReuseScope& scope,
                                std::optional<BlockId> parent, BlockTokens tokens);

  void Remove(BlockId block);  // in the index, without children

  bool Contains(BlockId block) const { return nodes_[Index(block)].present; }
  int32_t num_children(BlockId block) const { return nodes_[Index(block)].num_children; }
  std::optional<BlockId> parent(BlockId block) const { return nodes_[Index(block)].parent; }
  int32_t size() const { return static_cast<int32_t>(blocks_.size()); }

 private:
  struct Node {
    BlockKey key;
    ReuseScope scope{};
    std::array<TokenId, kBlockTokens> tokens{};
    std::optional<BlockId> parent;
    int32_t num_children = 0;
    bool present = false;
  };
  struct KeyHash {  // a key is a hash already
    size_t operator()(const BlockKey& key) const { return key.low; }
  };

  size_t Index(BlockId block) const;
  bool Proves(const Node& node, const ReuseScope& scope, std::optional<BlockId> parent,
              BlockTokens tokens) const;

  std::vector<Node> nodes_;  // by block
  absl::flat_hash_map<BlockKey, BlockId, KeyHash> blocks_;
};

}  // namespace holdfast
