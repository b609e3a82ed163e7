#include "engine/worker_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "config/base/check.h"
#include "engine/compute_thread.h"

namespace holdfast {
namespace {

TEST(WorkerPoolTest, EveryIndexRunsExactlyOnceForManyLoopsOfManySizes) {
  for (int32_t num_workers : {1, 2, 3, 8}) {
    SCOPED_TRACE(testing::Message() << num_workers << " workers");
    WorkerPool pool(num_workers);
    ASSERT_EQ(pool.num_workers(), num_workers);
    std::mt19937 rng(7);
    std::vector<int32_t> runs(300);
    for (int loop = 0; loop < 2000; ++loop) {
      const int32_t count = static_cast<int32_t>(rng() % runs.size());
      std::fill(runs.begin(), runs.end(), 0);
      pool.ParallelFor(count, [&](int32_t index, int32_t) { ++runs[index]; });
      for (int32_t i = 0; i < count; ++i)
        ASSERT_EQ(runs[i], 1) << "loop " << loop << " index " << i;
      for (size_t i = count; i < runs.size(); ++i) ASSERT_EQ(runs[i], 0);
    }
  }
}

TEST(WorkerPoolTest, AWorkersCallsDoNotOverlapAndItsNumberIsInRange) {
  constexpr int32_t kWorkers = 4;
  WorkerPool pool(kWorkers);
  std::array<std::atomic<int32_t>, kWorkers> inside{};
  std::atomic<int32_t> faults = 0;
  for (int loop = 0; loop < 200; ++loop) {
    pool.ParallelFor(64, [&](int32_t, int32_t worker) {
      if (worker < 0 || worker >= kWorkers || inside[worker].fetch_add(1) != 0) ++faults;
      inside[worker].fetch_sub(1);
    });
  }
  EXPECT_EQ(faults.load(), 0);
}

TEST(WorkerPoolTest, SeveralWorkersTakePart) {
  WorkerPool pool(2);
  // Each of the two indices waits for the other: this ends only if they run at once.
  std::atomic<int32_t> arrived = 0;
  pool.ParallelFor(2, [&](int32_t, int32_t) {
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 2);
}

TEST(WorkerPoolTest, WhoIsDoneTakesFromTheSharesOfOthers) {
  WorkerPool pool(2);
  for (int loop = 0; loop < 20; ++loop) {
    // Who has the first index waits for all others, also those of his own share: this ends only if
    // somebody else takes them.
    std::atomic<int32_t> done = 0;
    pool.ParallelFor(8, [&](int32_t index, int32_t) {
      while (index == 0 && done.load() < 7) std::this_thread::yield();
      ++done;
    });
    ASSERT_EQ(done.load(), 8);
  }
}

TEST(WorkerPoolTest, NothingRunsForAnEmptyLoop) {
  WorkerPool pool(2);
  pool.ParallelFor(0, [](int32_t, int32_t) { FAIL(); });
}

TEST(WorkerPoolTest, WhatIsAheadMayBeGoneAndChangesNoLoop) {
  WorkerPool pool(3);
  const std::byte* const nobodys = reinterpret_cast<const std::byte*>(uintptr_t{64});
  for (int round = 0; round < 200; ++round) {
    for (int32_t worker = 0; worker < pool.num_workers(); ++worker) {
      pool.SetAhead(worker, nobodys + 4096 * round, size_t{1} << (round % 40));
    }
    std::atomic<int32_t> sum = 0;
    pool.ParallelFor(100, [&](int32_t index, int32_t) { sum += index; });
    ASSERT_EQ(sum.load(), 4950);
  }
}

TEST(WorkerPoolTest, SharesOfALoopAreAllOfItInOrder) {
  const WorkerPool pool(3);
  for (int32_t count : {0, 1, 2, 3, 100}) {
    EXPECT_EQ(pool.ShareBegin(count, 0), 0);
    EXPECT_EQ(pool.ShareBegin(count, 3), count);
    for (int32_t worker = 0; worker < 3; ++worker) {
      const int32_t size = pool.ShareBegin(count, worker + 1) - pool.ShareBegin(count, worker);
      EXPECT_TRUE(size == count / 3 || size == (count + 2) / 3) << count << " " << worker;
    }
  }
}

TEST(WorkerPoolTest, WorkersThatParkedComeBack) {
  WorkerPool pool(3);
  for (int round = 0; round < 50; ++round) {
    // Longer than a worker watches; counted in work, not in time.
    std::mt19937 work(round);
    work.discard(200'000);
    ASSERT_NE(work(), 1u);
    std::atomic<int32_t> sum = 0;
    pool.ParallelFor(100, [&](int32_t index, int32_t) { sum += index; });
    ASSERT_EQ(sum.load(), 4950);
  }
}

cpu_set_t ProcessorsOfThisThread() {
  cpu_set_t set;
  CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
  return set;
}

TEST(WorkerPoolTest, PinnedWorkersEachHaveAProcessorOfTheirOwn) {
  const std::vector<int32_t> usable = UsableProcessors();
  constexpr int32_t kWorkers = 2;
  std::array<cpu_set_t, kWorkers> seen{};
  std::thread([&] {  // pinned for good
    WorkerPool pool(kWorkers, /*pinned=*/true);
    pool.PrepareCaller();
    std::atomic<int32_t> arrived{0};
    pool.ParallelFor(kWorkers, [&](int32_t, int32_t worker) {
      arrived.fetch_add(1);
      while (arrived.load() < kWorkers) std::this_thread::yield();  // one index each
      seen[static_cast<size_t>(worker)] = ProcessorsOfThisThread();
    });
  })
      .join();
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    EXPECT_EQ(CPU_COUNT(&seen[worker]), 1);
    EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(usable[worker % usable.size()]), &seen[worker]));
  }
  const cpu_set_t own = ProcessorsOfThisThread();
  EXPECT_EQ(CPU_COUNT(&own), static_cast<int>(usable.size()));
}

}  // namespace
}  // namespace holdfast
