#include "config/base/thread_checker.h"

#include <thread>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(ThreadCheckerTest, TheFirstCallerOwnsUntilItDetaches) {
  ThreadChecker checker;
  checker.CheckThread();
  checker.CheckThread();
  checker.Detach();
  std::thread([&] {
    checker.CheckThread();
    checker.Detach();
  }).join();
  checker.CheckThread();
}

#ifndef NDEBUG
TEST(ThreadCheckerDeathTest, AnotherThreadStopsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadChecker checker;
        checker.CheckThread();
        std::thread([&] { checker.CheckThread(); }).join();
      },
      "CHECK failed");
}
#endif

}  // namespace
}  // namespace holdfast
