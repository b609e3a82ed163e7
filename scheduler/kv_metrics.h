// What the KV store tells the outside, by way of the scheduler that owns it: counts since the last
// step are added after each, and a scrape never touches the store. Also the alias
// vllm:kv_cache_usage_perc (a fraction: held of all blocks).
//
// Thread: made at start, then the scheduler's.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "config/base/metrics.h"
#include "kvstore/kv_store.h"
#include "kvstore/remote_tier.h"

namespace holdfast {

const char* MoveKindName(MoveKind kind);
const char* PinEndName(PinEnd end);
const char* TierName(TierKind tier);

class KvMetrics final {
 public:
  KvMetrics(MetricsRegistry& registry, const std::string& model_name, int32_t num_blocks);

  void Update(KvStore& store);  // takes the store's observations
  // What only the remote tier's own side knows.
  void UpdateRemote(const RemoteTierCounters& counters, CircuitBreaker::State breaker);

  // What became of a look-up there; kLate: nobody waited any more.
  enum class Lookup : uint8_t { kFound, kNothing, kFailed, kLate };
  void CountLookup(Lookup how) { lookups_[static_cast<size_t>(how)].Add(); }

 private:
  struct Moves {          // label kind
    Counter moved_bytes;  // holdfast_kvstore_moved_bytes_total
    Counter done;         // holdfast_kvstore_moves_total{result="done"}
    Counter failed;       // and {result="failed"}
  };
  void SetBlocks(const BlockCounts& counts);
  void AddCounts(const KvStoreCounters& counters);

  Gauge free_, held_, evictable_, moving_;  // holdfast_kvstore_blocks{state}
  struct TierBlocks {
    Gauge used, free;  // holdfast_kvstore_tier_blocks{tier,state}; both 0: there is no such tier
  };
  std::array<TierBlocks, 2> tier_blocks_;  // host, disk
  Gauge vllm_usage_;
  Gauge pins_;                                   // holdfast_kvstore_pins
  Gauge pinned_blocks_;                          // holdfast_kvstore_pinned_blocks
  Gauge moves_under_way_;                        // holdfast_kvstore_moves_under_way
  std::array<Counter, kNumPinEnds> pin_ends_;    // holdfast_kvstore_pins_ended_total{end}
  std::array<Counter, kNumPlaceTiers> evicted_;  // holdfast_kvstore_evicted_blocks_total{tier}
  std::array<Moves, kNumMoveKinds> moves_;
  Counter hit_;                     // holdfast_kvstore_hit_blocks_total
  Counter published_;               // holdfast_kvstore_published_blocks_total
  Counter duplicate_;               // holdfast_kvstore_duplicate_blocks_total
  Counter dropped_;                 // holdfast_kvstore_dropped_without_copy_blocks_total
  Counter corrupt_;                 // holdfast_kvstore_corrupt_blocks_total
  Counter lost_;                    // holdfast_kvstore_lost_blocks_total
  Counter collisions_;              // holdfast_kvstore_key_collisions_total
  Counter index_full_;              // holdfast_kvstore_index_full_blocks_total
  Counter restores_cut_;            // holdfast_kvstore_restores_cut_total
  Counter sends_skipped_;           // holdfast_kvstore_sends_skipped_blocks_total
  std::array<Counter, 4> fetches_;  // holdfast_kvstore_remote_fetches_total{result}
  std::array<Counter, 4> lookups_;  // holdfast_kvstore_remote_lookups_total{result}
  Counter remote_calls_failed_, remote_calls_refused_;  // holdfast_kvstore_remote_calls_total
  Gauge remote_breaker_open_;                           // holdfast_kvstore_remote_breaker_open
  Histogram residency_;                                 // holdfast_kvstore_residency_seconds
  Histogram reuse_gap_;                                 // holdfast_kvstore_reuse_gap_seconds

  KvStoreCounters last_;  // already counted
  std::array<uint64_t, kNumPinEnds> last_pin_ends_{};
  RemoteTierCounters last_remote_;
  KvObservations observations_;
};

}  // namespace holdfast
