// Which tokens one sequence may draw next, where a grammar or the like says so. Found by a thread
// of its own while the step computes, since it may take as long as a small step:
//
//   engine's thread: Begin ──► mask thread: Prepare ──► engine: Wait, when it draws
//
// A draw that did not count (its step was dropped) is drawn again and finds the same mask.
//
// Where one text only is left, a run of tokens is forced: who draws the first may take those behind
// it without drawing them, and the next draw is the one behind the last that was taken.
//
// Thread: as above; failure() and ForcedAfter by any. Waiting sleeps. The words are allocated once.
#pragma once

#include <algorithm>
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
#include "config/base/mutex.h"
#include "config/ids.h"

namespace holdfast {

// What a sequence's answer is held to.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // A token was drawn, one that was allowed.
  virtual absl::Status Consume(TokenId token) = 0;
  // What may be drawn next: of `forced` the first alone, and behind it the others, one after the
  // other; or, where that is left empty, each token whose bit is set in `words` (32 a word, the
  // lowest first), one at least.
  virtual absl::Status Next(std::span<uint32_t> words, std::vector<TokenId>& forced) = 0;
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
  // The same as the last time or the next, or behind forced tokens that followed the last.
  void Prepare(int32_t draw, TokenId before) {
    if (!failure_.ok()) return;
    if (draw != draw_) failure_ = MoveTo(draw, before);
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

  // What follows completion token `draw` if that was forced: the rest of its run, `most` at most.
  // It says so whether or not a later draw is being made ready.
  void ForcedAfter(int32_t draw, size_t most, std::vector<TokenId>& tokens) const {
    tokens.clear();
    // Most draws are in no run: without the lock.
    if (draw >= run_end_.load(std::memory_order_acquire)) return;
    const MutexLock lock(&mutex_);
    if (!IsInRun(draw)) return;
    const auto rest = std::span(run_).subspan(static_cast<size_t>(draw + 1 - run_begin_));
    tokens.assign(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(std::min(most, rest.size())));
  }

 private:
  enum class State : uint8_t { kPending, kReady, kFailed };

  bool IsInRun(int32_t draw) const {
    return draw >= run_begin_ && static_cast<size_t>(draw - run_begin_) < run_.size();
  }
  TokenId ForcedAt(int32_t draw) const {
    CHECK(IsInRun(draw));
    return run_[static_cast<size_t>(draw - run_begin_)];
  }

  absl::Status MoveTo(int32_t draw, TokenId before) {
    CHECK(draw > draw_);
    for (int32_t drawn = std::max(draw_, 0); drawn < draw; ++drawn) {
      const TokenId token = drawn + 1 == draw ? before : ForcedAt(drawn);
      if (absl::Status status = constraint_->Consume(token); !status.ok()) return status;
    }
    draw_ = draw;
    if (IsInRun(draw)) {
      only_ = ForcedAt(draw);
      return absl::OkStatus();
    }
    if (absl::Status status = constraint_->Next(words_, next_run_); !status.ok()) return status;
    only_ = next_run_.empty() ? std::nullopt : std::optional(next_run_.front());
    const MutexLock lock(&mutex_);
    std::swap(run_, next_run_);
    run_begin_ = draw;
    run_end_.store(draw + static_cast<int32_t>(run_.size()), std::memory_order_release);
    return absl::OkStatus();
  }

  const std::unique_ptr<TokenConstraint> constraint_;
  std::vector<uint32_t> words_;
  std::optional<TokenId> only_;
  absl::Status failure_;
  int32_t draw_ = -1;  // that the above is of
  std::vector<TokenId> next_run_;
  mutable Mutex mutex_;
  // Written by the mask thread alone, and then with mutex_ held.
  std::vector<TokenId> run_;  // forced tokens, which begin with draw `run_begin_`
  int32_t run_begin_ = 0;
  std::atomic<int32_t> run_end_ = 0;  // of the draw behind its last
  std::atomic<State> state_ = State::kPending;
};

}  // namespace holdfast
