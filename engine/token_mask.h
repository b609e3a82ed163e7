// Which tokens one sequence may draw next, where a grammar or the like says so. Found by a thread
// of its own while the step computes, since it may take as long as a small step:
//
//   engine's thread: Begin ──► mask thread: Prepare ──► engine: Wait, when it draws
//
// A draw that did not count (its step was dropped) is drawn again and finds the same mask.
//
// Thread: as above; failure() by any. Waiting sleeps. The words are allocated once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "config/base/check.h"
#include "config/ids.h"

namespace holdfast {

// What a sequence's answer is held to.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // A token was drawn, one that was allowed.
  virtual absl::Status Consume(TokenId token) = 0;
  // What may be drawn next: `only` that token, or each whose bit is set in `words` (32 a word, the
  // lowest first), one at least.
  virtual absl::Status Next(std::span<uint32_t> words, std::optional<TokenId>& only) = 0;
};

class TokenMask final {
 public:
  TokenMask(std::unique_ptr<TokenConstraint> constraint, int32_t vocab_size)
      : constraint_(std::move(constraint)), words_(static_cast<size_t>(vocab_size + 31) / 32) {}
  TokenMask(const TokenMask&) = delete;

  // From now on Wait waits for a Prepare, unless one has failed.
  void Begin() {
    State ready = State::kReady;
    state_.compare_exchange_strong(ready, State::kPending, std::memory_order_relaxed);
  }

  // Finds what may be drawn as completion token `draw` (from 0) after `before`, the one before it.
  // The same as the last time or the next.
  void Prepare(int32_t draw, TokenId before) {
    if (!failure_.ok()) return;
    if (draw != draw_) {
      CHECK(draw == draw_ + 1);
      draw_ = draw;
      if (draw > 0) failure_ = constraint_->Consume(before);
      if (failure_.ok()) failure_ = constraint_->Next(words_, only_);
    }
    state_.store(failure_.ok() ? State::kReady : State::kFailed, std::memory_order_release);
    state_.notify_all();
  }

  // False: it failed, and nothing can be drawn.
  [[nodiscard]] bool Wait() const {
    State state = state_.load(std::memory_order_acquire);
    while (state == State::kPending) {
      state_.wait(state, std::memory_order_acquire);
      state = state_.load(std::memory_order_acquire);
    }
    return state == State::kReady;
  }

  // After Wait.
  std::optional<TokenId> only() const { return only_; }
  std::span<const uint32_t> words() const { return words_; }

  // Why nothing can be drawn any more; kOk: it can.
  absl::Status failure() const {
    const bool failed = state_.load(std::memory_order_acquire) == State::kFailed;
    return failed ? failure_ : absl::OkStatus();
  }

 private:
  enum class State : uint8_t { kPending, kReady, kFailed };

  const std::unique_ptr<TokenConstraint> constraint_;
  std::vector<uint32_t> words_;
  std::optional<TokenId> only_;
  absl::Status failure_;
  int32_t draw_ = -1;  // that the above is of
  std::atomic<State> state_ = State::kPending;
};

}  // namespace holdfast
