#include "server/stop_signals.h"

#include <signal.h>
#include <unistd.h>

#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

struct Taken {
  absl::Mutex mutex;
  std::vector<int> signals;

  void Add(int signal) {
    absl::MutexLock lock(&mutex);
    signals.push_back(signal);
  }
  void AwaitCount(size_t count) {
    absl::MutexLock lock(&mutex);
    const auto enough = [this, count] { return signals.size() >= count; };
    mutex.Await(absl::Condition(&enough));
  }
};

TEST(StopSignalsTest, TermAndIntReachTheCallbackAndPipeNobody) {
  BlockSignals();
  Taken taken;
  {
    StopSignals signals([&taken](int signal) { taken.Add(signal); });
    ASSERT_EQ(kill(getpid(), SIGPIPE), 0);
    ASSERT_EQ(kill(getpid(), SIGTERM), 0);
    taken.AwaitCount(1);
    ASSERT_EQ(kill(getpid(), SIGINT), 0);
    taken.AwaitCount(2);
    ASSERT_EQ(kill(getpid(), SIGHUP), 0);
    taken.AwaitCount(3);
  }
  EXPECT_EQ(taken.signals, (std::vector<int>{SIGTERM, SIGINT, SIGHUP}));
}

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
};

// As GNU timeout does: the child, then its process group.
TEST(StopWishesTest, SignalsSoonAfterTheFirstAreTheSameWish) {
  FakeClock clock;
  StopWishes wishes(clock);
  EXPECT_EQ(wishes.Next(), StopWish::kStop);
  EXPECT_EQ(wishes.Next(), StopWish::kSame);
  clock.now += kSameStopWish - absl::Nanoseconds(1);
  EXPECT_EQ(wishes.Next(), StopWish::kSame);
}

TEST(StopWishesTest, ALaterSignalEndsAtOnceHoweverManyCameBetween) {
  FakeClock clock;
  StopWishes wishes(clock);
  EXPECT_EQ(wishes.Next(), StopWish::kStop);
  clock.now += kSameStopWish / 2;
  EXPECT_EQ(wishes.Next(), StopWish::kSame);
  clock.now += kSameStopWish / 2;
  EXPECT_EQ(wishes.Next(), StopWish::kAtOnce);
}

TEST(StopWishesTest, AClockThatIsSetBackDoesNotMakeTheSecondWishUnheard) {
  FakeClock clock;
  StopWishes wishes(clock);
  EXPECT_EQ(wishes.Next(), StopWish::kStop);
  clock.now -= absl::Hours(1);
  EXPECT_EQ(wishes.Next(), StopWish::kAtOnce);
}

TEST(StopSignalsTest, ASignalBeforeTheThreadWaitsIsNotLost) {
  BlockSignals();
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  Taken taken;
  {
    StopSignals signals([&taken](int signal) { taken.Add(signal); });
    taken.AwaitCount(1);
  }
  EXPECT_EQ(taken.signals, std::vector<int>{SIGTERM});
}

}  // namespace
}  // namespace holdfast
