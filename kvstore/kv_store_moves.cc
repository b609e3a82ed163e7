// What the store has copied between tiers: write-behind, restore, demote; and what a disk held from
// an earlier life.
#include <algorithm>
#include <cstring>
#include <utility>

#include "config/base/check.h"
#include "kvstore/kv_store.h"

namespace holdfast {
namespace {

constexpr size_t kDevice = TierAt(TierKind::kDevice);
constexpr size_t kHost = TierAt(TierKind::kHost);
constexpr size_t kDisk = TierAt(TierKind::kDisk);

uint64_t FirstBytes(const BlockDigest& digest) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, digest.data(), sizeof bytes);
  return bytes;
}

}  // namespace

void KvStore::Hand(const Move& move) {
  const MoveId id{next_move_++};
  const PrefixNode& node = index_[move.node];
  MoveJob& job = jobs_.emplace_back();
  job.id = id;
  job.kind = move.kind;
  job.block = move.block;
  job.tier = move.tier;
  job.slot = move.slot;
  job.lower_tier = TierKind::kDisk;
  job.lower_slot = move.lower_slot;
  job.gate = move.gate;
  if (move.gate != nullptr) ++UseOf(*move.gate).moves;
  job.identity.scope = index_.scope(move.node);
  const std::optional<NodeId> parent = index_.parent(move.node);
  job.identity.parent = parent ? index_[*parent].digest : RootDigest(job.identity.scope);
  job.identity.digest = node.digest;
  job.identity.owner = options_.tenants[static_cast<size_t>(Number(node.owner))].tag;
  job.identity.depth = node.depth;
  job.identity.tokens = node.tokens;
  moves_.emplace(id, move);
  ++index_.residence(move.node).num_moves;
  ++counters_.moves[static_cast<size_t>(move.kind)].started;
}

void KvStore::TakeMoves(std::vector<MoveJob>& jobs) {
  jobs.insert(jobs.end(), jobs_.begin(), jobs_.end());
  jobs_.clear();
}

LayerGate* KvStore::TakeGate() {
  int32_t num_restores = 0;
  for (NodeId node : hits_) {
    const NodeResidence& at = index_[node].at;
    if (at.arriving) return nullptr;  // for somebody else, in its own time
    if (at.place[kDevice] != kNoPlace) continue;
    if (at.place[kHost] == kNoPlace) return nullptr;
    ++num_restores;
  }
  if (num_restores == 0) return nullptr;
  const auto free = std::find_if(gates_.begin(), gates_.end(), [](const GateUse& use) {
    return use.moves == 0 && !use.held && use.gate->ended();
  });
  if (free == gates_.end()) return nullptr;
  free->held = true;
  free->gate->Arm(num_restores);
  ++counters_.restores_by_layers;
  return free->gate.get();
}

void KvStore::GiveBackGate(PublishedPrefix& prefix) {
  if (prefix.gate != nullptr) UseOf(*prefix.gate).held = false;
  prefix.gate = nullptr;
}

void KvStore::StartRestore(NodeId node, BlockId block, absl::Time now, LayerGate* gate) {
  NodeResidence& at = index_.residence(node);
  const TierKind source = at.place[kHost] != kNoPlace   ? TierKind::kHost
                          : at.place[kDisk] != kNoPlace ? TierKind::kDisk
                                                        : TierKind::kRemote;
  const bool has_slot = source != TierKind::kRemote;
  const TierSlot slot{has_slot ? at.place[TierAt(source)] : kNoPlace};
  CHECK(at.place[kDevice] == kNoPlace);
  // The content counts against whoever published it, as before.
  TierLedger& ledger = places_[kDevice].ledger;
  ledger.GiveBack(At(block).owner);
  ledger.Take(index_[node].owner);
  At(block) = {
      .owner = index_[node].owner, .node = node, .arrival = Arrival::kArriving, .source = source};
  at.place[kDevice] = Number(block);
  at.arriving = true;
  at.last_used_us = absl::ToUnixMicros(now);
  pool_.BeginMove(block);
  if (has_slot) {
    BeginUse(source, slot);
    Settle(node, source, EvictionLeave::kReused, now);
  }
  Hand({.kind = MoveKind::kRestore,
        .node = node,
        .block = block,
        .tier = source,
        .slot = slot,
        .gate = gate});
}

void KvStore::StartOffload(NodeId node, TierKind tier, TierSlot slot, absl::Time now) {
  const BlockId block{index_[node].at.place[kDevice]};
  const BlockState before = pool_.state(block);
  Account(block, before, pool_.BeginMove(block));
  Leave(node, now);
  ++num_offloads_;
  Hand({.kind = MoveKind::kOffload, .node = node, .block = block, .tier = tier, .slot = slot});
}

