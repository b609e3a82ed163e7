#include "server/prompt_workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/synchronization/notification.h"

namespace holdfast {
namespace {

using testing::ElementsAre;

constexpr TenantIndex kRed{0}, kBlue{1};

std::vector<PromptWorkers::Task> One(PromptWorkers::Task task) {
  std::vector<PromptWorkers::Task> tasks;
  tasks.push_back(std::move(task));
  return tasks;
}

// Keeps the only worker busy until it is let go, so that what is posted meanwhile waits.
class BusyWorkers final {
 public:
  explicit BusyWorkers(size_t tasks_max) : workers(1, tasks_max) {
    EXPECT_TRUE(workers.TryPost(kRed, One([this] {
                                  busy_.Notify();
                                  go_on_.WaitForNotification();
                                })));
    busy_.WaitForNotification();
  }
  bool Post(TenantIndex tenant, std::string name) {
    return workers.TryPost(tenant, One([this, name = std::move(name)] { ran.push_back(name); }));
  }
  void RunAll() {
    go_on_.Notify();
    workers.Stop();
  }

  std::vector<std::string> ran;  // to be read after RunAll

 private:
  absl::Notification busy_, go_on_;

 public:
  PromptWorkers workers;  // its thread ends before what it uses
};

TEST(PromptWorkersTest, TenantsTakeTurnsHoweverMuchOneOfThemBrings) {
  BusyWorkers busy(10);
  for (const char* name : {"r1", "r2", "r3", "r4"}) EXPECT_TRUE(busy.Post(kRed, name));
  for (const char* name : {"b1", "b2"}) EXPECT_TRUE(busy.Post(kBlue, name));
  busy.RunAll();
  EXPECT_THAT(busy.ran, ElementsAre("r1", "b1", "r2", "b2", "r3", "r4"));
}

TEST(PromptWorkersTest, ATenantsFullQueueRefusesThatTenantAlone) {
  BusyWorkers busy(2);
  EXPECT_TRUE(busy.Post(kRed, "r1"));
  EXPECT_TRUE(busy.Post(kRed, "r2"));
  EXPECT_FALSE(busy.Post(kRed, "r3"));
  EXPECT_TRUE(busy.Post(kBlue, "b1"));
  busy.RunAll();
  EXPECT_THAT(busy.ran, ElementsAre("r1", "b1", "r2"));
}

TEST(PromptWorkersTest, WhatComesTogetherIsTakenTogetherOrNotAtAll) {
  BusyWorkers busy(2);
  EXPECT_TRUE(busy.Post(kRed, "r1"));
  std::vector<PromptWorkers::Task> two;
  for (int i = 0; i < 2; ++i) two.emplace_back([&busy] { busy.ran.push_back("never"); });
  EXPECT_FALSE(busy.workers.TryPost(kRed, std::move(two)));
  busy.RunAll();
  EXPECT_THAT(busy.ran, ElementsAre("r1"));
}

TEST(PromptWorkersTest, AllWorkersTakePart) {
  PromptWorkers workers(2, 4);
  absl::Notification first, second;
  ASSERT_TRUE(workers.TryPost(kRed, One([&] {
                                first.Notify();
                                second.WaitForNotification();
                              })));
  ASSERT_TRUE(workers.TryPost(kRed, One([&] {
                                first.WaitForNotification();
                                second.Notify();
                              })));
  second.WaitForNotification();
  workers.Stop();
}

TEST(PromptWorkersTest, TakeNothingAfterStop) {
  PromptWorkers workers(1, 4);
  workers.Stop();
  std::atomic<int> ran{0};
  EXPECT_FALSE(workers.TryPost(kRed, One([&ran] { ++ran; })));
  workers.Stop();
  EXPECT_EQ(ran, 0);
}

}  // namespace
}  // namespace holdfast
