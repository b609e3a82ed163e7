#include "config/base/thread_turns.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

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

}  // namespace
}  // namespace holdfast