bool KvStore::TryDemote(NodeId node, absl::Time now) {
  TierSlot lower{};
  if (ReserveSlot(TierKind::kDisk, index_[node].owner, now, lower) != Reserve::kDone) return false;
  StartDemote(node, lower, now);
  return true;
}

void KvStore::StartDemote(NodeId node, TierSlot lower, absl::Time now) {
  NodeResidence& at = index_.residence(node);
  const TierSlot slot{at.place[kHost]};
  at.demoting = true;
  BeginUse(TierKind::kHost, slot);
  Settle(node, TierKind::kHost, EvictionLeave::kEvicted, now);
  ++num_demotes_;
  Hand({.kind = MoveKind::kDemote,
        .node = node,
        .tier = TierKind::kHost,
        .slot = slot,
        .lower_slot = lower});
}

bool KvStore::MakeWay(NodeId node, TierKind tier, absl::Time now) {
  const bool has_copy_below = tier == TierKind::kDisk || options_.disk == nullptr ||
                              index_[node].at.place[kDisk] != kNoPlace;
  if (!has_copy_below) {
    if (background_moves() >= options_.moves_max) return false;
    if (TryDemote(node, now)) return false;
  }
  DropPlace(node, tier, EvictionLeave::kEvicted, now);
  return true;
}

KvStore::Reserve KvStore::ReserveSlot(TierKind tier, TenantIndex owner, absl::Time now,
                                      TierSlot& slot) {
  Places& places = places_[TierAt(tier)];
  const auto node_at = [&](int32_t place) { return *At(tier, TierSlot{place}).node; };
  if (places.ledger.AtCeiling(owner)) {
    const std::optional<int32_t> own = places.ledger.WorstOf(owner, now);
    if (!own) return num_demotes_ > 0 ? Reserve::kLater : Reserve::kNever;
    if (!MakeWay(node_at(*own), tier, now)) return Reserve::kLater;
  }
  std::optional<TierSlot> reserved = places.tier->TryReserve();
  if (!reserved) {
    const std::optional<int32_t> worst = places.ledger.Worst(
        now, [&](TenantIndex other) { return other == owner || places.ledger.AboveFloor(other); });
    if (!worst) return num_demotes_ > 0 ? Reserve::kLater : Reserve::kNever;
    if (!MakeWay(node_at(*worst), tier, now)) return Reserve::kLater;
    reserved = places.tier->TryReserve();
    if (!reserved) return Reserve::kLater;
  }
  slot = *reserved;
  places.ledger.Take(owner);
  BeginUse(tier, slot);
  return Reserve::kDone;
}

void KvStore::DemoteAhead(absl::Time now) {
  if (options_.host == nullptr || options_.disk == nullptr) return;
  const int32_t wanted = std::min(options_.moves_max / 2, options_.host->capacity() / 8);
  TierLedger& ledger = places_[kHost].ledger;
  while (options_.host->num_free() + num_demotes_ < wanted &&
         background_moves() < options_.moves_max) {
    const std::optional<int32_t> worst =
        ledger.Worst(now, [&](TenantIndex owner) { return ledger.AboveFloor(owner); });
    if (!worst) return;
    (void)MakeWay(*At(TierKind::kHost, TierSlot{*worst}).node, TierKind::kHost, now);
  }
}

void KvStore::PlanMoves(absl::Time now) {
  if (hand_down_) return PlanHandDown(now);
  StartSends(now);
  if (!has_lower_tier()) return;
  DemoteAhead(now);
  const TierKind target = options_.host != nullptr ? TierKind::kHost : TierKind::kDisk;
  const auto wanted = static_cast<int32_t>(capacity() * options_.low_water);
  TierLedger& ledger = places_[kDevice].ledger;
  while (pool_.counts().free + departures_.size() + num_offloads_ < wanted &&
         background_moves() < options_.moves_max) {
    const std::optional<int32_t> worst = ledger.Worst(now, [&](TenantIndex owner) {
      return ledger.AboveFloor(owner, leaving_[static_cast<size_t>(Number(owner))]);
    });
    if (!worst) return;
    const NodeId node = *At(BlockId{*worst}).node;
    const NodeResidence& at = index_[node].at;
    if (at.place[kHost] == kNoPlace && at.place[kDisk] == kNoPlace) {
      TierSlot slot{};
      switch (ReserveSlot(target, index_[node].owner, now, slot)) {
        case Reserve::kDone:
          StartOffload(node, target, slot, now);
          continue;
        case Reserve::kLater:
          return;
        case Reserve::kNever:
          break;
      }
    }
    Leave(node, now);
  }
}

