#include "kvstore/prefix_index.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

PrefixIndex::PrefixIndex(int32_t capacity) {
  CHECK(capacity > 0);
  nodes_.resize(static_cast<size_t>(capacity));
  blocks_.reserve(nodes_.size());
}

size_t PrefixIndex::Index(BlockId block) const {
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(block)));
  CHECK(index < nodes_.size());
  return index;
}

bool PrefixIndex::Proves(const Node& node, const ReuseScope& scope, std::optional<BlockId> parent,
                         BlockTokens tokens) const {
  return node.parent == parent && std::equal(tokens.begin(), tokens.end(), node.tokens.begin()) &&
         node.scope == scope;
}

std::optional<BlockId> PrefixIndex::Find(const BlockKey& key, const ReuseScope& scope,
                                         std::optional<BlockId> parent, BlockTokens tokens) const {
  const auto found = blocks_.find(key);
  if (found == blocks_.end()) return std::nullopt;
  const BlockId block = found->second;
  if (!Proves(nodes_[Index(block)], scope, parent, tokens)) return std::nullopt;
  return block;
}

std::optional<BlockId> PrefixIndex::Insert(BlockId block, const BlockKey& key,
                                           const ReuseScope& scope, std::optional<BlockId> parent,
                                           BlockTokens tokens) {
  Node& node = nodes_[Index(block)];
  CHECK(!node.present);
  CHECK(!parent || Contains(*parent));
  const auto [slot, inserted] = blocks_.try_emplace(key, block);
  if (!inserted) {
    const BlockId earlier = slot->second;
    if (!Proves(nodes_[Index(earlier)], scope, parent, tokens)) return std::nullopt;
    return earlier;
  }
  node.key = key;
  node.scope = scope;
  std::copy(tokens.begin(), tokens.end(), node.tokens.begin());
  node.parent = parent;
  node.num_children = 0;
  node.present = true;
  if (parent) ++nodes_[Index(*parent)].num_children;
  return block;
}

void PrefixIndex::Remove(BlockId block) {
  Node& node = nodes_[Index(block)];
  CHECK(node.present && node.num_children == 0);
  CHECK(blocks_.erase(node.key) == 1);
  if (node.parent) --nodes_[Index(*node.parent)].num_children;
  node.parent.reset();
  node.present = false;
}

}  // namespace holdfast
