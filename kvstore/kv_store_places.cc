// The store's accounts: who has which place on which tier, and which may go.
#include <algorithm>

#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

constexpr uint8_t BitOf(TierKind tier) { return static_cast<uint8_t>(1u << TierAt(tier)); }

}  // namespace

KvStore::Slot& KvStore::At(TierKind tier, TierSlot slot) {
  std::vector<Slot>& slots = places_[TierAt(tier)].slots;
  const auto index = static_cast<size_t>(static_cast<uint32_t>(Number(slot)));
  CHECK(index < slots.size());
  return slots[index];
}

TenantIndex KvStore::OwnerOf(NodeId node, TierKind tier) const {
  // On the device it counts against whoever computed it there; copies against the first.
  if (tier != TierKind::kDevice) return index_[node].owner;
  return At(BlockId{index_[node].at.place[TierAt(tier)]}).owner;
}

bool KvStore::Resident(const NodeResidence& at, TierKind tier) const {
  return at.place[TierAt(tier)] != kNoPlace && !(tier == TierKind::kDevice && at.arriving);
}

void KvStore::SettleAs(NodeId node, TierKind tier, bool resident, EvictionLeave why,
                       absl::Time now) {
  if (options_.events != nullptr) Tell(node, tier, resident);
  NodeResidence& at = index_.residence(node);
  const uint8_t bit = BitOf(tier);
  const int32_t place = at.place[TierAt(tier)];
  // What is read for the remote tier cannot go first for a moment: its parents must not wait for
  // it, or what `available` counts could not be had.
  const bool going = (tier == TierKind::kDevice && (at.leaving || at.sending)) ||
                     (tier == TierKind::kHost && at.demoting);
  const bool counts = resident && !going;
  if (counts != ((at.counted & bit) != 0)) {
    at.counted ^= bit;
    if (const std::optional<NodeId> parent = index_.parent(node)) {
      index_.residence(*parent).children[TierAt(tier)] += counts ? 1 : -1;
      Settle(*parent, tier, EvictionLeave::kForgotten, now);
    }
  }
  bool evictable = counts && at.children[TierAt(tier)] == 0;
  if (evictable && tier == TierKind::kDevice) {
    evictable = pool_.state(BlockId{place}) == BlockState::kEvictable;
  } else if (evictable) {
    evictable = At(tier, TierSlot{place}).moves == 0;
  }
  if (evictable == ((at.evictable & bit) != 0)) return;
  at.evictable ^= bit;
  TierLedger& ledger = places_[TierAt(tier)].ledger;
  if (!evictable) {
    ledger.Remove(OwnerOf(node, tier), place, why, now);
    return;
  }
  const PrefixNode& known = index_[node];
  ledger.Add(OwnerOf(node, tier),
             {.place = place,
              .depth = known.depth,
              .content = known.key.low,
              .last_used = absl::FromUnixMicros(at.last_used_us)},
             now);
}

void KvStore::Account(BlockId block, BlockState before, BlockState after) {
  if (before == after) return;
  DeviceBlock& entry = At(block);
  int32_t& evictable = evictable_[static_cast<size_t>(Number(entry.owner))];
  if (before == BlockState::kEvictable) --evictable;
  if (after == BlockState::kEvictable) ++evictable;
  if (after != BlockState::kFree) return;
  places_[TierAt(TierKind::kDevice)].ledger.GiveBack(entry.owner);
  entry = {};
}

void KvStore::Leave(NodeId node, absl::Time now) {
  NodeResidence& at = index_.residence(node);
  const BlockId block{at.place[TierAt(TierKind::kDevice)]};
  CHECK(!at.leaving);
  at.leaving = true;
  ++leaving_[static_cast<size_t>(Number(At(block).owner))];
  Settle(node, TierKind::kDevice, EvictionLeave::kEvicted, now);
  if (pool_.state(block) == BlockState::kEvictable) departures_.Add(block, At(block).owner);
}

