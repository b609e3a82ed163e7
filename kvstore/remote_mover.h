// Carries blocks to and from the remote tier, and asks it what is there, on threads of its own: a
// server that is slow or gone must not hold up what moves between this machine's tiers
// (tier_mover.h).
//
//                    ┌► sends ──► copier: block into a record, `read` ──► sender: Put ──► on_done
//   TrySubmit ──────┤
//                    └► restores from kRemote ──► fetchers: Fetch into the block ───────► on_done
//   TryLookUp ──────────► look-ups ──► asker: digests, Contains ───────────────────────► on_found
//
// A sequence waits for a fetch or a look-up, nobody for a send. A device block is given back as
// soon as its bytes are copied, whatever the server does.
//
// Bounds: sends_max blocks copied and not yet put, restores_max, lookups_max; beyond, the Try calls
// say no. How long a call may take is the tier's matter; once its breaker is open all is answered
// at once.
// Stop: what is at work is finished, the rest answered kCancelled.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "config/base/mailbox.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"
#include "kvstore/block_mover.h"
#include "kvstore/device_restore.h"
#include "kvstore/move.h"
#include "kvstore/remote_lookup.h"
#include "kvstore/remote_tier.h"

namespace holdfast {

struct RemoteMoverOptions {
  size_t block_bytes = 0;
  int32_t fetch_threads = 2;  // one proves its blocks while the other's are on the way
  int32_t sends_max = 32;     // memory: twice as many blocks
  int32_t restores_max = 4096;
  int32_t lookups_max = 64;
  int32_t batch_blocks = 16;  // of one Fetch
};

class RemoteMover final {
 public:
  // `device` and `tier` outlive the mover. Both functions are called on the mover's threads, must
  // not block, and must not call back into the mover.
  RemoteMover(BlockMover& device, RemoteTier& tier, const RemoteMoverOptions& options,
              std::function<void(MoveDone&&)> on_done, std::function<void(RemoteFound&&)> on_found);
  ~RemoteMover();  // stops

  // Any thread. False: as many as may be are under way, or it was stopped.
  [[nodiscard]] bool TrySubmit(MoveJob&& job);  // kSend, or kRestore from kRemote
  [[nodiscard]] bool TryLookUp(RemoteLookup&& lookup);

  // Answers all that was taken and ends the threads. Once; the destructor does it else.
  void Stop();

 private:
  struct Outgoing {
    MoveId id{};
    RemoteRecord record;
  };
  struct Fetcher {
    explicit Fetcher(const RemoteMoverOptions& options)
        : jobs(static_cast<size_t>(options.restores_max)),
          staging(options.block_bytes, options.batch_blocks) {}
    Mailbox<MoveJob> jobs;
    BlockStaging staging;
    std::thread thread;
  };

  void CopyOut();
  void Send();
  void FetchAll(Fetcher& fetcher);
  void FetchBatch(std::span<const MoveJob> jobs, Fetcher& fetcher);
  void Ask();
  absl::StatusOr<RemoteRecord> Encode(const MoveJob& job);
  RemoteFound LookUp(const RemoteLookup& lookup);
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

  const RemoteMoverOptions options_;
  BlockMover& device_;
  RemoteTier& tier_;
  const std::function<void(MoveDone&&)> on_done_;
  const std::function<void(RemoteFound&&)> on_found_;

  std::atomic<bool> stopping_ = false;
  std::atomic<int32_t> num_sends_ = 0;  // not answered
  std::atomic<uint32_t> next_fetcher_ = 0;
  Mailbox<MoveJob> sends_;
  Mailbox<Outgoing> outgoing_;
  Mailbox<RemoteLookup> lookups_;
  BlockStaging copy_staging_;  // one block; the copier's
  std::vector<std::unique_ptr<Fetcher>> fetchers_;
  std::thread copier_, sender_, asker_;
};

}  // namespace holdfast
