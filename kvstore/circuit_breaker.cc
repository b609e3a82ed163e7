#include "kvstore/circuit_breaker.h"

#include <algorithm>

#include "config/base/check.h"

namespace holdfast {

CircuitBreaker::CircuitBreaker(int32_t failures_max, absl::Duration rest, const Clock& clock)
    : failures_max_(failures_max), rest_(rest), clock_(clock) {
  CHECK(failures_max > 0);
}

bool CircuitBreaker::TryEnter() {
  MutexLock lock(&mutex_);
  if (state_ == State::kClosed) return true;
  if (state_ == State::kHalfOpen) return false;  // one probe at a time
  const absl::Time now = clock_.Now();
  opened_ = std::min(opened_, now);  // a clock that was set back must not prolong the rest
  if (now - opened_ < rest_) return false;
  state_ = State::kHalfOpen;
  return true;
}

void CircuitBreaker::Succeeded() {
  MutexLock lock(&mutex_);
  failures_ = 0;
  state_ = State::kClosed;
}

void CircuitBreaker::Failed() {
  MutexLock lock(&mutex_);
  failures_ = std::min(failures_ + 1, failures_max_);
  if (state_ != State::kClosed || failures_ == failures_max_) {
    state_ = State::kOpen;
    opened_ = clock_.Now();
  }
}

bool CircuitBreaker::MayEnter() const {
  MutexLock lock(&mutex_);
  if (state_ != State::kOpen) return state_ == State::kClosed;
  const absl::Time now = clock_.Now();
  return now < opened_ || now - opened_ >= rest_;  // before: the clock was set back
}

CircuitBreaker::State CircuitBreaker::state() const {
  MutexLock lock(&mutex_);
  return state_;
}

}  // namespace holdfast