void KvStore::Stay(NodeId node, absl::Time now) {
  NodeResidence& at = index_.residence(node);
  const BlockId block{at.place[TierAt(TierKind::kDevice)]};
  const TenantIndex owner = At(block).owner;
  CHECK(at.leaving);
  at.leaving = false;
  --leaving_[static_cast<size_t>(Number(owner))];
  if (departures_.Contains(block)) departures_.Remove(block, owner);
  Settle(node, TierKind::kDevice, EvictionLeave::kForgotten, now);
}

bool KvStore::Lend(int32_t count, TenantIndex tenant, absl::Time now, std::vector<BlockId>& table) {
  TierLedger& ledger = places_[TierAt(TierKind::kDevice)].ledger;
  for (int32_t i = 0; i < count && ledger.AtCeiling(tenant, count); ++i) {
    if (!EvictOwn(tenant, now)) break;
  }
  while (pool_.counts().free < count) {
    if (!EvictFor(tenant, now)) return false;
  }
  const size_t first = table.size();
  CHECK(pool_.TryAcquire(count, table));
  for (size_t i = first; i < table.size(); ++i) {
    At(table[i]) = {.owner = tenant};
    ledger.Take(tenant);
  }
  return true;
}

bool KvStore::EvictOwn(TenantIndex tenant, absl::Time now) {
  TierLedger& ledger = places_[TierAt(TierKind::kDevice)].ledger;
  std::optional<BlockId> victim =
      departures_.First([&](TenantIndex owner) { return owner == tenant; });
  if (!victim) {
    if (const std::optional<int32_t> worst = ledger.WorstOf(tenant, now)) victim = BlockId{*worst};
  }
  if (!victim) return false;
  EvictBlock(*victim, now);
  return true;
}

bool KvStore::EvictFor(TenantIndex tenant, absl::Time now) {
  TierLedger& ledger = places_[TierAt(TierKind::kDevice)].ledger;
  const auto may_go = [&](TenantIndex owner) {
    return owner == tenant || ledger.AboveFloor(owner);
  };
  std::optional<BlockId> victim = departures_.First(may_go);
  if (!victim) {
    std::optional<int32_t> worst = ledger.Worst(now, may_go);
    // What may go, as `available` counts it, may have children of a tenant at its floor (one
    // sharing group): they go first, or a sequence that fits would wait for ever.
    if (!worst) worst = ledger.Worst(now, [](TenantIndex) { return true; });
    if (worst) victim = BlockId{*worst};
  }
  if (!victim) return false;
  EvictBlock(*victim, now);
  return true;
}

void KvStore::EvictBlock(BlockId block, absl::Time now) {
  const NodeId node = *At(block).node;
  NodeResidence& at = index_.residence(node);
  CHECK(at.place[TierAt(TierKind::kDevice)] == Number(block) && !at.arriving);
  if (observations_.residency_seconds.size() < KvObservations::kMax) {
    const int64_t us = absl::ToUnixMicros(now) - At(block).since_us;
    observations_.residency_seconds.push_back(static_cast<double>(std::max<int64_t>(us, 0)) * 1e-6);
  }
  if (at.leaving) {
    at.leaving = false;
    --leaving_[static_cast<size_t>(Number(At(block).owner))];
    if (departures_.Contains(block)) departures_.Remove(block, At(block).owner);
  }
  SettleAs(node, TierKind::kDevice, false, EvictionLeave::kEvicted, now);
  at.place[TierAt(TierKind::kDevice)] = kNoPlace;
  At(block).node.reset();
  const BlockState before = pool_.state(block);
  Account(block, before, pool_.Evict(block));
  ++counters_.blocks_evicted;
  ++counters_.tier_evicted[TierAt(TierKind::kDevice)];
  if (has_lower_tier() && !IsFindable(index_[node])) ++counters_.dropped_without_copy;
  index_.Forget(node);
}

