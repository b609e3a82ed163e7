#include "config/base/thread_turns.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

namespace holdfast {
namespace {

cpu_set_t ProcessorsOfThisThread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  return set;
}

TEST(ThreadTurnsTest, AThreadThatTakesLongOrShortTurnsKeepsItsPolicyAndPlace) {
  for (const auto take : {TakeLongTurns, TakeShortTurns}) {
    std::thread([take] {
      const int policy = sched_getscheduler(0);
      const int nice = getpriority(PRIO_PROCESS, 0);
      const cpu_set_t processors = ProcessorsOfThisThread();
      take();
      EXPECT_EQ(sched_getscheduler(0), policy);
      EXPECT_EQ(getpriority(PRIO_PROCESS, 0), nice);
      const cpu_set_t after = ProcessorsOfThisThread();
      EXPECT_TRUE(CPU_EQUAL(&after, &processors));
    }).join();
  }
}

// 0: the kernel does not say.
uint64_t TurnNanosecondsOfThisThread() {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  attributes.size = sizeof attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return 0;
  return attributes.policy == SCHED_OTHER ? attributes.runtime : 0;
}

TEST(ThreadTurnsTest, TurnsAreAsShortAndAsLongAsTheKernelTakesAlsoOfThreadsStartedThen) {
  uint64_t before = 0, is_short = 0, of_child = 0, is_long = 0;
  std::thread([&] {
    before = TurnNanosecondsOfThisThread();
    TakeShortTurns();
    is_short = TurnNanosecondsOfThisThread();
    std::thread([&] { of_child = TurnNanosecondsOfThisThread(); }).join();
    TakeLongTurns();
    is_long = TurnNanosecondsOfThisThread();
  }).join();
  if (before == 0) GTEST_SKIP() << "a kernel before Linux 6.12, or another policy";
  EXPECT_EQ(is_short, 100'000u);
  EXPECT_EQ(of_child, 100'000u);
  EXPECT_EQ(is_long, 100'000'000u);
}

}  // namespace
}  // namespace holdfast
