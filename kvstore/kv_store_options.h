// What the store is told once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "kvstore/block_identity.h"
#include "kvstore/block_key.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/kv_event_ring.h"
#include "kvstore/prefix_index.h"
#include "kvstore/tier.h"

namespace holdfast {

// What a tenant may keep of a tier, in blocks.
struct TierShare {
  // Others take nothing from it while it has no more than this. The floors of the device must leave
  // room for one longest sequence; who sets them checks it. In a sharing group, what it has
  // computed on top of others' blocks goes before these.
  int32_t floor_blocks = 0;
  // With this much or more, what it adds takes the place of its own first. On the device only as
  // long as it has something to give: a ceiling bounds what is kept, not who runs. nullopt: none.
  std::optional<int32_t> ceiling_blocks;
};

struct TenantShares {
  OwnerTag tag;  // names the tenant in what outlives the process
  std::array<TierShare, kNumPlaceTiers> tiers;
  std::optional<int32_t> pinned_blocks_max;  // nullopt: only the bound of all pins
};

using EvictionFactory =
    std::function<std::unique_ptr<EvictionPolicy>(TierKind tier, int32_t capacity)>;

struct KvStoreOptions {
  int32_t device_blocks = 0;
  BlockKeyFunctions keys = Xxh3BlockKeys();
  EvictionFactory eviction;                  // empty: LRU. Called once for each tenant and tier,
                                             // when the tenant first has something there
  std::vector<TenantShares> tenants = {{}};  // by TenantIndex; others: KvStore::SetTenants
  Tier* host = nullptr;                      // nullptr: there is none. Both outlive the store
  Tier* disk = nullptr;
  // Whether the remote tier is worth asking now (its breaker is not open); empty: there is none.
  std::function<bool()> remote_usable;
  KvEventRing* events = nullptr;  // who hears of it; nullptr: nobody. Outlives the store
  size_t block_bytes = 0;         // for the count of moved bytes
  int32_t moves_max = 64;  // offloads and demotes at a time; restores are bounded by the device
  int32_t sends_max = 32;  // blocks on their way to the remote tier at a time
  // How long a block that was sent or fetched is taken to lie there, though the server may have
  // evicted it: then whoever uses it sends it again. At most the server's time to live.
  absl::Duration remote_refresh = absl::Minutes(10);
  // So many sequences at a time get what they found back layer by layer, if the host tier has all
  // of it; others get it whole. 0: none, where nobody waits for layers (layer_gate.h).
  int32_t layer_gates = 0;
  double low_water = 1.0 / 16;  // share of the device to be free at once: what moves work towards
  double pinned_max = 0.5;      // share of the device that all pins may keep
};

}  // namespace holdfast
