#include "kvstore/kv_store.h"

#include <algorithm>
#include <utility>

#include "config/base/check.h"

namespace holdfast {
namespace {

BlockTokens TokensOfBlock(std::span<const TokenId> tokens, int32_t block_index) {
  return tokens.subspan(static_cast<size_t>(block_index) * kBlockTokens).first<kBlockTokens>();
}

// At least the last token is left to compute.
int32_t FindableBlocks(std::span<const TokenId> tokens) {
  return tokens.empty() ? 0 : static_cast<int32_t>((tokens.size() - 1) / kBlockTokens);
}

bool Covers(const RemotePrefix* remote, int32_t block) {
  return remote != nullptr && block >= remote->first_block &&
         block - remote->first_block < static_cast<int32_t>(remote->digests.size());
}

int32_t NodeCapacity(const KvStoreOptions& options) {
  int64_t blocks = options.device_blocks;
  if (options.host != nullptr) blocks += options.host->capacity();
  if (options.disk != nullptr) blocks += options.disk->capacity();
  return static_cast<int32_t>(std::min<int64_t>(blocks + blocks / 4 + 1, INT32_MAX / 2));
}

std::vector<int32_t> PinnedMax(const KvStoreOptions& options, int32_t all) {
  std::vector<int32_t> blocks;
  for (const TenantShares& tenant : options.tenants) {
    blocks.push_back(tenant.pinned_blocks_max.value_or(all));
  }
  return blocks;
}

int32_t PinnedMax(const KvStoreOptions& options) {
  return static_cast<int32_t>(options.device_blocks * options.pinned_max);
}

}  // namespace

KvStore::KvStore(KvStoreOptions options)
    : options_(std::move(options)),
      pool_(options_.device_blocks),
      index_(NodeCapacity(options_)),
      places_{Places{.ledger = TierLedger(TierKind::kDevice, options_.device_blocks, options_)},
              Places{.tier = options_.host,
                     .ledger = TierLedger(TierKind::kHost,
                                          options_.host == nullptr ? 0 : options_.host->capacity(),
                                          options_)},
              Places{.tier = options_.disk,
                     .ledger = TierLedger(TierKind::kDisk,
                                          options_.disk == nullptr ? 0 : options_.disk->capacity(),
                                          options_)}},
      blocks_(static_cast<size_t>(options_.device_blocks)),
      departures_(options_.device_blocks, 0),
      pins_(PinnedMax(options_), {}) {
  CHECK(options_.moves_max > 0);
  SetTenants(std::exchange(options_.tenants, {}));
  for (Places& places : places_) {
    if (places.tier != nullptr) places.slots.resize(static_cast<size_t>(places.tier->capacity()));
  }
  // A chain of all nodes; memory is taken as it is touched.
  if (options_.events != nullptr) told_of_.reserve(static_cast<size_t>(index_.capacity()));
  const int32_t num_layers = options_.host == nullptr ? 1 : options_.host->num_layers();
  for (int32_t i = 0; num_layers > 1 && i < options_.layer_gates; ++i) {
    gates_.push_back({.gate = std::make_unique<LayerGate>(i, num_layers)});
  }
}

void KvStore::SetTenants(std::vector<TenantShares> tenants) {
  CHECK(tenants.size() >= options_.tenants.size());
  for (size_t i = options_.tenants.size(); i < tenants.size(); ++i) departures_.AddTenant();
  options_.tenants = std::move(tenants);
  for (Places& places : places_) places.ledger.SetShares(options_.tenants);
  pins_.SetBlocksMax(PinnedMax(options_, PinnedMax(options_)));
  for (std::vector<int32_t>* blocks : {&evictable_, &leaving_, &hits_evictable_}) {
    blocks->resize(options_.tenants.size());
  }
  hit_tokens_.resize(options_.tenants.size());
}

bool KvStore::IsFindable(const PrefixNode& node) const {
  return std::any_of(node.at.place.begin(), node.at.place.end(),
                     [](int32_t place) { return place != kNoPlace; });
}

template <typename Visit>
KvStore::PrefixEnd KvStore::WalkPrefix(const ReuseScope& scope, std::span<const TokenId> tokens,
                                       const RemotePrefix* remote, Visit visit) const {
  PrefixEnd end{.key = options_.keys.root(scope)};
  const int32_t num_blocks = FindableBlocks(tokens);
  const std::optional<ScopeId> scope_id = index_.FindScope(scope);
  if (!scope_id) return end;
  for (int32_t i = 0; i < num_blocks; ++i) {
    const BlockTokens block_tokens = TokensOfBlock(tokens, i);
    const BlockKey key = options_.keys.next(end.key, block_tokens);
    const std::optional<NodeId> node = index_.Find(key, *scope_id, end.node, block_tokens);
    if (!node) return end;
    if (!IsFindable(index_[*node]) && !Covers(remote, i)) {
      end.at_ghost = true;
      return end;
    }
    end.node = node;
    end.key = key;
    ++end.num_blocks;
    visit(*node);
  }
  return end;
}

int32_t KvStore::available(TenantIndex tenant) const {
  int32_t available = pool_.counts().free;
  const TierLedger& ledger = places_[TierAt(TierKind::kDevice)].ledger;
  for (size_t i = 0; i < evictable_.size(); ++i) {
    const TenantIndex owner{static_cast<int32_t>(i)};
    const int32_t evictable = evictable_[i] - hits_evictable_[i];
    if (owner == tenant) {
      available += evictable;
    } else if (evictable > 0) {
      available += std::clamp(ledger.used(owner) - ledger.floor(owner), 0, evictable);
    }
  }
  return available;
}

bool KvStore::FitsWithHits(const PrefixRequest& request, int32_t num_fresh) {
  // What was found and could be evicted cannot be counted as room for the rest.
  for (NodeId node : hits_) {
    const int32_t place = index_[node].at.place[TierAt(TierKind::kDevice)];
    if (place == kNoPlace || pool_.state(BlockId{place}) != BlockState::kEvictable) continue;
    ++hits_evictable_[static_cast<size_t>(Number(At(BlockId{place}).owner))];
  }
  const bool fits = num_fresh + request.spare_blocks <= available(request.tenant);
  std::fill(hits_evictable_.begin(), hits_evictable_.end(), 0);
  return fits;
}

// What was found and lies nowhere must not be forgotten with the last of its children, which may be
// evicted to make room for it.
void KvStore::KeepGhosts() {
  for (NodeId node : hits_) {
    if (!IsFindable(index_[node])) ++index_.residence(node).num_moves;
  }
}

void KvStore::UnkeepGhosts() {
  for (NodeId node : hits_) {
    if (!IsFindable(index_[node])) --index_.residence(node).num_moves;
  }
}

std::optional<PrefixGrant> KvStore::TryAcquirePrefix(const PrefixRequest& request, absl::Time now,
                                                     std::vector<BlockId>& table,
                                                     PublishedPrefix& prefix) {
  CHECK(table.empty() && prefix.num_blocks == 0 && !prefix.computing);
  CHECK(request.num_blocks >= 0 && request.spare_blocks >= 0);
  constexpr size_t kDevice = TierAt(TierKind::kDevice);
  hits_.clear();
  PrefixEnd end{.key = options_.keys.root(request.scope)};
  int32_t num_shared = 0;
  if (request.reuse == PrefixReuse::kMatchAndPublish) {
    end = WalkPrefix(request.scope, request.tokens, request.remote, [&](NodeId node) {
      hits_.push_back(node);
      if (index_[node].at.place[kDevice] != kNoPlace) ++num_shared;
    });
  }
  // What nobody here knows of, and the remote tier has.
  int32_t num_remote = 0;
  if (request.reuse == PrefixReuse::kMatchAndPublish && !end.at_ghost) {
    const int32_t findable = FindableBlocks(request.tokens);
    while (end.num_blocks + num_remote < findable &&
           Covers(request.remote, end.num_blocks + num_remote)) {
      ++num_remote;
    }
  }
  CHECK(end.num_blocks + num_remote <= request.num_blocks);
  const int32_t num_fresh = request.num_blocks - num_shared;
  if (!FitsWithHits(request, num_fresh)) return std::nullopt;
  // Before any eviction, or a hit might go to make room for the rest.
  for (NodeId node : hits_) {
    if (index_[node].at.place[kDevice] != kNoPlace) ShareNode(node, now);
  }
  fresh_.clear();
  KeepGhosts();
  const bool is_lent = Lend(num_fresh, request.tenant, now, fresh_);
  UnkeepGhosts();
  if (!is_lent) {
    for (auto node = hits_.rbegin(); node != hits_.rend(); ++node) {
      const int32_t place = index_[*node].at.place[kDevice];
      if (place != kNoPlace) ReleaseBlock(BlockId{place}, now);
      if (index_.Contains(*node)) index_.Forget(*node);
    }
    return std::nullopt;
  }
  if (end.at_ghost) ++counters_.ghosts_met;
  if (num_remote > 0) EnterRemoteHits(request, num_remote, end);
  prefix = {.num_blocks = end.num_blocks,
            .key = end.key,
            .node = end.node,
            .tenant = request.tenant,
            .started = true};
  prefix.gate = TakeGate();
  size_t next_fresh = 0;
  int32_t num_restoring = 0;
  for (NodeId node : hits_) {
    NodeResidence& at = index_.residence(node);
    if (at.place[kDevice] == kNoPlace) {
      ObserveReuse(at, now);
      StartRestore(node, fresh_[next_fresh++], now, prefix.gate);
    }
    if (at.arriving && num_restoring++ == 0) {
      prefix.first_restored = static_cast<int32_t>(table.size());
    }
    table.push_back(BlockId{at.place[kDevice]});
  }
  table.insert(table.end(), fresh_.begin() + static_cast<std::ptrdiff_t>(next_fresh), fresh_.end());
  if (request.reuse != PrefixReuse::kNone) Register(request.scope, request.tokens, prefix);
  if (num_restoring > 0) {
    prefix.restoring = true;
    prefix.arrived_blocks = prefix.first_restored;
  } else {
    prefix.arrived_blocks = prefix.first_restored = prefix.num_blocks;
    CountHits(prefix, table);
  }
  return PrefixGrant{.cached_tokens = end.num_blocks * kBlockTokens,
                     .restoring_blocks = num_restoring};
}

RestorePoll KvStore::PollRestore(const PrefixRequest& request, absl::Time now,
                                 std::vector<BlockId>& table, PublishedPrefix& prefix) {
  const auto ready = [&]() -> RestorePoll {
    return {.state = RestorePoll::State::kReady, .cached_tokens = prefix.num_blocks * kBlockTokens};
  };
  if (!prefix.restoring) return ready();
  while (prefix.arrived_blocks < prefix.num_blocks) {
    const Arrival arrival = At(table[static_cast<size_t>(prefix.arrived_blocks)]).arrival;
    if (arrival == Arrival::kArriving) {
      const bool may_come = prefix.gate != nullptr && !prefix.gate->failed();
      return {.gate = may_come ? prefix.gate : nullptr};
    }
    if (arrival == Arrival::kFailed) break;
    ++prefix.arrived_blocks;
  }
  prefix.restoring = false;
  GiveBackGate(prefix);
  const auto num_arrived = static_cast<size_t>(prefix.arrived_blocks);
  if (prefix.arrived_blocks < prefix.num_blocks) {
    ++counters_.restores_cut;
    Unregister(prefix);
    while (table.size() > num_arrived) {
      ReleaseBlock(table.back(), now);
      table.pop_back();
    }
    prefix.num_blocks = prefix.arrived_blocks;
    prefix.first_restored = std::min(prefix.first_restored, prefix.num_blocks);
    prefix.node = num_arrived == 0 ? std::nullopt : At(table.back()).node;
    prefix.key = prefix.node ? index_[*prefix.node].key : options_.keys.root(request.scope);
    if (!TryAcquire(request.num_blocks - prefix.num_blocks, request.tenant, now, table)) {
      Release(now, table, prefix);
      return {.state = RestorePoll::State::kNoRoom};
    }
    Register(request.scope, request.tokens, prefix);
  }
  CountHits(prefix, table);
  return ready();
}

bool KvStore::HasAllArrived(const std::vector<BlockId>& table,
                            const PublishedPrefix& prefix) const {
  const auto found = std::span(table).first(static_cast<size_t>(prefix.num_blocks));
  return std::all_of(found.begin(), found.end(),
                     [&](BlockId block) { return At(block).arrival == Arrival::kHere; });
}

void KvStore::CountHits(const PublishedPrefix& prefix, const std::vector<BlockId>& table) {
  auto& hits = hit_tokens_[static_cast<size_t>(Number(prefix.tenant))];
  counters_.blocks_hit += static_cast<uint64_t>(prefix.num_blocks);
  hits[TierAt(TierKind::kDevice)] += static_cast<uint64_t>(prefix.first_restored) * kBlockTokens;
  for (int32_t i = prefix.first_restored; i < prefix.num_blocks; ++i) {
    hits[TierAt(At(table[static_cast<size_t>(i)]).source)] += kBlockTokens;
  }
}

bool KvStore::TryAcquire(int32_t count, TenantIndex tenant, absl::Time now,
                         std::vector<BlockId>& table) {
  if (count > available(tenant)) return false;
  return Lend(count, tenant, now, table);
}

bool KvStore::Publish(const ReuseScope& scope, std::span<const TokenId> tokens,
                      int32_t num_computed, PrefixReuse reuse, absl::Time now,
                      std::vector<BlockId>& table, PublishedPrefix& prefix) {
  if (reuse == PrefixReuse::kNone || prefix.cut) return false;
  const int32_t num_full = num_computed / kBlockTokens;
  CHECK(static_cast<size_t>(num_computed) <= tokens.size() && !prefix.restoring);
  CHECK(static_cast<size_t>(num_full) <= table.size());
  if (!prefix.started) {
    prefix = {.key = options_.keys.root(scope), .tenant = prefix.tenant, .started = true};
  }
  const int32_t num_before = prefix.num_blocks;
  bool replaced = false;
  while (prefix.num_blocks < num_full) {
    const BlockTokens block_tokens = TokensOfBlock(tokens, prefix.num_blocks);
    const BlockKey key = options_.keys.next(prefix.key, block_tokens);
    BlockId& block = table[static_cast<size_t>(prefix.num_blocks)];
    const PrefixIndex::Inserted inserted =
        index_.Insert(key, scope, prefix.node, block_tokens, prefix.tenant);
    if (inserted.outcome == PrefixIndex::Outcome::kCollision ||
        inserted.outcome == PrefixIndex::Outcome::kFull) {
      ++(inserted.outcome == PrefixIndex::Outcome::kFull ? counters_.index_full
                                                         : counters_.key_collisions);
      prefix.cut = true;
      break;
    }
    const NodeResidence& at = index_[inserted.node].at;
    // It is about to arrive from below for others: it is published then, and ours is given back
    // by the next call.
    if (at.arriving) break;
    const int32_t place = at.place[TierAt(TierKind::kDevice)];
    if (place != kNoPlace) {
      ShareNode(inserted.node, now);
      ReleaseBlock(block, now);
      replaced |= block != BlockId{place};
      block = BlockId{place};
      ++counters_.blocks_duplicate;
    } else {
      if (inserted.outcome == PrefixIndex::Outcome::kNew && needs_digests()) {
        const BlockDigest parent = prefix.node ? index_[*prefix.node].digest : RootDigest(scope);
        index_.SetDigest(inserted.node, NextDigest(parent, block_tokens));
      }
      PlaceBlock(inserted.node, block, now);
      ++counters_.blocks_published;
    }
    prefix.key = key;
    prefix.node = inserted.node;
    ++prefix.num_blocks;
  }
  if (prefix.num_blocks != num_before || prefix.cut) Register(scope, tokens, prefix);
  return replaced;
}

void KvStore::PrefetchPublish(std::span<const TokenId> tokens, int32_t num_computed,
                              PrefixReuse reuse, const std::vector<BlockId>& table,
                              const PublishedPrefix& prefix) const {
  if (reuse == PrefixReuse::kNone || prefix.cut || !prefix.started) return;
  if (prefix.num_blocks >= num_computed / kBlockTokens) return;
  index_.PrefetchInsert(options_.keys.next(prefix.key, TokensOfBlock(tokens, prefix.num_blocks)),
                        prefix.node);
  const BlockId block = table[static_cast<size_t>(prefix.num_blocks)];
  PrefetchToWrite(&At(block));
  pool_.Prefetch(block);
}

void KvStore::PlaceBlock(NodeId node, BlockId block, absl::Time now) {
  NodeResidence& at = index_.residence(node);
  at.place[TierAt(TierKind::kDevice)] = Number(block);
  at.last_used_us = absl::ToUnixMicros(now);
  DeviceBlock& entry = At(block);
  entry.node = node;
  entry.source = TierKind::kDevice;
  entry.since_us = at.last_used_us;
  pool_.Publish(block);
  Settle(node, TierKind::kDevice, EvictionLeave::kForgotten, now);
}

void KvStore::Release(absl::Time now, std::vector<BlockId>& table, PublishedPrefix& prefix) {
  Unregister(prefix);
  GiveBackGate(prefix);
  if (!prefix.restoring) TellUsed(table, prefix.num_blocks, now);
  for (auto block = table.rbegin(); block != table.rend(); ++block) ReleaseBlock(*block, now);
  table.clear();
  prefix = {};
}

void KvStore::KeepFound(const ReuseScope& scope, std::span<const TokenId> tokens, absl::Time now,
                        std::vector<BlockId>& kept) {
  CHECK(kept.empty());
  bool on_device = true;  // up to here: whoever holds a block holds its parents
  hits_.clear();
  WalkPrefix(scope, tokens, nullptr, [&](NodeId node) {
    const NodeResidence& at = index_[node].at;
    on_device = on_device && Resident(at, TierKind::kDevice);
    if (on_device) hits_.push_back(node);
  });
  for (const NodeId node : hits_) {
    kept.push_back(BlockId{index_[node].at.place[TierAt(TierKind::kDevice)]});
    ShareNode(node, now);
  }
}

void KvStore::LetGo(absl::Time now, std::vector<BlockId>& kept) {
  for (auto block = kept.rbegin(); block != kept.rend(); ++block) ReleaseBlock(*block, now);
  kept.clear();
}

void KvStore::TellUsed(std::span<const BlockId> table, int32_t num_blocks, absl::Time now) {
  for (int32_t i = 0; i < num_blocks; ++i) {
    const DeviceBlock& entry = At(table[static_cast<size_t>(i)]);
    if (!entry.node) continue;  // its content was lost meanwhile
    const uint64_t content = index_[*entry.node].key.low;
    for (Places& places : places_) places.ledger.OnUsed(entry.owner, content, i, now);
  }
}

void KvStore::ShareNode(NodeId node, absl::Time now) {
  NodeResidence& at = index_.residence(node);
  const BlockId block{at.place[TierAt(TierKind::kDevice)]};
  const BlockState before = pool_.state(block);
  Account(block, before, pool_.Share(block));
  if (before != BlockState::kHeld) ObserveReuse(at, now);
  at.last_used_us = absl::ToUnixMicros(now);
  if (at.leaving) Stay(node, now);
  if (before == BlockState::kEvictable) {
    Settle(node, TierKind::kDevice, EvictionLeave::kReused, now);
  }
}

void KvStore::ObserveReuse(const NodeResidence& at, absl::Time now) {
  if (observations_.reuse_gap_seconds.size() == KvObservations::kMax) return;
  const int64_t us = absl::ToUnixMicros(now) - at.last_used_us;
  observations_.reuse_gap_seconds.push_back(static_cast<double>(std::max<int64_t>(us, 0)) * 1e-6);
}

void KvStore::ReleaseBlock(BlockId block, absl::Time now) {
  const BlockState after = pool_.Release(block);
  if (after == BlockState::kHeld) return;
  const std::optional<NodeId> node = At(block).node;
  Account(block, BlockState::kHeld, after);
  if (!node) return;
  index_.residence(*node).last_used_us = absl::ToUnixMicros(now);
  Settle(*node, TierKind::kDevice, EvictionLeave::kForgotten, now);
}

const TierTokens& KvStore::hit_tokens(TenantIndex tenant) const {
  return hit_tokens_[static_cast<size_t>(Number(tenant))];
}

void KvStore::TakeObservations(KvObservations& out) {
  out.residency_seconds.clear();
  out.reuse_gap_seconds.clear();
  std::swap(out, observations_);
}

// The remote tier, as far as finding goes.

void KvStore::EnterRemoteHits(const PrefixRequest& request, int32_t count, PrefixEnd& end) {
  for (; count > 0; --count) {
    const BlockTokens tokens = TokensOfBlock(request.tokens, end.num_blocks);
    const BlockKey key = options_.keys.next(end.key, tokens);
    const PrefixIndex::Inserted inserted =
        index_.Insert(key, request.scope, end.node, tokens, request.tenant);
    if (inserted.outcome != PrefixIndex::Outcome::kNew) return;  // no place for it in the index
    const auto at = static_cast<size_t>(end.num_blocks - request.remote->first_block);
    index_.SetDigest(inserted.node, request.remote->digests[at]);
    hits_.push_back(inserted.node);
    end.node = inserted.node;
    end.key = key;
    ++end.num_blocks;
  }
}

std::optional<KvStore::Lookup> KvStore::MakeLookup(const ReuseScope& scope,
                                                   std::span<const TokenId> tokens) const {
  const PrefixEnd end = WalkPrefix(scope, tokens, nullptr, [](NodeId) {});
  const int32_t num_missing = FindableBlocks(tokens) - end.num_blocks;
  if (num_missing < kLookupBlocksMin) return std::nullopt;
  Lookup lookup{.first_block = end.num_blocks};
  lookup.ask.parent = end.node ? index_[*end.node].digest : RootDigest(scope);
  const std::span<const TokenId> missing =
      tokens.subspan(static_cast<size_t>(end.num_blocks) * kBlockTokens)
          .first(static_cast<size_t>(std::min(num_missing, kLookupBlocksMax)) * kBlockTokens);
  lookup.ask.tokens.assign(missing.begin(), missing.end());
  return lookup;
}

// Duplicate prefill.

void KvStore::Register(const ReuseScope& scope, std::span<const TokenId> tokens,
                       PublishedPrefix& prefix) {
  Unregister(prefix);
  if (prefix.cut || prefix.num_blocks >= FindableBlocks(tokens)) return;
  const BlockTokens next = TokensOfBlock(tokens, prefix.num_blocks);
  const BlockKey key = options_.keys.next(prefix.key, next);
  const auto [found, is_new] = computing_.try_emplace(key);
  Computing& entry = found->second;
  if (is_new) {
    entry.scope = scope;
    entry.parent = prefix.node;
    std::copy(next.begin(), next.end(), entry.tokens.begin());
  } else if (entry.scope != scope || entry.parent != prefix.node ||
             !std::equal(next.begin(), next.end(), entry.tokens.begin())) {
    return;  // the key is taken by other content
  }
  ++entry.num_sequences;
  prefix.computing = key;
}

void KvStore::Unregister(PublishedPrefix& prefix) {
  if (!prefix.computing) return;
  const auto found = computing_.find(*prefix.computing);
  CHECK(found != computing_.end());
  if (--found->second.num_sequences == 0) computing_.erase(found);
  prefix.computing.reset();
}

bool KvStore::IsBeingComputed(const ReuseScope& scope, std::span<const TokenId> tokens) const {
  if (computing_.empty()) return false;
  const PrefixEnd end = WalkPrefix(scope, tokens, nullptr, [](NodeId) {});
  if (end.num_blocks >= FindableBlocks(tokens)) return false;
  const BlockTokens next = TokensOfBlock(tokens, end.num_blocks);
  const auto found = computing_.find(options_.keys.next(end.key, next));
  if (found == computing_.end()) return false;
  const Computing& entry = found->second;
  return entry.scope == scope && entry.parent == end.node &&
         std::equal(next.begin(), next.end(), entry.tokens.begin());
}

int32_t KvStore::FindableTokens(const ReuseScope& scope, std::span<const TokenId> tokens) const {
  return WalkPrefix(scope, tokens, nullptr, [](NodeId) {}).num_blocks * kBlockTokens;
}

std::optional<BlockCopy> KvStore::CopyPartial(const PartialBlock& partial,
                                              const PrefixRequest& request,
                                              const std::vector<BlockId>& table,
                                              const PublishedPrefix& prefix, PrefixGrant& grant) {
  if (prefix.restoring || request.reuse != PrefixReuse::kMatchAndPublish) return std::nullopt;
  if (partial.scope != request.scope || partial.parent != prefix.node) return std::nullopt;
  const std::span<const TokenId> wanted =
      request.tokens.subspan(static_cast<size_t>(grant.cached_tokens));
  const size_t num_max = std::min(partial.tokens.size(), wanted.size() - 1);
  size_t num_tokens = 0;
  while (num_tokens < num_max && partial.tokens[num_tokens] == wanted[num_tokens]) ++num_tokens;
  if (num_tokens == 0) return std::nullopt;
  const BlockCopy copy{.from = partial.block,
                       .to = table[static_cast<size_t>(prefix.num_blocks)],
                       .num_tokens = static_cast<int32_t>(num_tokens)};
  grant.cached_tokens += copy.num_tokens;
  hit_tokens_[static_cast<size_t>(Number(request.tenant))][TierAt(TierKind::kDevice)] += num_tokens;
  return copy;
}

}  // namespace holdfast
