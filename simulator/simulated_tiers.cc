#include "simulator/simulated_tiers.h"

#include <algorithm>
#include <cmath>

#include "config/base/check.h"

namespace holdfast {

SimulatedTier::SimulatedTier(TierKind kind, int32_t capacity) : kind_(kind), capacity_(capacity) {
  CHECK(capacity > 0);
  for (int32_t slot = capacity; slot-- > 0;) free_.push_back(TierSlot{slot});
}

std::optional<TierSlot> SimulatedTier::TryReserve() {
  if (free_.empty()) return std::nullopt;
  const TierSlot slot = free_.back();
  free_.pop_back();
  return slot;
}

void SimulatedTier::Drop(TierSlot slot) {
  CHECK(num_free() < capacity_);
  free_.push_back(slot);
}

void SimulatedTier::Put(std::span<TierTransfer>) { CHECK(false); }
void SimulatedTier::Fetch(std::span<TierTransfer>) { CHECK(false); }

SimulatedMover::SimulatedMover(const TierCost& host, const TierCost& disk, size_t block_bytes)
    : host_(host), disk_(disk), block_bytes_(static_cast<double>(block_bytes)) {}

double SimulatedMover::SecondsOf(const MoveJob& job) const {
  const auto one_way = [&](const TierCost& cost, double bytes_per_second) {
    return cost.block_seconds + (bytes_per_second > 0 ? block_bytes_ / bytes_per_second : 0.0);
  };
  const TierCost& tier = job.tier == TierKind::kHost ? host_ : disk_;
  switch (job.kind) {
    case MoveKind::kOffload:
      return one_way(tier, tier.store_bytes_per_second);
    case MoveKind::kRestore:
      return one_way(tier, tier.restore_bytes_per_second);
    case MoveKind::kDemote:
      return one_way(tier, tier.restore_bytes_per_second) +
             one_way(disk_, disk_.store_bytes_per_second);
    case MoveKind::kSend:
      break;  // there is no remote tier here, so the store sends nothing
  }
  return 0;
}

void SimulatedMover::Take(std::span<const MoveJob> jobs, int64_t now_nanos) {
  for (const MoveJob& job : jobs) {
    const Lane lane = job.kind != MoveKind::kRestore ? kOffload
                      : job.tier == TierKind::kHost  ? kHostRestore
                                                     : kDiskRestore;
    int64_t& free_nanos = lane_free_nanos_[lane];
    free_nanos = std::max(free_nanos, now_nanos) + std::llround(1e9 * SecondsOf(job));
    under_way_.push(
        {.end_nanos = free_nanos, .order = num_taken_++, .id = job.id, .kind = job.kind});
  }
}

std::optional<int64_t> SimulatedMover::next_nanos() const {
  if (under_way_.empty()) return std::nullopt;
  return under_way_.top().end_nanos;
}

MoveDone SimulatedMover::FinishNext() {
  CHECK(!under_way_.empty());
  const UnderWay move = under_way_.top();
  under_way_.pop();
  ++done_[static_cast<size_t>(move.kind)];
  return {.id = move.id, .status = absl::OkStatus()};
}

}  // namespace holdfast
