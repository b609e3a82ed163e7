// How far the blocks of one restored prefix have come back, so that computing on top of them begins
// before all of them are there: the mover opens layer after layer, and the engine waits before each
// layer's attention until it is open.
//
//   store: Arm ──► mover: Open(1), Open(2), ... Open(num_layers)      every byte proven and in
//   place
//                              └──────────────► Fail                  some block is not coming
//   engine: Wait(1), Wait(2), ...
//
// A gate ends once, fully open or failed, whatever happens: so nobody waits for ever. It opens for
// the last layer only after the answers to all of its jobs have been given (move.h), so that who
// has computed behind a gate hears of them before the step's result. Then it may be armed again.
//
// Thread: Arm by the store, before the jobs that carry it are handed out; Open and Fail by the one
// thread that does them; the rest by any. Waiting sleeps. What was written before Open is seen
// after Wait. Allocates nothing; the store owns the gates, which outlive mover and steps.
#pragma once

#include <atomic>
#include <cstdint>

#include "config/base/check.h"

namespace holdfast {

class LayerGate final {
 public:
  // `number` tells the gates of one store apart.
  LayerGate(int32_t number, int32_t num_layers) : number_(number), num_layers_(num_layers) {
    CHECK(num_layers > 0);
  }
  LayerGate(const LayerGate&) = delete;

  int32_t number() const { return number_; }
  int32_t num_layers() const { return num_layers_; }
  int32_t num_half() const { return (num_layers_ + 1) / 2; }
  int32_t num_blocks() const { return num_blocks_; }  // that come back behind it

  void Arm(int32_t num_blocks) {
    CHECK(num_blocks > 0 && ended());
    num_blocks_ = num_blocks;
    state_.store(0, std::memory_order_relaxed);
  }

  // The first `num_layers` of all blocks are in place; more than before. Not after Fail.
  void Open(int32_t num_layers) { Set(num_layers); }
  void Fail() { Set(kFailed); }

  // 0 once failed.
  int32_t num_open() const {
    const int32_t state = state_.load(std::memory_order_acquire);
    return state == kFailed ? 0 : state;
  }
  bool failed() const { return state_.load(std::memory_order_acquire) == kFailed; }
  bool ended() const {
    const int32_t state = state_.load(std::memory_order_acquire);
    return state == kFailed || state == num_layers_;
  }

  // Until the first `num_layers` are open. False: it failed.
  [[nodiscard]] bool Wait(int32_t num_layers) const {
    int32_t state = state_.load(std::memory_order_acquire);
    while (state != kFailed && state < num_layers) {
      state_.wait(state, std::memory_order_acquire);
      state = state_.load(std::memory_order_acquire);
    }
    return state != kFailed;
  }

 private:
  static constexpr int32_t kFailed = -1;

  void Set(int32_t state) {
    state_.store(state, std::memory_order_release);
    state_.notify_all();
  }

  const int32_t number_;
  const int32_t num_layers_;
  int32_t num_blocks_ = 0;
  std::atomic<int32_t> state_ = kFailed;  // layers that are open
};

}  // namespace holdfast
