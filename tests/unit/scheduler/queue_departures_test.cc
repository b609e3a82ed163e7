#include "scheduler/queue_departures.h"

#include <cstdint>
#include <random>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

// One leaves every `interval`, another comes at once, ten always wait.
QueueDepartures SteadyQueue(absl::Duration interval, int departures, absl::Time* now) {
  QueueDepartures queue;
  *now = kStart;
  queue.Enter(10);
  queue.Look(10, *now);
  for (int i = 0; i < departures; ++i) {
    *now += interval;
    queue.Look(9, *now);
    queue.Enter(1);
    queue.Look(10, *now);
  }
  return queue;
}

TEST(QueueDeparturesTest, WhatIsToldFollowsTheMeasuredRateWithinItsBounds) {
  absl::Time now;
  const QueueDepartures slow = SteadyQueue(absl::Seconds(4), 50, &now);
  EXPECT_NEAR(absl::ToDoubleSeconds(slow.TimeUntilLeft(1)), 4, 1);
  EXPECT_NEAR(absl::ToDoubleSeconds(slow.TimeUntilLeft(3)), 12, 3);
  EXPECT_EQ(slow.TimeUntilLeft(1000), kRetryAfterMax);
  const QueueDepartures quick = SteadyQueue(absl::Milliseconds(10), 1000, &now);
  EXPECT_EQ(quick.TimeUntilLeft(1), kRetryAfterMin);
  EXPECT_NEAR(absl::ToDoubleSeconds(quick.TimeUntilLeft(1000)), 10, 0.5);
}

TEST(QueueDeparturesTest, BeforeAnythingIsKnownTheShortestTimeIsTold) {
  QueueDepartures queue;
  EXPECT_EQ(queue.TimeUntilLeft(100), kRetryAfterMin);
  queue.Enter(5);
  queue.Look(5, kStart);
  EXPECT_EQ(queue.TimeUntilLeft(100), kRetryAfterMin);
}

TEST(QueueDeparturesTest, AQueueThatNobodyLeavesTellsTheLongestTime) {
  QueueDepartures queue;
  queue.Enter(5);
  queue.Look(5, kStart);
  queue.Look(5, kStart + absl::Seconds(3));
  EXPECT_EQ(queue.TimeUntilLeft(1), kRetryAfterMax);
}

TEST(PromptQueueTest, TheLastOfAQueueWaitsAsLongAsItsTokensTakeToLeave) {
  PromptQueue queue;
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
  queue.Enter(1000, 0);
  queue.Look(now);
  EXPECT_EQ(queue.ExpectedWait(), absl::ZeroDuration());  // nobody has left yet
  for (int32_t i = 0; i < 60; ++i) {
    queue.Enter(100, 0);
    queue.Leave(100);
    now += absl::Seconds(1);
    queue.Look(now);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(queue.ExpectedWait()), 10, 0.5);
  queue.Leave(1000);
  queue.Look(now);
  EXPECT_EQ(queue.ExpectedWait(), absl::ZeroDuration());
}

TEST(QueueDeparturesTest, AnEmptyQueueSaysNothingOfHowFastAFullOneMoves) {
  absl::Time now;
  QueueDepartures queue = SteadyQueue(absl::Seconds(2), 50, &now);
  queue.Look(0, now);
  const absl::Duration before = queue.TimeUntilLeft(5);
  now += absl::Hours(5);
  queue.Look(0, now);
  queue.Enter(3);
  queue.Look(3, now);
  EXPECT_EQ(queue.TimeUntilLeft(5), before);
}

TEST(QueueDeparturesTest, ALaterRateTakesTheEarliersPlace) {
  absl::Time now;
  QueueDepartures queue = SteadyQueue(absl::Milliseconds(100), 200, &now);
  EXPECT_NEAR(absl::ToDoubleSeconds(queue.TimeUntilLeft(100)), 10, 1);
  int32_t waiting = 10;
  queue.Enter(100);
  waiting += 100;
  queue.Look(waiting, now);
  for (int i = 0; i < 20; ++i) {
    now += absl::Seconds(5);
    queue.Look(--waiting, now);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(queue.TimeUntilLeft(2)), 10, 3);
}

TEST(QueueDeparturesTest, LookingOftenSaysTheSameAsLookingSeldom) {
  absl::Time now = kStart;
  QueueDepartures often, seldom;
  for (QueueDepartures* queue : {&often, &seldom}) {
    queue->Enter(1000);
    queue->Look(1000, now);
  }
  int32_t waiting = 1000;
  for (int i = 1; i <= 300; ++i) {
    now += absl::Milliseconds(100);
    if (i % 10 == 0) --waiting;  // one a second
    often.Look(waiting, now);
    if (i % 10 == 0) seldom.Look(waiting, now);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(often.TimeUntilLeft(20)),
              absl::ToDoubleSeconds(seldom.TimeUntilLeft(20)), 0.1);
}

// The seed replays a failure.
TEST(QueueDeparturesTest, WhateverTheClockDoesTheAnswerKeepsItsBounds) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    QueueDepartures queue;
    absl::Time now = kStart;
    int32_t waiting = 0;
    for (int i = 0; i < 500; ++i) {
      now += absl::Milliseconds(static_cast<int64_t>(rng() % 5000) - 1000);
      if (rng() % 2 == 0) {
        queue.Look(waiting, now);
        queue.Enter(3);
        waiting += 3;
      } else {
        waiting -= static_cast<int32_t>(rng() % static_cast<uint32_t>(waiting + 1));
      }
      queue.Look(waiting, now);
      const absl::Duration told = queue.TimeUntilLeft(static_cast<int32_t>(rng() % 100));
      ASSERT_GE(told, kRetryAfterMin);
      ASSERT_LE(told, kRetryAfterMax);
    }
  }
}

}  // namespace
}  // namespace holdfast
