// Carries the bytes of moves, on threads of its own: the store decides (move.h), this does.
//
//                      ┌► restores from host ─► thread(s) ─┐
//   TrySubmit ─► lane ─┼► restores from disk ─► thread(s) ─┼─► on_done, once for each job
//                      └► offloads, demotions ► thread(s) ─┘
//
// A sequence waits for a restore, nobody waits for an offload, and disk is slow: hence three lanes,
// none of which stands in another's way. A thread takes what has gathered in its mailbox and does
// jobs of one kind and tier together, so that the disk tier has many blocks to read at once. Where
// the engine's memory can be addressed, tiers read and write it in place; else through staging.
//
// Restores behind a gate (layer_gate.h) go together however many they are, and where the engine's
// memory can be addressed they come layer by layer. Others wait behind them no longer than behind
// as many single ones.
//
// Bounds: `jobs_max` accepted and unanswered; staging of `batch_blocks` blocks a thread.
// Stop: jobs at work are finished, waiting ones answered kCancelled. No thread spins.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "config/base/mailbox.h"
#include "kvstore/block_mover.h"
#include "kvstore/device_restore.h"
#include "kvstore/move.h"
#include "kvstore/tier.h"

namespace holdfast {

struct TierMoverOptions {
  size_t block_bytes = 0;
  int32_t host_restore_threads = 1;
  int32_t disk_restore_threads = 2;  // one proves its blocks while the other's are read
  int32_t offload_threads = 1;
  int32_t jobs_max = 4096;
  int32_t batch_blocks = 16;  // of one Put or Fetch; a restore's wait for the batch it is in
};

class TierMover final {
 public:
  // `device` and `tiers` (of different kinds) outlive the mover. `on_done`, and `on_layers` when a
  // gate has opened for its first layer and when for half of them, are called on the mover's
  // threads, must not block, and must not call back into the mover.
  TierMover(BlockMover& device, std::span<Tier* const> tiers, const TierMoverOptions& options,
            std::function<void(MoveDone&&)> on_done, std::function<void()> on_layers = nullptr);
  ~TierMover();  // stops

  // Any thread. False: `jobs_max` jobs are under way, or it was stopped; the job is the caller's.
  // Restores behind a gate begin when the last of them is here; if one never comes, Stop fails it.
  [[nodiscard]] bool TrySubmit(MoveJob&& job);

  // Any thread. What the device holds is in doubt: offloads submitted before and not yet written to
  // their tier are cancelled. A record of what was read then would look whole for ever.
  void ForgetDevice() { device_losses_.fetch_add(1, std::memory_order_relaxed); }

  // Answers all jobs and ends the threads. Jobs of a TrySubmit that returned true before or during
  // it are answered. Once; the destructor does it else.
  void Stop();

  int32_t num_under_way() const { return under_way_.load(std::memory_order_relaxed); }

 private:
  struct Worker {
    explicit Worker(const TierMoverOptions& options)
        : jobs(static_cast<size_t>(options.jobs_max)),
          staging(options.block_bytes, options.batch_blocks) {}
    Mailbox<MoveJob> jobs;
    BlockStaging staging;
    std::thread thread;
  };
  struct Lane {
    std::vector<std::unique_ptr<Worker>> workers;
    std::atomic<uint32_t> next = 0;  // in turn
  };
  enum LaneIndex : size_t { kHostRestore, kDiskRestore, kOffload, kNumLanes };
  static LaneIndex LaneOf(const MoveJob& job);

  Worker& WorkerFor(const MoveJob& job);
  void Work(Worker& worker);
  // Moves the oldest of `waiting` and those that go with it to the empty `batch`. False: the oldest
  // is behind a gate, and not all of its jobs are here yet.
  bool TakeBatch(std::vector<MoveJob>& waiting, std::vector<MoveJob>& batch) const;
  void Cancel(std::span<const MoveJob> jobs);
  void RunBatch(std::span<MoveJob> jobs, Worker& worker);
  void Offload(std::span<MoveJob> jobs, Worker& worker, std::span<absl::Status> statuses);
  void Restore(std::span<MoveJob> jobs, Worker& worker, std::span<absl::Status> statuses);
  void RestoreBehindGate(std::span<MoveJob> jobs, LayerGate& gate, Worker& worker,
                         std::span<absl::Status> statuses);
  void RestoreByLayers(std::span<MoveJob> jobs, LayerGate& gate, std::span<absl::Status> statuses);
  void Demote(std::span<MoveJob> jobs, Worker& worker, std::span<absl::Status> statuses);
  Tier& TierOf(TierKind kind);
  void Answer(const MoveJob& job, absl::Status status);

  const TierMoverOptions options_;
  BlockMover& device_;
  std::array<Tier*, 4> tiers_{};  // by kind
  const std::function<void(MoveDone&&)> on_done_;
  const std::function<void()> on_layers_;
  std::array<Lane, kNumLanes> lanes_;
  std::atomic<int32_t> under_way_ = 0;
  std::atomic<uint64_t> device_losses_{0};
  std::atomic<bool> stopping_ = false;
};

}  // namespace holdfast
