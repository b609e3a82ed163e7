// Sends what the store tells of its blocks over ZeroMQ, as vLLM does: to whoever subscribes
// (PUB), and what has been sent lately once more to whoever asks (ROUTER).
//
//   KvEventRing ──► thread: encode, number ──► PUB     [topic, number, batch]
//                           │                          number: 8 bytes, big-endian, from 0
//                           └─► kept, replay_bytes ──► ROUTER
//                               asked  [peer, "", number]
//                               answer [peer, "", topic, number, batch] ... [peer, "", "", -1, ""]
//
// Nobody is waited for. A subscriber that takes nothing for kSubscriberBatchesMax batches misses
// the next, which are counted, and sees it by the numbers. An answer to a question goes out as its
// asker takes it, beside what is new; one who takes nothing for kReplayPatience is left.
//
// Nobody is asked who they are: what is bound here is for the router alone (docs/kv_events.md).
//
// Thread: its own, and that of the ZeroMQ context. Bound: replay_bytes; kSubscriberBatchesMax
// batches of kBatchEventsMax events a subscriber; kReplaysMax answers at a time.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/metrics.h"
#include "kvstore/kv_event_ring.h"

namespace holdfast {

struct KvEventOptions {
  std::string endpoint;         // tcp://ADDR:PORT (0: the system picks) or ipc://PATH
  std::string replay_endpoint;  // likewise; empty: none
  std::string topic;
  size_t replay_bytes = 64 << 20;  // of batches that were sent
};

class KvEventPublisher final {
 public:
  static constexpr size_t kBatchEventsMax = 256;      // 50 KB
  static constexpr int kSubscriberBatchesMax = 1000;  // that one subscriber has not taken
  static constexpr size_t kReplaysMax = 8;            // answers under way; beyond: not answered
  static constexpr absl::Duration kReplayPatience = absl::Seconds(10);

  // The error names the setting. The ring, the clock (of the wall) and the registry outlive it.
  static absl::StatusOr<std::unique_ptr<KvEventPublisher>> Create(KvEventOptions options,
                                                                  KvEventRing& ring,
                                                                  MetricsRegistry& registry,
                                                                  const Clock& clock);
  ~KvEventPublisher();  // once nobody pushes any more: sends what is left, for a second at most
  KvEventPublisher(const KvEventPublisher&) = delete;

  // With the port that the system picked.
  const std::string& endpoint() const;
  const std::string& replay_endpoint() const;

 private:
  class Thread;
  explicit KvEventPublisher(std::unique_ptr<Thread> thread);
  const std::unique_ptr<Thread> thread_;
};

}  // namespace holdfast
