// What the store copies to disk before the process ends.
#include <algorithm>

#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

constexpr size_t kDevice = TierAt(TierKind::kDevice);
constexpr size_t kHost = TierAt(TierKind::kHost);
constexpr size_t kDisk = TierAt(TierKind::kDisk);

}  // namespace

void KvStore::BeginHandDown() {
  CHECK(counts().held == 0 && !hand_down_);
  hand_down_.emplace(HandDown{.done_before = num_copied_down()});
}

uint64_t KvStore::num_copied_down() const {
  return counters_.moves[static_cast<size_t>(MoveKind::kOffload)].done +
         counters_.moves[static_cast<size_t>(MoveKind::kDemote)].done;
}

int32_t KvStore::num_handed_down() const {
  return hand_down_ ? static_cast<int32_t>(num_copied_down() - hand_down_->done_before) : 0;
}

bool KvStore::has_handed_down() const {
  const bool has_sent = next_send_ == to_send_.size() && num_sends_ == 0;
  if (!hand_down_ || !has_sent || !moves_.empty()) return false;
  return options_.disk == nullptr ||
         (hand_down_->is_listed && hand_down_->next == hand_down_->nodes.size());
}

void KvStore::PlanHandDown(absl::Time now) {
  if (options_.disk == nullptr) return;
  HandDown& down = *hand_down_;
  if (!down.is_listed) {
    // What moves already has its way; what is on its way to the remote tier is still to be read.
    if (next_send_ < to_send_.size() || num_moves() > 0) return;
    ListHandDown();
  }
  for (; down.next < down.nodes.size() && background_moves() < options_.moves_max; ++down.next) {
    const NodeId node = down.nodes[down.next];
    if (!MayHaveSlotOnDisk(node, now)) continue;
    TierSlot slot{};
    const Reserve reserve = ReserveSlot(TierKind::kDisk, index_[node].owner, now, slot);
    // The disk may want a moment to make room; if nothing is under way, nobody would ask again.
    if (reserve == Reserve::kLater && background_moves() > 0) return;
    if (reserve != Reserve::kDone) continue;
    const NodeResidence& at = index_[node].at;
    if (at.place[kHost] != kNoPlace) {
      StartDemote(node, slot, now);
    } else {
      if (at.leaving) Stay(node, now);
      StartOffload(node, TierKind::kDisk, slot, now);
    }
  }
}

void KvStore::ListHandDown() {
  HandDown& down = *hand_down_;
  down.is_listed = true;
  std::vector<NodeId> known;
  down.used_us.resize(static_cast<size_t>(index_.num_nodes_ever()));
  for (int32_t i = 0; i < index_.num_nodes_ever(); ++i) {
    const NodeId node{static_cast<uint32_t>(i)};
    if (!index_.Contains(node)) continue;
    known.push_back(node);
    down.used_us[Number(node)] = index_[node].at.last_used_us;
  }
  const auto deeper = [&](NodeId a, NodeId b) { return index_[a].depth > index_[b].depth; };
  std::stable_sort(known.begin(), known.end(), deeper);
  for (NodeId node : known) {
    const std::optional<NodeId> parent = index_.parent(node);
    if (!parent) continue;
    int64_t& parent_us = down.used_us[Number(*parent)];
    parent_us = std::max(parent_us, down.used_us[Number(node)]);
  }
  for (auto node = known.rbegin(); node != known.rend(); ++node) {
    const NodeResidence& at = index_[*node].at;
    const bool is_in_memory = at.place[kDevice] != kNoPlace || at.place[kHost] != kNoPlace;
    if (is_in_memory && at.place[kDisk] == kNoPlace) down.nodes.push_back(*node);
  }
  std::stable_sort(down.nodes.begin(), down.nodes.end(), [&](NodeId a, NodeId b) {
    return down.used_us[Number(a)] > down.used_us[Number(b)];
  });
}

// Nothing goes for what was used before it.
bool KvStore::MayHaveSlotOnDisk(NodeId node, absl::Time now) {
  Places& disk = places_[kDisk];
  const TenantIndex owner = index_[node].owner;
  std::optional<int32_t> victim;
  if (disk.ledger.AtCeiling(owner)) {
    victim = disk.ledger.WorstOf(owner, now);
  } else if (disk.tier->num_free() == 0) {
    victim = disk.ledger.Worst(
        now, [&](TenantIndex other) { return other == owner || disk.ledger.AboveFloor(other); });
  }
  if (!victim) return true;
  const NodeId other = *At(TierKind::kDisk, TierSlot{*victim}).node;
  return hand_down_->used_us[Number(other)] < hand_down_->used_us[Number(node)];
}

}  // namespace holdfast
