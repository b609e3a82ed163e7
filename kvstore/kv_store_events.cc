// What the store tells a reader outside of where its blocks lie (kv_event_ring.h).
//
// A node remembers what was told of it since everything was last told anew, by the number of that
// time. What finds no room in the ring is not told, and nothing is from there on, until the reader
// has taken all: then it hears that nothing lies anywhere, and of one known node after the other, a
// few at a time, each after its ancestors. Changes go on being told meanwhile. So does the start:
// what was found on disk is told then, and who remembers an earlier life of this process forgets
// it.
#include <algorithm>
#include <iterator>

#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

// Some 100 us, at a cache miss each.
constexpr int32_t kNodesAtOnce = 1024;
constexpr TierKind kPlaceTiers[] = {TierKind::kDevice, TierKind::kHost, TierKind::kDisk};

constexpr uint32_t BitOf(TierKind tier) { return 1u << TierAt(tier); }

}  // namespace

bool KvStore::WasTold(const NodeResidence& at, TierKind tier) const {
  return at.told_time == events_time_ && (at.told & BitOf(tier)) != 0;
}

void KvStore::Tell(NodeId node, TierKind tier, bool resident) {
  if (!telling_ || resident == WasTold(index_[node].at, tier)) return;
  const std::optional<NodeId> parent = index_.parent(node);
  if (resident && parent && !IsAllTold()) {
    (void)TellDownTo(*parent, [] { return true; });
  }
  if (telling_) TellAlone(node, tier, resident);
}

void KvStore::TellAlone(NodeId id, TierKind tier, bool resident) {
  const PrefixNode& node = index_[id];
  KvEvent event{.kind = resident ? KvEvent::Kind::kStored : KvEvent::Kind::kRemoved,
                .tier = tier,
                .block = node.key.low};
  if (resident) {
    const std::optional<NodeId> parent = index_.parent(id);
    event.has_parent = parent.has_value();
    event.parent = parent ? index_[*parent].key.low : 0;
    event.tokens = node.tokens;
  }
  telling_ = options_.events->Push(event);
  NodeResidence& at = index_.residence(id);
  if (at.told_time != events_time_) at.told = 0;
  at.told_time = events_time_;
  at.told ^= BitOf(tier);
}

// The node and its ancestors, up to one of which all was told, or that lies nowhere; the first of
// them first, as long as `may_tell()`. False: not all of them.
template <typename MayTell>
bool KvStore::TellDownTo(NodeId id, MayTell may_tell) {
  told_of_.clear();
  for (std::optional<NodeId> node = id; node; node = index_.parent(*node)) {
    const NodeResidence& at = index_[*node].at;
    const auto is_untold = [&](TierKind tier) { return Resident(at, tier) && !WasTold(at, tier); };
    if (std::none_of(std::begin(kPlaceTiers), std::end(kPlaceTiers), is_untold)) break;
    told_of_.push_back(*node);
  }
  for (auto node = told_of_.rbegin(); node != told_of_.rend(); ++node) {
    for (const TierKind tier : kPlaceTiers) {
      const NodeResidence& at = index_[*node].at;
      if (!Resident(at, tier) || WasTold(at, tier)) continue;
      if (!telling_ || !may_tell()) return false;
      TellAlone(*node, tier, true);
    }
  }
  return true;
}

void KvStore::TellAnew() {
  KvEventRing* const events = options_.events;
  if (events == nullptr || IsAllTold()) return;
  if (!telling_) {
    if (!events->IsEmpty()) return;
    ++events_time_;
    next_to_tell_ = 0;
    tell_until_ = index_.num_nodes_ever();
    telling_ = events->Push({.kind = KvEvent::Kind::kCleared});
    events->CountRestart();
  }
  for (int32_t i = 0; i < kNodesAtOnce && !IsAllTold(); ++i) {
    // Half of the room is left to what changes meanwhile.
    if (events->num_free() < (events->capacity() + 1) / 2) return;
    const NodeId node{static_cast<uint32_t>(next_to_tell_)};
    if (index_.Contains(node) && !TellDownTo(node, [&] { return events->num_free() > 0; })) return;
    ++next_to_tell_;
  }
}

}  // namespace holdfast
