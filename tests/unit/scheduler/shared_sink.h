// Records from the scheduler's thread, read by the test's.
#pragma once

#include <utility>

#include "config/base/mutex.h"
#include "tests/sim/recording_sink.h"

namespace holdfast {

class SharedSink final : public TokenSink {
 public:
  void OnPrompt(PromptEvent event) override {
    MutexLock lock(&mutex_);
    recorded_.OnPrompt(std::move(event));
  }
  void OnToken(TokenEvent event) override {
    MutexLock lock(&mutex_);
    recorded_.OnToken(std::move(event));
  }
  void OnDone(RequestDone event) override {
    MutexLock lock(&mutex_);
    recorded_.OnDone(std::move(event));
    ++num_done_;
    news_.NotifyAll();
  }
  void WaitDone(int count) {
    MutexLock lock(&mutex_);
    while (num_done_ < count) news_.Wait(&mutex_);
  }
  // Until it is done.
  RecordedRequest Wait(RequestId id) {
    MutexLock lock(&mutex_);
    while (!recorded_.done(id)) news_.Wait(&mutex_);
    return recorded_[id];
  }
  RecordedRequest Get(RequestId id) {
    MutexLock lock(&mutex_);
    return recorded_[id];
  }
  int num_done() {
    MutexLock lock(&mutex_);
    return num_done_;
  }

 private:
  Mutex mutex_;
  CondVar news_;
  RecordingSink recorded_;
  int num_done_ = 0;
};

}  // namespace holdfast
