#include "kvstore/prefix_index.h"

#include <algorithm>

#include "config/base/check.h"
#include "config/base/prefetch.h"

namespace holdfast {

PrefixIndex::PrefixIndex(int32_t capacity) : capacity_(capacity), table_(capacity) {
  CHECK(capacity > 0);
  nodes_.reserve(static_cast<size_t>(capacity));
}

size_t PrefixIndex::Index(NodeId node) const {
  const size_t index = Number(node);
  CHECK(index < nodes_.size());
  return index;
}

bool PrefixIndex::Contains(NodeId node) const { return nodes_[Index(node)].depth != kUnused; }

std::optional<NodeId> PrefixIndex::parent(NodeId node) const {
  const uint32_t parent = nodes_[Index(node)].parent;
  return parent == kNoParent ? std::nullopt : std::optional(NodeId{parent});
}

std::optional<ScopeId> PrefixIndex::FindScope(const ReuseScope& scope) const {
  const auto found = scope_ids_.find(scope);
  if (found == scope_ids_.end()) return std::nullopt;
  return found->second;
}

ScopeId PrefixIndex::TakeScope(const ReuseScope& scope) {
  const auto [found, is_new] = scope_ids_.try_emplace(scope);
  if (is_new) {
    if (unused_scopes_.empty()) {
      unused_scopes_.push_back(ScopeId{static_cast<uint32_t>(scopes_.size())});
      scopes_.emplace_back();
    }
    found->second = unused_scopes_.back();
    unused_scopes_.pop_back();
    scopes_[Number(found->second)] = {.scope = scope};
  }
  ++scopes_[Number(found->second)].num_nodes;
  return found->second;
}

void PrefixIndex::DropScope(ScopeId scope) {
  Scope& dropped = scopes_[Number(scope)];
  CHECK(dropped.num_nodes > 0);
  if (--dropped.num_nodes > 0) return;
  scope_ids_.erase(dropped.scope);
  unused_scopes_.push_back(scope);
}

std::optional<NodeId> PrefixIndex::FindKey(const BlockKey& key) const {
  return table_.Find(HashOf(key), [&](NodeId node) { return nodes_[Number(node)].key == key; });
}

bool PrefixIndex::Proves(const PrefixNode& node, ScopeId scope, uint32_t parent,
                         BlockTokens tokens) {
  return node.parent == parent && node.scope == scope &&
         std::equal(tokens.begin(), tokens.end(), node.tokens.begin());
}

std::optional<NodeId> PrefixIndex::Find(const BlockKey& key, ScopeId scope,
                                        std::optional<NodeId> parent, BlockTokens tokens) const {
  const std::optional<NodeId> found = FindKey(key);
  const uint32_t parent_number = parent ? Number(*parent) : kNoParent;
  if (!found || !Proves(nodes_[Number(*found)], scope, parent_number, tokens)) return std::nullopt;
  return found;
}

PrefixIndex::Inserted PrefixIndex::Insert(const BlockKey& key, const ReuseScope& scope,
                                          std::optional<NodeId> parent, BlockTokens tokens,
                                          TenantIndex owner) {
  CHECK(!parent || Contains(*parent));
  const uint32_t parent_number = parent ? Number(*parent) : kNoParent;
  if (const std::optional<NodeId> known = FindKey(key)) {
    const std::optional<ScopeId> scope_id = FindScope(scope);
    if (scope_id && Proves(nodes_[Number(*known)], *scope_id, parent_number, tokens)) {
      return {.outcome = Outcome::kKnown, .node = *known};
    }
    return {.outcome = Outcome::kCollision};
  }
  if (size_ == capacity_) return {.outcome = Outcome::kFull};
  NodeId id{static_cast<uint32_t>(nodes_.size())};
  if (first_unused_ != kNoParent) {
    id = NodeId{first_unused_};
    first_unused_ = nodes_[first_unused_].parent;
  } else {
    nodes_.emplace_back();
  }
  PrefixNode& node = nodes_[Number(id)];
  node = PrefixNode{.key = key,
                    .scope = TakeScope(scope),
                    .parent = parent_number,
                    .depth = parent ? nodes_[Number(*parent)].depth + 1 : 0,
                    .owner = owner};
  std::copy(tokens.begin(), tokens.end(), node.tokens.begin());
  if (parent) ++nodes_[Number(*parent)].num_children;
  table_.Insert(HashOf(key), id);
  ++size_;
  return {.outcome = Outcome::kNew, .node = id};
}

void PrefixIndex::PrefetchInsert(const BlockKey& key, std::optional<NodeId> parent) const {
  table_.Prefetch(HashOf(key));
  if (parent) Prefetch(&nodes_[Index(*parent)], sizeof(PrefixNode));
}

bool PrefixIndex::IsForgettable(const PrefixNode& node) {
  return node.num_children == 0 && node.at.num_moves == 0 &&
         std::all_of(node.at.place.begin(), node.at.place.end(),
                     [](int32_t place) { return place == kNoPlace; });
}

void PrefixIndex::Forget(NodeId id) {
  CHECK(Contains(id));
  while (IsForgettable(nodes_[Number(id)])) {
    PrefixNode& node = nodes_[Number(id)];
    table_.Erase(HashOf(node.key), id);
    DropScope(node.scope);
    --size_;
    const uint32_t parent = node.parent;
    node.depth = kUnused;
    node.parent = first_unused_;
    first_unused_ = Number(id);
    if (parent == kNoParent) return;
    --nodes_[parent].num_children;
    id = NodeId{parent};
  }
}

size_t PrefixIndex::num_bytes() const {
  return table_.num_bytes() + nodes_.size() * sizeof(PrefixNode) +
         scopes_.size() * (sizeof(Scope) + sizeof(ReuseScope) + sizeof(ScopeId));
}

void PrefixIndex::CheckInvariants() const {
  std::vector<int32_t> children(nodes_.size());
  std::vector<int32_t> scope_nodes(scopes_.size());
  int32_t size = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const PrefixNode& node = nodes_[i];
    if (node.depth == kUnused) continue;
    ++size;
    ++scope_nodes[Number(node.scope)];
    CHECK(!IsForgettable(node));
    CHECK(FindKey(node.key) == NodeId{static_cast<uint32_t>(i)});
    if (node.parent == kNoParent) {
      CHECK(node.depth == 0);
      continue;
    }
    const PrefixNode& parent = nodes_[Index(NodeId{node.parent})];
    CHECK(parent.depth == node.depth - 1 && parent.scope == node.scope);
    ++children[node.parent];
  }
  CHECK(size == size_);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].depth != kUnused) CHECK(nodes_[i].num_children == children[i]);
  }
  for (size_t i = 0; i < scopes_.size(); ++i) CHECK(scopes_[i].num_nodes == scope_nodes[i]);
}

}  // namespace holdfast