void KvStore::DropPlace(NodeId node, TierKind tier, EvictionLeave why, absl::Time now) {
  NodeResidence& at = index_.residence(node);
  const TierSlot slot{at.place[TierAt(tier)]};
  SettleAs(node, tier, false, why, now);
  at.place[TierAt(tier)] = kNoPlace;
  if (tier == TierKind::kHost) at.demoting = false;
  At(tier, slot).node.reset();
  places_[TierAt(tier)].ledger.GiveBack(index_[node].owner);
  DropSlot(tier, slot);
  if (why == EvictionLeave::kEvicted) {
    ++counters_.tier_evicted[TierAt(tier)];
    if (tier == TierKind::kHost && options_.disk != nullptr && !IsFindable(index_[node])) {
      ++counters_.dropped_without_copy;
    }
  }
  index_.Forget(node);
}

void KvStore::DropSlot(TierKind tier, TierSlot slot) {
  Slot& entry = At(tier, slot);
  if (entry.moves > 0) {
    entry.dropped = true;
  } else {
    places_[TierAt(tier)].tier->Drop(slot);
  }
}

void KvStore::EndUse(TierKind tier, TierSlot slot) {
  Slot& entry = At(tier, slot);
  CHECK(entry.moves > 0);
  if (--entry.moves > 0 || !entry.dropped) return;
  entry.dropped = false;
  places_[TierAt(tier)].tier->Drop(slot);
}

