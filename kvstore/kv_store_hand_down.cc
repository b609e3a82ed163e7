// What the store copies to disk before the process ends.
#include <algorithm>

#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

constexpr size_t kDevice = TierAt(TierKind::kDevice);
constexpr size_t kHost = TierAt(TierKind::kHost);
constexpr size_t kDisk = TierAt(TierKind::kDisk);

bool IsOnDisk(const PrefixNode& node) { return node.at.place[kDisk] != kNoPlace; }

}  // namespace

void KvStore::BeginHandDown() {
  CHECK(counts().held == 0 && !hand_down_);
  hand_down_ = HandDown{};
}

uint64_t KvStore::num_copied_down() const {
  return counters_.moves[static_cast<size_t>(MoveKind::kOffload)].done +
         counters_.moves[static_cast<size_t>(MoveKind::kDemote)].done;
}

bool KvStore::IsWhollyCopied() const {
  if (options_.disk == nullptr) return true;
  return hand_down_->is_listed && hand_down_->next == hand_down_->nodes.size();
}

KvStore::HandedDown KvStore::handed_down() const {
  if (!hand_down_) return {};
  HandedDown handed{.wanted = static_cast<int32_t>(hand_down_->nodes.size())};
  if (hand_down_->is_listed) {
    handed.copied = static_cast<int32_t>(num_copied_down() - hand_down_->done_before);
  }
  const bool has_sent = next_send_ == to_send_.size() && num_sends_ == 0;
  handed.ended = IsWhollyCopied() && has_sent && moves_.empty();
  return handed;
}

void KvStore::PlanHandDown(absl::Time now) {
  HandDown& down = *hand_down_;
  if (options_.disk != nullptr && !down.is_listed) {
    // What moves between our tiers already goes its way first.
    if (num_moves() > num_sends_ - num_read_) return;
    ListHandDown(now);
  }
  for (; !IsWhollyCopied() && background_moves() < options_.moves_max; ++down.next) {
    const NodeId node = down.nodes[down.next];
    const NodeResidence& at = index_[node].at;
    const std::optional<NodeId> parent = index_.parent(node);
    const bool has_parent = !parent || IsOnDisk(index_[*parent]) || index_[*parent].at.leaving ||
                            index_[*parent].at.demoting;
    if (!has_parent || at.num_moves > 0) continue;  // sent: then other daemons find it
    const std::optional<TierSlot> slot = ReserveForHandDown(index_[node].owner, now);
    // The disk may want a moment; if nothing is under way, nobody would ask again.
    if (!slot && background_moves() > 0) return;
    if (!slot) continue;
    if (at.place[kHost] != kNoPlace) {
      StartDemote(node, *slot, now);
    } else {
      StartOffload(node, TierKind::kDisk, *slot, now);
    }
  }
  if (IsWhollyCopied() && background_moves() == 0) StartSends(now);
}

// The last used first, where using what follows a block is using it; each after its parent.
std::vector<NodeId> KvStore::KnownByUse() const {
  std::vector<NodeId> known;
  std::vector<int64_t> used_us(static_cast<size_t>(index_.num_nodes_ever()));
  for (int32_t i = 0; i < index_.num_nodes_ever(); ++i) {
    const NodeId node{static_cast<uint32_t>(i)};
    if (!index_.Contains(node)) continue;
    known.push_back(node);
    used_us[Number(node)] = index_[node].at.last_used_us;
  }
  std::stable_sort(known.begin(), known.end(),
                   [&](NodeId a, NodeId b) { return index_[a].depth < index_[b].depth; });
  for (auto node = known.rbegin(); node != known.rend(); ++node) {
    const std::optional<NodeId> parent = index_.parent(*node);
    if (!parent) continue;
    int64_t& parent_us = used_us[Number(*parent)];
    parent_us = std::max(parent_us, used_us[Number(*node)]);
  }
  std::stable_sort(known.begin(), known.end(),
                   [&](NodeId a, NodeId b) { return used_us[Number(a)] > used_us[Number(b)]; });
  return known;
}

// What is to lie on disk in the end is the first part of what is known, in the order of its use, as
// far as tenants may keep it there.
void KvStore::ListHandDown(absl::Time now) {
  HandDown& down = *hand_down_;
  down.is_listed = true;
  down.done_before = num_copied_down();
  int32_t num_chosen = 0;
  std::vector<int32_t> chosen_of(options_.tenants.size());
  std::vector<bool> is_chosen(static_cast<size_t>(index_.num_nodes_ever()));
  for (NodeId id : KnownByUse()) {
    const PrefixNode& node = index_[id];
    if (node.at.leaving) Stay(id, now);
    const std::optional<NodeId> parent = index_.parent(id);
    const auto owner = static_cast<size_t>(Number(node.owner));
    const bool has_content =
        node.at.place[kDevice] != kNoPlace || node.at.place[kHost] != kNoPlace || IsOnDisk(node);
    const auto& ceiling = options_.tenants[owner].tiers[kDisk].ceiling_blocks;
    if (has_content && (!parent || is_chosen[Number(*parent)]) &&
        num_chosen < options_.disk->capacity() && (!ceiling || chosen_of[owner] < *ceiling)) {
      is_chosen[Number(id)] = true;
      ++num_chosen;
      ++chosen_of[owner];
      if (!IsOnDisk(node)) down.nodes.push_back(id);
    } else if (IsOnDisk(node)) {
      down.spares.push_back(id);
    }
  }
}

std::optional<TierSlot> KvStore::ReserveForHandDown(TenantIndex owner, absl::Time now) {
  Places& disk = places_[kDisk];
  const bool at_ceiling = disk.ledger.AtCeiling(owner);
  if (at_ceiling || disk.tier->num_free() == 0) {
    std::vector<NodeId>& spares = hand_down_->spares;
    const auto spare = std::find_if(spares.rbegin(), spares.rend(), [&](NodeId node) {
      const TenantIndex other = index_[node].owner;
      return other == owner || (!at_ceiling && disk.ledger.AboveFloor(other));
    });
    if (spare == spares.rend()) return std::nullopt;
    const NodeId node = *spare;
    spares.erase(std::next(spare).base());
    DropPlace(node, TierKind::kDisk, EvictionLeave::kEvicted, now);
  }
  const std::optional<TierSlot> slot = disk.tier->TryReserve();
  if (!slot) return std::nullopt;
  disk.ledger.Take(owner);
  BeginUse(TierKind::kDisk, *slot);
  return slot;
}

}  // namespace holdfast
