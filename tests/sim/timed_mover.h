// A mover in simulated time: moves take as long as their tier, some many times longer, and end in
// the order in which they are through. Bytes are read and written at any moment between, as by
// threads: half of an offloaded block is read when its move begins and half when it ends, and a
// restore may fill its block long before it is said to be done. So a block that is written or lent
// while it moves becomes one that holds nonsense.
//
// Thread: one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "kvstore/move.h"
#include "kvstore/tier.h"
#include "tests/sim/fake_engine.h"
#include "tests/sim/one_transfer.h"

namespace holdfast {

struct MoverTimes {
  absl::Duration host = absl::Milliseconds(1);
  absl::Duration disk = absl::Milliseconds(4);
  uint32_t slow_one_in = 0;  // 0: none
  absl::Duration slow = absl::Milliseconds(200);
};

class TimedMover final {
 public:
  TimedMover(FakeEngine& engine, Tier* host, Tier* disk, const MoverTimes& times, uint32_t seed)
      : engine_(engine), host_(host), disk_(disk), times_(times), rng_(seed) {}

  void Take(std::vector<MoveJob>& jobs, absl::Time now) {
    for (MoveJob& job : jobs) Start(std::move(job), now);
    jobs.clear();
  }

  int32_t num_under_way() const { return static_cast<int32_t>(moves_.size()); }
  bool restores() const {
    return std::ranges::any_of(
        moves_, [](const auto& entry) { return entry.second.job.kind == MoveKind::kRestore; });
  }
  std::optional<absl::Time> next() const {
    return moves_.empty() ? std::nullopt : std::optional(moves_.begin()->first);
  }

  MoveDone FinishNext() {
    Under move = std::move(moves_.begin()->second);
    moves_.erase(moves_.begin());
    const MoveJob& job = move.job;
    switch (job.kind) {
      case MoveKind::kOffload:
        if (move.forgotten) {
          move.status = absl::CancelledError("the device lost what was to be copied");
          break;
        }
        CopyHalf(engine_.Bytes(job.block), move.bytes, 1);
        move.status = PutOne(TierOf(job.tier), job.slot, job, move.bytes);
        break;
      case MoveKind::kRestore:
        if (!move.fetched)
          move.status = FetchOne(TierOf(job.tier), job.slot, job, engine_.Bytes(job.block));
        if (move.status.ok() && move.forgotten) ++num_restored_for_nobody_;
        break;
      case MoveKind::kDemote:
        if (move.status.ok())
          move.status = PutOne(TierOf(job.lower_tier), job.lower_slot, job, move.bytes);
        break;
      case MoveKind::kSend:
        CHECK(false);  // there is no remote tier
    }
    return {.id = job.id, .status = std::move(move.status)};
  }

  // Everything on the device was forgotten: what moves there now moves for nobody.
  void ForgetDevice() {
    for (auto& [end, move] : moves_) move.forgotten = true;
  }
  uint64_t num_restored_for_nobody() const { return num_restored_for_nobody_; }

  // The process is killed: what was being written to disk may be there, in part or whole. Calls
  // torn(slot) for each that was begun.
  template <typename Torn>
  void Kill(Torn torn) {
    for (auto& [end, move] : moves_) {
      const MoveJob& job = move.job;
      const bool to_disk = job.kind == MoveKind::kDemote
                               ? move.status.ok()
                               : job.kind == MoveKind::kOffload && job.tier == TierKind::kDisk;
      if (!to_disk || rng_() % 2 == 0 || move.forgotten) continue;
      if (job.kind == MoveKind::kOffload) CopyHalf(engine_.Bytes(job.block), move.bytes, 1);
      const TierSlot slot = job.kind == MoveKind::kDemote ? job.lower_slot : job.slot;
      if (PutOne(TierOf(TierKind::kDisk), slot, job, move.bytes).ok() && rng_() % 2 == 0)
        torn(slot);
    }
    moves_.clear();
  }

 private:
  struct Under {
    MoveJob job;
    std::vector<std::byte> bytes;  // on their way down
    absl::Status status;
    bool fetched = false;
    bool forgotten = false;
  };

  void Start(MoveJob&& job, absl::Time now) {
    const bool disk = job.tier == TierKind::kDisk || job.kind == MoveKind::kDemote;
    absl::Duration time = disk ? times_.disk : times_.host;
    if (times_.slow_one_in != 0 && rng_() % times_.slow_one_in == 0) time += times_.slow;
    time *= 0.5 + static_cast<double>(rng_() % 1000) / 1000;
    Under move{.bytes = std::vector<std::byte>(engine_.Bytes(BlockId{0}).size())};
    switch (job.kind) {
      case MoveKind::kOffload:
        CopyHalf(engine_.Bytes(job.block), move.bytes, 0);
        break;
      case MoveKind::kRestore:
        std::ranges::fill(engine_.Bytes(job.block), std::byte{0xbd});  // nothing is there yet
        move.fetched = rng_() % 2 == 0;
        if (move.fetched)
          move.status = FetchOne(TierOf(job.tier), job.slot, job, engine_.Bytes(job.block));
        break;
      case MoveKind::kDemote:
        move.status = FetchOne(TierOf(job.tier), job.slot, job, move.bytes);
        break;
      case MoveKind::kSend:
        CHECK(false);  // there is no remote tier
    }
    move.job = std::move(job);
    moves_.emplace(now + time, std::move(move));
  }

  static void CopyHalf(std::span<const std::byte> from, std::vector<std::byte>& to, size_t half) {
    const size_t middle = to.size() / 2;
    std::ranges::copy(from.subspan(half * middle, middle),
                      to.begin() + static_cast<std::ptrdiff_t>(half * middle));
  }
  Tier& TierOf(TierKind kind) {
    Tier* tier = kind == TierKind::kHost ? host_ : disk_;
    CHECK(tier != nullptr);
    return *tier;
  }

  FakeEngine& engine_;
  Tier* const host_;
  Tier* const disk_;
  const MoverTimes times_;
  std::mt19937 rng_;
  std::multimap<absl::Time, Under> moves_;  // by their end
  uint64_t num_restored_for_nobody_ = 0;
};

}  // namespace holdfast
