// Splits the work of a step over a fixed set of threads: the caller is worker 0, the others are
// started once and stay.
//
//            ParallelFor                 no index left          nothing for some 100 us
//   parked ---------------> working ---------------> watching ---------------> parked (futex)
//                              ^                        |
//                              +------- ParallelFor ----+
//
// A step has some hundred short loops, so a worker watches for the next one a short while before it
// parks; an idle pool uses no processor. Each worker has a share of a loop's indices, neighbours,
// and takes them one by one from a counter that nobody else touches; who is done takes from the
// others' shares. So which worker computes an index is open, what an index computes must not depend
// on it (promise 1).
//
// A worker that waits, for the next loop or for a loop's end, can use the time to ask memory for
// what it will read (SetAhead).
//
// Thread: ParallelFor from one thread at a time, and not from inside an index; SetAhead from that
// thread too. Allocates nothing.
// Bounds: num_workers threads, 2^31 - 1 indices.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace holdfast {

class WorkerPool final {
 public:
  // num_workers >= 1, the caller included. `pinned`: each worker to a processor of its own, in the
  // order of their numbers, so that weights which it packed, and so placed, are near it.
  explicit WorkerPool(int32_t num_workers, bool pinned = false);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int32_t num_workers() const { return static_cast<int32_t>(threads_.size()) + 1; }

  // Of a loop of `count`, worker `owner` begins with indices [ShareBegin(owner), ShareBegin(owner +
  // 1)), ascending.
  int32_t ShareBegin(int32_t count, int32_t owner) const {
    return static_cast<int32_t>(int64_t{count} * owner / num_workers());
  }

  // Tells the system what the other workers tell it of themselves (compute_thread.h). From the
  // thread that will call ParallelFor; once.
  void PrepareCaller() const { PrepareThread(0); }

  // Calls body(index, worker) once for each index in [0, count), on several workers at once, and
  // returns when all calls have. 0 <= worker < num_workers(); calls of one worker do not overlap,
  // so that it may name a workspace. What the caller wrote before is seen by all indices, and what
  // they wrote by the caller after.
  template <typename Body>
  void ParallelFor(int32_t count, const Body& body) {
    Run(
        count,
        [](const void* context, int32_t index, int32_t worker) {
          (*static_cast<const Body*>(context))(index, worker);
        },
        &body);
  }

  // What `worker` will read before long, up to kAheadBytesMost from `data` on: it asks for that
  // while it waits, until it is told of something else. Nothing is read, so it may be gone by then.
  static constexpr size_t kAheadBytesMost = 256 << 10;  // well within a second-level cache
  void SetAhead(int32_t worker, const std::byte* data, size_t bytes);

 private:
  using Function = void (*)(const void* context, int32_t index, int32_t worker);

  // A worker's share of the current loop: the loop's number in the high half, the next index to
  // hand out in the low one. A worker that comes late finds another number and takes nothing; so
  // nobody waits for those still asleep.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };

  // Cache lines to ask for.
  struct Ahead {
    alignas(64) std::atomic<uint64_t> wanted{0};  // number of the first << 16 | how many
    alignas(64) uint64_t known = 0;               // from here on the worker's own
    uintptr_t next = 0;
    uint32_t lines_left = 0;
  };

  // Looks, and asks ahead meanwhile, until it is so; false: it is not yet, after a while.
  template <typename Predicate>
  bool Watch(int32_t worker, const Predicate& is_so);
  void PrepareThread(int32_t worker) const;
  // For a moment of waiting: asks for some of what is ahead, or if all of it is here, pauses.
  void AskAheadOrPause(int32_t worker);
  void Run(int32_t count, Function function, const void* context);
  // Takes indices of the current loop until none is left.
  void TakeIndices(int32_t worker);
  // Takes and computes what is left of a share; returns how many.
  int32_t TakeShare(int32_t owner, int32_t worker);
  void WorkerMain(int32_t worker);

  const std::unique_ptr<Share[]> shares_;  // [num_workers]
  const std::unique_ptr<Ahead[]> aheads_;  // [num_workers]
  const std::vector<int32_t> processors_;  // to pin workers to; empty: nobody is pinned
  // The current loop. Written only while no share is open; read before an index is taken, and used
  // only if the taking then succeeds, which proves that they belong to it.
  alignas(64) std::atomic<int32_t> count_{0};
  std::atomic<Function> function_{nullptr};
  std::atomic<const void*> context_{nullptr};

  alignas(64) std::atomic<int32_t> unfinished_{0};  // indices of the current loop not yet computed
  alignas(64) std::atomic<uint32_t> loop_number_{0};  // what idle workers wait on
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace holdfast
