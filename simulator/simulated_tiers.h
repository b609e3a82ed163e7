// Lower tiers that hold counts instead of bytes, and a mover whose moves take as long as the cost
// profile says:
//
//   TierMover's lanes, one job of a lane at a time:   restores from host | restores from disk
//                                                     | offloads and demotions
//
// A move is over when the lane has come to it and its bytes have passed. Lanes do not slow each
// other or the engine; where they do on a machine, its profile should say slower rates.
//
// Thread: the instance's.    Bound: the tier's capacity; the moves that the store has under way.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "kvstore/move.h"
#include "kvstore/tier.h"
#include "simulator/cost_profile.h"

namespace holdfast {

class SimulatedTier final : public Tier {
 public:
  SimulatedTier(TierKind kind, int32_t capacity);

  TierKind kind() const override { return kind_; }
  int32_t capacity() const override { return capacity_; }
  std::optional<TierSlot> TryReserve() override;
  void Drop(TierSlot slot) override;
  int32_t num_free() const override { return static_cast<int32_t>(free_.size()); }
  // Nobody has bytes to give: the mover below moves none.
  void Put(std::span<TierTransfer> transfers) override;
  void Fetch(std::span<TierTransfer> transfers) override;

 private:
  const TierKind kind_;
  const int32_t capacity_;
  std::vector<TierSlot> free_;
};

class SimulatedMover final {
 public:
  SimulatedMover(const TierCost& host, const TierCost& disk, size_t block_bytes);

  void Take(std::span<const MoveJob> jobs, int64_t now_nanos);
  // When the next move is over; nullopt: nothing moves.
  std::optional<int64_t> next_nanos() const;
  MoveDone FinishNext();  // of moves that end together, the one taken first

  int64_t num_done(MoveKind kind) const { return done_[static_cast<size_t>(kind)]; }

 private:
  struct UnderWay {
    int64_t end_nanos = 0;
    uint64_t order = 0;
    MoveId id{};
    MoveKind kind = MoveKind::kOffload;
    bool operator>(const UnderWay& other) const {
      return end_nanos != other.end_nanos ? end_nanos > other.end_nanos : order > other.order;
    }
  };
  enum Lane : size_t { kHostRestore, kDiskRestore, kOffload, kNumLanes };
  double SecondsOf(const MoveJob& job) const;

  const TierCost host_, disk_;
  const double block_bytes_;
  std::array<int64_t, kNumLanes> lane_free_nanos_{};
  std::priority_queue<UnderWay, std::vector<UnderWay>, std::greater<>> under_way_;
  uint64_t num_taken_ = 0;
  std::array<int64_t, 3> done_{};
};

}  // namespace holdfast