void KvStore::OnMoveDone(const MoveDone& done, absl::Time now) {
  const auto found = moves_.find(done.id);
  CHECK(found != moves_.end());
  if (done.read) return OnSendRead(found->second, now);
  Move move = found->second;
  moves_.erase(found);
  if (move.gate != nullptr) --UseOf(*move.gate).moves;
  MoveCounters& counters = counters_.moves[static_cast<size_t>(move.kind)];
  if (done.status.ok()) {
    ++counters.done;
    counters.bytes += options_.block_bytes;
  } else {
    ++counters.failed;
  }
  switch (move.kind) {
    case MoveKind::kOffload:
      OnOffloadDone(move, done.status, now);
      break;
    case MoveKind::kRestore:
      OnRestoreDone(move, done.status, now);
      break;
    case MoveKind::kDemote:
      OnDemoteDone(move, done.status, now);
      break;
    case MoveKind::kSend:
      OnSendDone(move, done.status, now);
      break;
  }
  --index_.residence(move.node).num_moves;
  index_.Forget(move.node);
}

void KvStore::OnOffloadDone(const Move& move, const absl::Status& status, absl::Time now) {
  NodeResidence& at = index_.residence(move.node);
  --num_offloads_;
  EndUse(move.tier, move.slot);
  if (status.ok() && !move.doomed) {
    CHECK(at.place[TierAt(move.tier)] == kNoPlace);
    at.place[TierAt(move.tier)] = Number(move.slot);
    At(move.tier, move.slot).node = move.node;
    Settle(move.node, move.tier, EvictionLeave::kForgotten, now);
  } else {
    places_[TierAt(move.tier)].ledger.GiveBack(index_[move.node].owner);
    DropSlot(move.tier, move.slot);
  }
  const BlockState before = pool_.state(move.block);
  const BlockState after = pool_.EndMove(move.block);
  Account(move.block, before, after);
  if (move.doomed) return;
  // With or without a copy it was chosen to go: a tier that fails must not keep the device full.
  if (at.leaving && hand_down_) {
    Stay(move.node, now);  // room is needed no more
  } else if (at.leaving) {
    departures_.Add(move.block, At(move.block).owner);
  } else {
    Settle(move.node, TierKind::kDevice, EvictionLeave::kForgotten, now);
  }
}

void KvStore::OnRestoreDone(const Move& move, const absl::Status& status, absl::Time now) {
  NodeResidence& at = index_.residence(move.node);
  const bool is_remote = move.tier == TierKind::kRemote;
  if (is_remote) CountFetch(status, now, at);
  if (!is_remote) EndUse(move.tier, move.slot);
  const bool source_stays = !is_remote && at.place[TierAt(move.tier)] == Number(move.slot);
  const BlockState before = pool_.state(move.block);
  if (status.ok() && !move.doomed) {
    at.arriving = false;
    DeviceBlock& entry = At(move.block);
    entry.arrival = Arrival::kHere;
    entry.since_us = absl::ToUnixMicros(now);
    pool_.Publish(move.block);
    Account(move.block, before, pool_.EndMove(move.block));
    Settle(move.node, TierKind::kDevice, EvictionLeave::kForgotten, now);
  } else {
    if (!move.doomed) {
      at.place[kDevice] = kNoPlace;
      at.arriving = false;
      At(move.block).node.reset();
      At(move.block).arrival = Arrival::kFailed;  // for those who wait; nobody: it is free now
    }
    Account(move.block, before, pool_.EndMove(move.block));
    if (!status.ok()) {
      if (absl::IsDataLoss(status)) {
        ++counters_.corrupt_blocks;
      } else if (!is_remote) {
        ++counters_.lost_blocks;
      }
      if (source_stays) DropPlace(move.node, move.tier, EvictionLeave::kForgotten, now);
      // Those who wait need not compute what lies elsewhere too. Each failure costs a copy, so this
      // ends.
      if (!move.doomed && pool_.references(move.block) > 0 && IsFindable(index_[move.node])) {
        StartRestore(move.node, move.block, now);
      }
      return;
    }
  }
  if (!source_stays) return;
  if (move.tier == TierKind::kHost && at.demoting && At(move.tier, move.slot).moves == 0) {
    DropPlace(move.node, move.tier, EvictionLeave::kEvicted, now);
  } else {
    Settle(move.node, move.tier, EvictionLeave::kForgotten, now);
  }
}

