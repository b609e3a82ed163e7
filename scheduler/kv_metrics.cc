#include "scheduler/kv_metrics.h"

#include <utility>
#include <vector>

namespace holdfast {
namespace {

// 10 ms to a day: from one step to the next, to the next morning.
std::vector<double> AgeBuckets() {
  return {0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0};
}

Gauge BlocksGauge(MetricsRegistry& registry, const char* state) {
  return registry.AddGauge("holdfast_kvstore_blocks", "KV blocks of the device tier by state.",
                           {{"state", state}});
}

Gauge TierGauge(MetricsRegistry& registry, TierKind tier, const char* state) {
  return registry.AddGauge("holdfast_kvstore_tier_blocks", "KV blocks of the tiers below by state.",
                           {{"tier", TierName(tier)}, {"state", state}});
}

Counter EvictedCounter(MetricsRegistry& registry, TierKind tier) {
  return registry.AddCounter("holdfast_kvstore_evicted_blocks_total",
                             "Findable blocks that left a tier to make room.",
                             {{"tier", TierName(tier)}});
}

Counter PinEndCounter(MetricsRegistry& registry, PinEnd end) {
  return registry.AddCounter("holdfast_kvstore_pins_ended_total", "Pins that ended, by why.",
                             {{"end", PinEndName(end)}});
}

Counter MovesCounter(MetricsRegistry& registry, MoveKind kind, const char* result) {
  return registry.AddCounter("holdfast_kvstore_moves_total", "Blocks moved between tiers.",
                             {{"kind", MoveKindName(kind)}, {"result", result}});
}

Counter BytesCounter(MetricsRegistry& registry, MoveKind kind) {
  return registry.AddCounter("holdfast_kvstore_moved_bytes_total", "Bytes moved between tiers.",
                             {{"kind", MoveKindName(kind)}});
}

Counter FetchCounter(MetricsRegistry& registry, const char* result) {
  return registry.AddCounter("holdfast_kvstore_remote_fetches_total",
                             "Blocks asked of the remote tier, by what came of it.",
                             {{"result", result}});
}

Counter LookupCounter(MetricsRegistry& registry, const char* result) {
  return registry.AddCounter("holdfast_kvstore_remote_lookups_total",
                             "Questions to the remote tier how much of a prompt it has.",
                             {{"result", result}});
}

Counter RemoteCallsCounter(MetricsRegistry& registry, const char* result) {
  return registry.AddCounter("holdfast_kvstore_remote_calls_total",
                             "Calls to the remote tier's server that failed, or were not made "
                             "because it is left alone for a while.",
                             {{"result", result}});
}

void AddSince(Counter& counter, uint64_t now, uint64_t last) {
  if (now != last) counter.Add(static_cast<double>(now - last));
}

}  // namespace

const char* MoveKindName(MoveKind kind) {
  switch (kind) {
    case MoveKind::kOffload:
      return "offload";
    case MoveKind::kRestore:
      return "restore";
    case MoveKind::kDemote:
      return "demote";
    case MoveKind::kSend:
      return "send";
  }
  return "?";
}

const char* PinEndName(PinEnd end) {
  switch (end) {
    case PinEnd::kFinal:
      return "final";
    case PinEnd::kExpired:
      return "expired";
    case PinEnd::kForced:
      return "forced";
    case PinEnd::kReplaced:
      return "replaced";
    case PinEnd::kDisplaced:
      return "displaced";
    case PinEnd::kDeclined:
      return "declined";
  }
  return "?";
}

const char* TierName(TierKind tier) {
  switch (tier) {
    case TierKind::kDevice:
      return "device";
    case TierKind::kHost:
      return "host";
    case TierKind::kDisk:
      return "disk";
    case TierKind::kRemote:
      return "remote";
  }
  return "?";
}

KvMetrics::KvMetrics(MetricsRegistry& registry, const std::string& model_name, int32_t num_blocks)
    : free_(BlocksGauge(registry, "free")),
      held_(BlocksGauge(registry, "held")),
      evictable_(BlocksGauge(registry, "evictable")),
      moving_(BlocksGauge(registry, "moving")),
      tier_blocks_{TierBlocks{TierGauge(registry, TierKind::kHost, "used"),
                              TierGauge(registry, TierKind::kHost, "free")},
                   TierBlocks{TierGauge(registry, TierKind::kDisk, "used"),
                              TierGauge(registry, TierKind::kDisk, "free")}},
      vllm_usage_(registry.AddGauge("vllm:kv_cache_usage_perc",
                                    "Held share of the KV blocks, 0 to 1.",
                                    {{"model_name", model_name}})),
      pins_(registry.AddGauge("holdfast_kvstore_pins", "Sessions whose KV is kept by a pin.")),
      pinned_blocks_(
          registry.AddGauge("holdfast_kvstore_pinned_blocks", "Blocks kept by one pin or more.")),
      moves_under_way_(registry.AddGauge("holdfast_kvstore_moves_under_way",
                                         "Blocks on their way between tiers.")),
      pin_ends_{
          PinEndCounter(registry, PinEnd::kFinal),     PinEndCounter(registry, PinEnd::kExpired),
          PinEndCounter(registry, PinEnd::kForced),    PinEndCounter(registry, PinEnd::kReplaced),
          PinEndCounter(registry, PinEnd::kDisplaced), PinEndCounter(registry, PinEnd::kDeclined)},
      evicted_{EvictedCounter(registry, TierKind::kDevice),
               EvictedCounter(registry, TierKind::kHost),
               EvictedCounter(registry, TierKind::kDisk)},
      moves_{Moves{BytesCounter(registry, MoveKind::kOffload),
                   MovesCounter(registry, MoveKind::kOffload, "done"),
                   MovesCounter(registry, MoveKind::kOffload, "failed")},
             Moves{BytesCounter(registry, MoveKind::kRestore),
                   MovesCounter(registry, MoveKind::kRestore, "done"),
                   MovesCounter(registry, MoveKind::kRestore, "failed")},
             Moves{BytesCounter(registry, MoveKind::kDemote),
                   MovesCounter(registry, MoveKind::kDemote, "done"),
                   MovesCounter(registry, MoveKind::kDemote, "failed")},
             Moves{BytesCounter(registry, MoveKind::kSend),
                   MovesCounter(registry, MoveKind::kSend, "done"),
                   MovesCounter(registry, MoveKind::kSend, "failed")}},
      hit_(registry.AddCounter("holdfast_kvstore_hit_blocks_total",
                               "Blocks found by prefix and used again.")),
      published_(registry.AddCounter("holdfast_kvstore_published_blocks_total",
                                     "Computed blocks that became findable.")),
      duplicate_(registry.AddCounter("holdfast_kvstore_duplicate_blocks_total",
                                     "Blocks that two sequences computed at the same time.")),
      dropped_(registry.AddCounter("holdfast_kvstore_dropped_without_copy_blocks_total",
                                   "Blocks forgotten faster than they could be copied down.")),
      corrupt_(registry.AddCounter("holdfast_kvstore_corrupt_blocks_total",
                                   "Blocks that came back from a tier unproven; not used.")),
      lost_(registry.AddCounter("holdfast_kvstore_lost_blocks_total",
                                "Blocks that could not be fetched from a tier.")),
      collisions_(registry.AddCounter("holdfast_kvstore_key_collisions_total",
                                      "Blocks not published because other content had their key.")),
      index_full_(registry.AddCounter("holdfast_kvstore_index_full_blocks_total",
                                      "Blocks not published because no more can be known.")),
      restores_cut_(registry.AddCounter("holdfast_kvstore_restores_cut_total",
                                        "Sequences that computed what failed to come back.")),
      sends_skipped_(registry.AddCounter(
          "holdfast_kvstore_sends_skipped_blocks_total",
          "Blocks not sent to the remote tier: too many waited, or it was away.")),
      fetches_{FetchCounter(registry, "done"), FetchCounter(registry, "absent"),
               FetchCounter(registry, "unproven"), FetchCounter(registry, "failed")},
      lookups_{LookupCounter(registry, "found"), LookupCounter(registry, "nothing"),
               LookupCounter(registry, "failed"), LookupCounter(registry, "late")},
      remote_calls_failed_(RemoteCallsCounter(registry, "failed")),
      remote_calls_refused_(RemoteCallsCounter(registry, "refused")),
      remote_breaker_open_(registry.AddGauge(
          "holdfast_kvstore_remote_breaker_open",
          "1 while the remote tier's server is left alone after failures, or tried again.")),
      residency_(registry.AddHistogram("holdfast_kvstore_residency_seconds",
                                       "Time on the device of blocks that left it.", AgeBuckets())),
      reuse_gap_(registry.AddHistogram(
          "holdfast_kvstore_reuse_gap_seconds",
          "Time between two uses of a block that nobody referred to meanwhile.", AgeBuckets())) {
  SetBlocks({.free = num_blocks});
}

void KvMetrics::SetBlocks(const BlockCounts& counts) {
  free_.Set(counts.free);
  held_.Set(counts.held);
  evictable_.Set(counts.evictable);
  moving_.Set(counts.moving);
  const int32_t capacity = counts.free + counts.held + counts.evictable + counts.moving;
  vllm_usage_.Set(capacity == 0 ? 0.0 : static_cast<double>(counts.held) / capacity);
}

void KvMetrics::AddCounts(const KvStoreCounters& counters) {
  for (size_t i = 0; i < moves_.size(); ++i) {
    AddSince(moves_[i].moved_bytes, counters.moves[i].bytes, last_.moves[i].bytes);
    AddSince(moves_[i].done, counters.moves[i].done, last_.moves[i].done);
    AddSince(moves_[i].failed, counters.moves[i].failed, last_.moves[i].failed);
  }
  for (size_t i = 0; i < evicted_.size(); ++i) {
    AddSince(evicted_[i], counters.tier_evicted[i], last_.tier_evicted[i]);
  }
  AddSince(hit_, counters.blocks_hit, last_.blocks_hit);
  AddSince(published_, counters.blocks_published, last_.blocks_published);
  AddSince(duplicate_, counters.blocks_duplicate, last_.blocks_duplicate);
  AddSince(dropped_, counters.dropped_without_copy, last_.dropped_without_copy);
  AddSince(corrupt_, counters.corrupt_blocks, last_.corrupt_blocks);
  AddSince(lost_, counters.lost_blocks, last_.lost_blocks);
  AddSince(collisions_, counters.key_collisions, last_.key_collisions);
  AddSince(index_full_, counters.index_full, last_.index_full);
  AddSince(restores_cut_, counters.restores_cut, last_.restores_cut);
  AddSince(sends_skipped_, counters.sends_skipped, last_.sends_skipped);
  AddSince(fetches_[0], counters.remote_fetched, last_.remote_fetched);
  AddSince(fetches_[1], counters.remote_absent, last_.remote_absent);
  AddSince(fetches_[2], counters.remote_unproven, last_.remote_unproven);
  AddSince(fetches_[3], counters.remote_failed, last_.remote_failed);
  last_ = counters;
}

void KvMetrics::UpdateRemote(const RemoteTierCounters& counters, CircuitBreaker::State breaker) {
  AddSince(remote_calls_failed_, counters.calls_failed, last_remote_.calls_failed);
  AddSince(remote_calls_refused_, counters.calls_refused, last_remote_.calls_refused);
  last_remote_ = counters;
  remote_breaker_open_.Set(breaker == CircuitBreaker::State::kClosed ? 0 : 1);
}

void KvMetrics::Update(KvStore& store) {
  SetBlocks(store.counts());
  for (const TierKind tier : {TierKind::kHost, TierKind::kDisk}) {
    TierBlocks& blocks = tier_blocks_[tier == TierKind::kHost ? 0 : 1];
    blocks.used.Set(store.used_blocks(tier));
    blocks.free.Set(store.capacity(tier) - store.used_blocks(tier));
  }
  AddCounts(store.counters());
  moves_under_way_.Set(store.num_moves());
  const PinTable& pins = store.pins();
  pins_.Set(pins.num_pins());
  pinned_blocks_.Set(pins.num_blocks());
  for (size_t i = 0; i < pin_ends_.size(); ++i) {
    const uint64_t ended = pins.num_ended(static_cast<PinEnd>(i));
    AddSince(pin_ends_[i], ended, std::exchange(last_pin_ends_[i], ended));
  }
  store.TakeObservations(observations_);
  for (double seconds : observations_.residency_seconds) residency_.Observe(seconds);
  for (double seconds : observations_.reuse_gap_seconds) reuse_gap_.Observe(seconds);
}

}  // namespace holdfast
