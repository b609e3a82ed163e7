// What is known of contents, wherever they lie: one node for each block of each known prefix. An
// answer is proven: scope, parent node and all 16 tokens are compared, so that two prefixes whose
// keys collide are never taken for one another.
//
//   scope ── [node 7: tokens 0..15] ── [node 3: tokens 16..31] ── ...
//                       └── [node 9: other tokens 16..31]
//
// A parent is named by its NodeId. That is an identity as long as the parent is known, and a parent
// is never forgotten before its children. By induction from the root, a proven node stands for
// exactly the tokens of the whole prefix.
//
// A node lies on any of the tiers, on several or on none. One that lies nowhere is a ghost: its
// children are remembered, but a prefix ends before it, until its content is computed again.
// Forget removes a node without place, children and moves, and then its parents that become so.
//
// One node a key: a second one whose content is the same is a duplicate; one whose content differs
// is a collision and is not entered, which costs a later miss.
//
// Thread: the scheduler's alone.    Bound: the capacity, fixed at construction; memory is taken as
// nodes come: sizeof(PrefixNode) and 10.7 bytes of table each, see num_bytes(). All calls O(1), but
// Forget: O(nodes removed).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"
#include "kvstore/block_key.h"
#include "kvstore/node_table.h"
#include "kvstore/reuse_scope.h"
#include "kvstore/tier.h"

namespace holdfast {

// The tiers that have places of ours: device, host, disk, as in TierKind; and all of them.
inline constexpr size_t kNumPlaceTiers = 3;
inline constexpr size_t kNumTiers = 4;
constexpr size_t TierAt(TierKind tier) { return static_cast<size_t>(tier); }
using TierTokens = std::array<uint64_t, kNumTiers>;  // counts of tokens, by tier

inline constexpr int32_t kNoPlace = -1;  // inside a node only, where an optional would double it

// Where a content lies and what goes on with it. The store's to write (kv_store.h).
struct NodeResidence {
  std::array<int32_t, kNumPlaceTiers> place = {kNoPlace, kNoPlace, kNoPlace};
  std::array<int32_t, kNumPlaceTiers> children = {};  // that lie there too and go first
  uint8_t evictable = 0;                              // bit by tier: a policy knows the place
  uint8_t counted = 0;                                // bit by tier: one of its parent's `children`
  uint8_t num_moves = 0;                              // of any kind, in flight

  bool arriving = false;  // place[device] is being filled by a restore
  bool leaving = false;   // place[device] was chosen to go when room is needed
  bool demoting = false;  // place[host] was chosen to go, and is being copied down
  bool sending = false;   // place[device] is being read for the remote tier
  bool to_send = false;   // waits to be copied to the remote tier
  // What a reader outside was told of since it was last told everything: bit by tier, and that
  // time's number (kv_store_events.cc).
  uint32_t told : kNumPlaceTiers = 0;
  uint32_t told_time : 32 - kNumPlaceTiers = 0;
  uint32_t remote_until_s = 0;  // taken to lie on the remote tier until then (Unix time)
  int64_t last_used_us = 0;     // when somebody last referred to it
};

// A reuse scope that some node is in; a short name for as long as there is one.
enum class ScopeId : uint32_t {};

struct PrefixNode {
  BlockKey key;
  BlockDigest digest{};  // zeros where no lower tier will ask for it
  std::array<TokenId, kBlockTokens> tokens{};
  ScopeId scope{};
  uint32_t parent = 0;  // kNoParent: the first of its sequence
  int32_t depth = 0;
  int32_t num_children = 0;
  TenantIndex owner{};  // who published it first
  NodeResidence at;
};

class PrefixIndex final {
 public:
  struct KeyHash {  // a key is a hash already
    size_t operator()(const BlockKey& key) const { return key.low; }
  };

  explicit PrefixIndex(int32_t capacity);  // in nodes

  // nullopt: no node is in it.
  std::optional<ScopeId> FindScope(const ReuseScope& scope) const;

  // The node that stands for exactly `tokens`, right after `parent` (nullopt: first of the
  // sequence) in `scope`. `key` is theirs.
  std::optional<NodeId> Find(const BlockKey& key, ScopeId scope, std::optional<NodeId> parent,
                             BlockTokens tokens) const;

  enum class Outcome : uint8_t {
    kNew,
    kKnown,      // an earlier node has the same content
    kCollision,  // the key is taken by other content; nothing has changed
    kFull,       // nothing has changed
  };
  struct Inserted {
    Outcome outcome = Outcome::kNew;
    NodeId node{};  // of kNew and kKnown
  };
  // `parent` must be known. A new node has no place yet: give it one, or Forget it.
  Inserted Insert(const BlockKey& key, const ReuseScope& scope, std::optional<NodeId> parent,
                  BlockTokens tokens, TenantIndex owner);

  // Brings near what an Insert of `key` below `parent` will touch.
  void PrefetchInsert(const BlockKey& key, std::optional<NodeId> parent) const;

  // If nothing keeps the node, it and those of its ancestors that nothing else kept are gone.
  void Forget(NodeId node);

  const PrefixNode& operator[](NodeId node) const { return nodes_[Index(node)]; }
  NodeResidence& residence(NodeId node) { return nodes_[Index(node)].at; }
  void SetDigest(NodeId node, const BlockDigest& digest) { nodes_[Index(node)].digest = digest; }
  bool Contains(NodeId node) const;
  std::optional<NodeId> parent(NodeId node) const;
  const ReuseScope& scope(NodeId node) const {
    return scopes_[Number(nodes_[Index(node)].scope)].scope;
  }

  int32_t size() const { return size_; }
  int32_t capacity() const { return capacity_; }
  int32_t num_nodes_ever() const { return static_cast<int32_t>(nodes_.size()); }  // ids are below
  size_t num_bytes() const;                                                       // as taken now

  void CheckInvariants() const;  // stops the process; O(nodes)

 private:
  static constexpr uint32_t kNoParent = ~uint32_t{0};
  static constexpr int32_t kUnused = -1;  // depth of a node that stands for nothing

  struct Scope {
    ReuseScope scope{};
    int32_t num_nodes = 0;
  };

  static uint32_t HashOf(const BlockKey& key) { return static_cast<uint32_t>(key.low); }
  static bool IsForgettable(const PrefixNode& node);
  size_t Index(NodeId node) const;
  ScopeId TakeScope(const ReuseScope& scope);
  void DropScope(ScopeId scope);
  std::optional<NodeId> FindKey(const BlockKey& key) const;
  static bool Proves(const PrefixNode& node, ScopeId scope, uint32_t parent, BlockTokens tokens);

  const int32_t capacity_;
  int32_t size_ = 0;
  NodeTable table_;
  std::vector<PrefixNode> nodes_;      // reserved, not touched before it is needed
  uint32_t first_unused_ = kNoParent;  // a list of unused nodes, threaded through `parent`
  absl::flat_hash_map<ReuseScope, ScopeId> scope_ids_;
  std::vector<Scope> scopes_;
  std::vector<ScopeId> unused_scopes_;
};

}  // namespace holdfast
