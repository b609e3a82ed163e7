#include "kvstore/circuit_breaker.h"

#include <gtest/gtest.h>

namespace holdfast {
namespace {

class TestClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000);
};

using State = CircuitBreaker::State;

class CircuitBreakerTest : public testing::Test {
 protected:
  void Fail(int times) {
    for (int i = 0; i < times; ++i) {
      ASSERT_TRUE(breaker_.TryEnter());
      breaker_.Failed();
    }
  }
  TestClock clock_;
  CircuitBreaker breaker_{3, absl::Seconds(10), clock_};
};

TEST_F(CircuitBreakerTest, FailuresInARowOpenItAndASuccessBetweenDoesNot) {
  Fail(2);
  ASSERT_TRUE(breaker_.TryEnter());
  breaker_.Succeeded();
  Fail(2);
  EXPECT_EQ(breaker_.state(), State::kClosed);
  Fail(1);
  EXPECT_EQ(breaker_.state(), State::kOpen);
  EXPECT_FALSE(breaker_.TryEnter());
}

TEST_F(CircuitBreakerTest, AfterTheRestOneProbeGoesThroughAndItsSuccessCloses) {
  Fail(3);
  clock_.now += absl::Seconds(10) - absl::Nanoseconds(1);
  EXPECT_FALSE(breaker_.TryEnter());
  clock_.now += absl::Nanoseconds(1);
  ASSERT_TRUE(breaker_.TryEnter());
  EXPECT_EQ(breaker_.state(), State::kHalfOpen);
  EXPECT_FALSE(breaker_.TryEnter());
  breaker_.Succeeded();
  EXPECT_EQ(breaker_.state(), State::kClosed);
  EXPECT_TRUE(breaker_.TryEnter());
}

TEST_F(CircuitBreakerTest, AFailedProbeRestsAgain) {
  Fail(3);
  clock_.now += absl::Seconds(10);
  ASSERT_TRUE(breaker_.TryEnter());
  breaker_.Failed();
  EXPECT_FALSE(breaker_.TryEnter());
  clock_.now += absl::Seconds(10);
  EXPECT_TRUE(breaker_.TryEnter());
}

TEST_F(CircuitBreakerTest, AClockThatIsSetBackDoesNotProlongTheRest) {
  Fail(3);
  clock_.now -= absl::Hours(24);
  EXPECT_FALSE(breaker_.TryEnter());
  clock_.now += absl::Seconds(10);
  EXPECT_TRUE(breaker_.TryEnter());
}

}  // namespace
}  // namespace holdfast