void KvStore::CheckInvariants() const {
  pool_.CheckInvariants();
  index_.CheckInvariants();
  pins_.CheckInvariants();
  const auto tenants = options_.tenants.size();
  std::vector<std::array<int32_t, kNumPlaceTiers>> used(tenants);
  std::vector<int32_t> evictable(tenants), leaving(tenants);
  std::vector<std::array<int32_t, kNumPlaceTiers>> children(
      static_cast<size_t>(index_.num_nodes_ever()));
  std::vector<int32_t> moves(children.size());
  bool some_failed = false;
  int32_t num_departing = 0;
  std::array<int32_t, kNumPlaceTiers> offered{};

  std::vector<int32_t> gated(gates_.size());
  for (const auto& [id, move] : moves_) {
    ++moves[Number(move.node)];
    if (move.gate != nullptr) ++gated[static_cast<size_t>(move.gate->number())];
  }
  for (size_t i = 0; i < gates_.size(); ++i) CHECK(gates_[i].moves == gated[i]);
  for (int32_t i = 0; i < capacity(); ++i) {
    const BlockId block{i};
    const DeviceBlock& entry = At(block);
    const BlockState state = pool_.state(block);
    some_failed |= entry.arrival == Arrival::kFailed;
    if (entry.arrival == Arrival::kFailed) CHECK(state == BlockState::kHeld && !entry.node);
    if (state == BlockState::kFree) {
      CHECK(!entry.node && !departures_.Contains(block));
      continue;
    }
    const auto owner = static_cast<size_t>(Number(entry.owner));
    ++used[owner][TierAt(TierKind::kDevice)];
    if (state == BlockState::kEvictable) ++evictable[owner];
    if (departures_.Contains(block)) ++num_departing;
    CHECK(pool_.published(block) == (entry.node && entry.arrival == Arrival::kHere));
    if (entry.node) {
      const NodeResidence& at = index_[*entry.node].at;
      CHECK(at.place[TierAt(TierKind::kDevice)] == i);
      CHECK(at.arriving == (entry.arrival == Arrival::kArriving));
      CHECK(departures_.Contains(block) == (at.leaving && state == BlockState::kEvictable));
      if (at.leaving) ++leaving[owner];
      if (at.leaving) CHECK(state == BlockState::kEvictable || state == BlockState::kMoving);
    }
  }
  for (int32_t i = 0; i < index_.num_nodes_ever(); ++i) {
    const NodeId id{static_cast<uint32_t>(i)};
    if (!index_.Contains(id)) continue;
    const PrefixNode& node = index_[id];
    CHECK(node.at.num_moves == moves[Number(id)]);
    for (TierKind tier : {TierKind::kDevice, TierKind::kHost, TierKind::kDisk}) {
      const size_t t = TierAt(tier);
      const bool resident = Resident(node.at, tier);
      const bool going = tier == TierKind::kDevice ? node.at.leaving || node.at.sending
                                                   : tier == TierKind::kHost && node.at.demoting;
      const int32_t place = node.at.place[t];
      CHECK(!going || resident);
      CHECK(((node.at.counted & BitOf(tier)) != 0) == (resident && !going));
      const std::optional<NodeId> parent = index_.parent(id);
      if (parent && resident && !going) ++children[Number(*parent)][t];
      bool offers = resident && !going && node.at.children[t] == 0;
      if (tier == TierKind::kDevice) {
        if (place != kNoPlace) CHECK(At(BlockId{place}).node == id);
        offers = offers && pool_.state(BlockId{place}) == BlockState::kEvictable;
      } else if (place != kNoPlace) {
        const Slot& slot = places_[t].slots[static_cast<size_t>(place)];
        CHECK(slot.node == id && !slot.dropped);
        offers = offers && slot.moves == 0;
        ++used[static_cast<size_t>(Number(node.owner))][t];
      }
      CHECK(((node.at.evictable & BitOf(tier)) != 0) == offers);
      if (offers) ++offered[t];
    }
  }
  for (int32_t i = 0; i < index_.num_nodes_ever(); ++i) {
    const NodeId id{static_cast<uint32_t>(i)};
    if (!index_.Contains(id)) continue;
    const NodeResidence& at = index_[id].at;
    CHECK(at.children == children[static_cast<size_t>(i)]);
    // Whoever holds a block holds its parents, unless a failed restore has torn them apart.
    const std::optional<NodeId> parent = index_.parent(id);
    const int32_t place = at.place[TierAt(TierKind::kDevice)];
    if (some_failed || !parent || place == kNoPlace) continue;
    const int32_t references = pool_.references(BlockId{place});
    const int32_t above = index_[*parent].at.place[TierAt(TierKind::kDevice)];
    if (references == 0) continue;
    CHECK(above != kNoPlace && pool_.references(BlockId{above}) >= references);
  }
  // Slots on their way in or out count too.
  for (const auto& [id, move] : moves_) {
    const auto owner = static_cast<size_t>(Number(index_[move.node].owner));
    if (move.kind == MoveKind::kOffload) ++used[owner][TierAt(move.tier)];
    if (move.kind == MoveKind::kDemote) ++used[owner][TierAt(TierKind::kDisk)];
  }
  for (size_t i = 0; i < tenants; ++i) {
    CHECK(evictable_[i] == evictable[i] && leaving_[i] == leaving[i]);
    for (size_t t = 0; t < kNumPlaceTiers; ++t) {
      CHECK(places_[t].ledger.used(TenantIndex{static_cast<int32_t>(i)}) == used[i][t]);
    }
  }
  for (size_t t = 0; t < kNumPlaceTiers; ++t) {
    CHECK(places_[t].ledger.num_evictable() == offered[t]);
    int32_t num_used = 0;
    for (const auto& of_tenant : used) num_used += of_tenant[t];
    CHECK(places_[t].ledger.num_used() == num_used);
    int32_t num_taken = 0;
    for (const Slot& slot : places_[t].slots) num_taken += slot.node || slot.moves > 0 ? 1 : 0;
    if (places_[t].tier != nullptr) {
      CHECK(num_taken + places_[t].tier->num_free() <= places_[t].tier->capacity());
    }
  }
  CHECK(departures_.size() == num_departing);
  CHECK(background_moves() <= options_.moves_max);
}

}  // namespace holdfast
