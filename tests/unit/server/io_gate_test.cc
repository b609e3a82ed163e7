#include "server/io_gate.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"

namespace holdfast {
namespace {

class IoGateTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(gate_->Begin(io_), absl::OkStatus()); }

  asio::io_context io_{1};
  const std::shared_ptr<IoGate> gate_ = std::make_shared<IoGate>();
};

TEST_F(IoGateTest, TasksOfSeveralThreadsRunOnTheIoThreadEachThreadsInOrder) {
  constexpr int kThreads = 3, kTasks = 2000;
  std::vector<std::vector<int>> seen(kThreads);
  int left = kThreads * kTasks;
  std::thread::id ran_on;
  std::thread io([&] { io_.run(); });
  const std::thread::id io_id = io.get_id();
  std::vector<std::thread> posters;
  for (int thread = 0; thread < kThreads; ++thread) {
    posters.emplace_back([&, thread] {
      for (int task = 0; task < kTasks; ++task) {
        gate_->Post([&, thread, task] {
          seen[static_cast<size_t>(thread)].push_back(task);
          ran_on = std::this_thread::get_id();
          if (--left == 0) gate_->Shut();
        });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  io.join();  // not before Shut
  EXPECT_EQ(ran_on, io_id);
  for (const std::vector<int>& of_thread : seen) {
    ASSERT_EQ(of_thread.size(), size_t{kTasks});
    for (int task = 0; task < kTasks; ++task) EXPECT_EQ(of_thread[static_cast<size_t>(task)], task);
  }
}

TEST_F(IoGateTest, ATaskPostedByATaskRunsToo) {
  bool ran = false;
  gate_->Post([&] {
    gate_->Post([&] {
      ran = true;
      gate_->Shut();
    });
  });
  io_.run();
  EXPECT_TRUE(ran);
}

TEST_F(IoGateTest, OnceShutTasksAreDroppedWithWhatTheyOwn) {
  const auto owned = std::make_shared<int>(0);
  bool ran = false;
  gate_->Post([owned, &ran] { ran = true; });
  gate_->Shut();
  EXPECT_EQ(owned.use_count(), 1);
  gate_->Post([owned, &ran] { ran = true; });
  EXPECT_EQ(owned.use_count(), 1);
  io_.run();
  EXPECT_FALSE(ran);
}

TEST_F(IoGateTest, OutlivesItsIoContext) {
  auto io = std::make_unique<asio::io_context>(1);
  const auto gate = std::make_shared<IoGate>();
  ASSERT_EQ(gate->Begin(*io), absl::OkStatus());
  gate->Shut();
  io.reset();
  gate->Post([] { FAIL() << "nobody is left to run this"; });
  gate_->Shut();
}

}  // namespace
}  // namespace holdfast