void KvStore::OnDemoteDone(const Move& move, const absl::Status& status, absl::Time now) {
  NodeResidence& at = index_.residence(move.node);
  --num_demotes_;
  EndUse(TierKind::kHost, move.slot);
  EndUse(TierKind::kDisk, move.lower_slot);
  if (status.ok() && at.place[kDisk] == kNoPlace) {
    at.place[kDisk] = Number(move.lower_slot);
    At(TierKind::kDisk, move.lower_slot).node = move.node;
    Settle(move.node, TierKind::kDisk, EvictionLeave::kForgotten, now);
  } else {
    places_[kDisk].ledger.GiveBack(index_[move.node].owner);
    DropSlot(TierKind::kDisk, move.lower_slot);
  }
  if (absl::IsDataLoss(status)) ++counters_.corrupt_blocks;
  if (at.place[kHost] != Number(move.slot)) return;
  if (At(TierKind::kHost, move.slot).moves == 0) {
    // Also where the disk took nothing: what was chosen to go goes, or a failing disk would keep
    // the host full of the same victims.
    DropPlace(move.node, TierKind::kHost, EvictionLeave::kEvicted, now);
  } else {
    at.demoting = false;  // a restore reads it: it is wanted again
    Settle(move.node, TierKind::kHost, EvictionLeave::kForgotten, now);
  }
}

bool KvStore::AdoptDiskBlock(TierSlot slot, const BlockIdentity& identity, absl::Time now) {
  CHECK(options_.disk != nullptr);
  ++counters_.blocks_refused;  // until all is proven
  const auto owner =
      std::find_if(options_.tenants.begin(), options_.tenants.end(),
                   [&](const TenantShares& tenant) { return tenant.tag == identity.owner; });
  if (owner == options_.tenants.end()) return false;
  const TenantIndex tenant{static_cast<int32_t>(owner - options_.tenants.begin())};
  if (places_[kDisk].ledger.AtCeiling(tenant)) return false;
  const BlockTokens tokens(identity.tokens);
  if (NextDigest(identity.parent, tokens) != identity.digest) return false;
  std::optional<NodeId> parent;
  BlockKey parent_key = options_.keys.root(identity.scope);
  if (identity.depth == 0) {
    if (identity.parent != RootDigest(identity.scope)) return false;
  } else {
    const auto known = adopted_.find(FirstBytes(identity.parent));
    if (known == adopted_.end()) return false;
    parent = known->second;
    const PrefixNode& node = index_[*parent];
    if (node.digest != identity.parent || node.depth != identity.depth - 1) return false;
    if (index_.scope(*parent) != identity.scope) return false;
    parent_key = node.key;
  }
  const PrefixIndex::Inserted inserted =
      index_.Insert(options_.keys.next(parent_key, tokens), identity.scope, parent, tokens, tenant);
  if (inserted.outcome != PrefixIndex::Outcome::kNew) return false;
  index_.SetDigest(inserted.node, identity.digest);
  NodeResidence& at = index_.residence(inserted.node);
  at.place[kDisk] = Number(slot);
  at.last_used_us = absl::ToUnixMicros(now);
  At(TierKind::kDisk, slot).node = inserted.node;
  places_[kDisk].ledger.Take(tenant);
  adopted_.try_emplace(FirstBytes(identity.digest), inserted.node);
  Settle(inserted.node, TierKind::kDisk, EvictionLeave::kForgotten, now);
  --counters_.blocks_refused;
  ++counters_.blocks_adopted;
  return true;
}

void KvStore::FinishAdoption() { absl::flat_hash_map<uint64_t, NodeId>().swap(adopted_); }

void KvStore::ForgetDevice(absl::Time now) {
  while (ForceLeastPin(now)) {
  }
  CHECK(counts().held == 0);
  for (auto& [id, move] : moves_) {
    if (move.kind == MoveKind::kDemote || move.doomed) continue;
    move.doomed = true;
    NodeResidence& at = index_.residence(move.node);
    at.sending = false;
    if (move.kind != MoveKind::kRestore) continue;
    at.place[kDevice] = kNoPlace;
    at.arriving = false;
    At(move.block).node.reset();
    At(move.block).arrival = Arrival::kHere;
  }
  for (int32_t i = 0; i < capacity(); ++i) {
    if (At(BlockId{i}).node) EvictBlock(BlockId{i}, now);
  }
}

}  // namespace holdfast
