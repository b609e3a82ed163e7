#include "engine/worker_pool.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "config/base/check.h"
#include "config/base/thread_turns.h"
#include "engine/compute_thread.h"

namespace holdfast {
namespace {

// How long a worker looks at one cache line before it parks, which spans what a step does on one
// thread and, while somebody is served, what lies between two steps. To wake a parked worker takes
// 10 us; on a virtual machine, whose processor has to be given back first, 200 us and at times some
// ms. Who wakes meanwhile takes its turn (TakeLongTurns).
constexpr std::chrono::microseconds kWatchTime(800);
constexpr int kRoundsBetweenClocks = 64;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

constexpr uint64_t kLineBytes = 64;
constexpr uint32_t kLinesBits = 16;  // of Ahead::wanted
constexpr uint64_t kLinesMask = (1u << kLinesBits) - 1;
// Between two looks at whether there is work.
constexpr uint32_t kLinesAtOnce = 8;

constexpr uint32_t kClosed = 0xFFFFFFFF;  // an index beyond every count

constexpr uint64_t Ticket(uint32_t loop_number, uint32_t index) {
  return (static_cast<uint64_t>(loop_number) << 32) | index;
}

}  // namespace

WorkerPool::WorkerPool(int32_t num_workers, bool pinned)
    : shares_(std::make_unique<Share[]>(static_cast<size_t>(std::max(num_workers, 1)))),
      aheads_(std::make_unique<Ahead[]>(static_cast<size_t>(std::max(num_workers, 1)))),
      processors_(pinned ? UsableProcessors() : std::vector<int32_t>()) {
  CHECK(num_workers >= 1);
  threads_.reserve(static_cast<size_t>(num_workers) - 1);
  for (int32_t worker = 1; worker < num_workers; ++worker) {
    threads_.emplace_back([this, worker] { WorkerMain(worker); });
  }
}

WorkerPool::~WorkerPool() {
  stopping_.store(true, std::memory_order_release);
  loop_number_.fetch_add(1, std::memory_order_release);
  loop_number_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::PrepareThread(int32_t worker) const {
  TakeLongTurns();
  if (processors_.empty()) return;
  PinTo(processors_[static_cast<size_t>(worker) % processors_.size()]);
}

void WorkerPool::SetAhead(int32_t worker, const std::byte* data, size_t bytes) {
  static_assert(kAheadBytesMost / kLineBytes <= kLinesMask);
  const uint64_t first = reinterpret_cast<uintptr_t>(data) / kLineBytes;
  const uint64_t lines = (std::min(bytes, kAheadBytesMost) + kLineBytes - 1) / kLineBytes;
  aheads_[worker].wanted.store(first << kLinesBits | lines, std::memory_order_relaxed);
}

void WorkerPool::AskAheadOrPause(int32_t worker) {
  Ahead& ahead = aheads_[worker];
  const uint64_t wanted = ahead.wanted.load(std::memory_order_relaxed);
  if (wanted != ahead.known) {
    ahead.known = wanted;
    ahead.next = (wanted >> kLinesBits) * kLineBytes;
    ahead.lines_left = static_cast<uint32_t>(wanted & kLinesMask);
  }
  if (ahead.lines_left == 0) return Pause();
  const uint32_t lines = std::min(ahead.lines_left, kLinesAtOnce);
  for (uint32_t i = 0; i < lines; ++i) {
    constexpr int kRead = 0, kSecondLevel = 2;
    __builtin_prefetch(reinterpret_cast<const void*>(ahead.next), kRead, kSecondLevel);
    ahead.next += kLineBytes;
  }
  ahead.lines_left -= lines;
}

template <typename Predicate>
bool WorkerPool::Watch(int32_t worker, const Predicate& is_so) {
  std::optional<std::chrono::steady_clock::time_point> end;
  while (true) {
    for (int round = 0; round < kRoundsBetweenClocks; ++round) {
      if (is_so()) return true;
      AskAheadOrPause(worker);
    }
    const auto now = std::chrono::steady_clock::now();
    if (!end) end = now + kWatchTime;
    if (now >= *end) return false;
  }
}

void WorkerPool::Run(int32_t count, Function function, const void* context) {
  if (count <= 0) return;
  if (count == 1 || threads_.empty()) {
    for (int32_t index = 0; index < count; ++index) function(context, index, 0);
    return;
  }
  // Closed before the description changes: a worker that comes late from the loop before must not
  // take its end for an open index of this one.
  const uint32_t number = loop_number_.load(std::memory_order_relaxed) + 1;
  for (int32_t owner = 0; owner < num_workers(); ++owner) {
    shares_[owner].ticket.store(Ticket(number, kClosed), std::memory_order_release);
  }
  count_.store(count, std::memory_order_release);
  function_.store(function, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  unfinished_.store(count, std::memory_order_release);
  for (int32_t owner = 0; owner < num_workers(); ++owner) {
    const auto begin = static_cast<uint32_t>(ShareBegin(count, owner));
    shares_[owner].ticket.store(Ticket(number, begin), std::memory_order_release);
  }
  loop_number_.store(number, std::memory_order_release);
  loop_number_.notify_all();  // a system call only if somebody is parked

  TakeIndices(0);
  if (Watch(0, [this] { return unfinished_.load(std::memory_order_acquire) == 0; })) return;
  for (int32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    unfinished_.wait(left, std::memory_order_acquire);
  }
}

void WorkerPool::TakeIndices(int32_t worker) {
  int32_t taken = 0;
  for (int32_t i = 0; i < num_workers(); ++i) {
    taken += TakeShare((worker + i) % num_workers(), worker);
  }
  if (taken == 0) return;
  // After the last one the loop's owner may be gone: nothing but our own members from here on.
  if (unfinished_.fetch_sub(taken, std::memory_order_acq_rel) == taken) unfinished_.notify_one();
}

int32_t WorkerPool::TakeShare(int32_t owner, int32_t worker) {
  std::atomic<uint64_t>& share = shares_[owner].ticket;
  int32_t taken = 0, known_count = 0;
  uint32_t end = 0;
  uint64_t ticket = share.load(std::memory_order_acquire);
  while (true) {
    const int32_t count = count_.load(std::memory_order_acquire);
    const Function function = function_.load(std::memory_order_acquire);
    const void* context = context_.load(std::memory_order_acquire);
    const uint32_t index = static_cast<uint32_t>(ticket);
    if (count != known_count) {  // the division is not for every index
      known_count = count;
      end = static_cast<uint32_t>(ShareBegin(count, owner + 1));
    }
    if (index >= end) return taken;
    if (!share.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      continue;
    }
    function(context, static_cast<int32_t>(index), worker);
    ++taken;
    ticket = share.load(std::memory_order_acquire);
  }
}

void WorkerPool::WorkerMain(int32_t worker) {
  PrepareThread(worker);
  uint32_t seen = 0;
  while (true) {
    uint32_t number = seen;
    const auto has_work = [&] {
      number = loop_number_.load(std::memory_order_acquire);
      return number != seen;
    };
    if (!Watch(worker, has_work)) {
      loop_number_.wait(seen, std::memory_order_acquire);
      continue;
    }
    seen = number;
    if (stopping_.load(std::memory_order_acquire)) return;
    TakeIndices(worker);
  }
}

}  // namespace holdfast
