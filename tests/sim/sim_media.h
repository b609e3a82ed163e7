// Lower tiers and a mover without threads, whose every fault betrays a store that trusts them too
// much: what is fetched is checked against what was put under that identity, a block that a restore
// fills holds rubbish until it is done, and what fails leaves rubbish behind. A seed decides what
// fails, and in which order moves end.
//
// Thread: one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "config/base/check.h"
#include "kvstore/move.h"
#include "kvstore/tier.h"
#include "tests/sim/fake_engine.h"

namespace holdfast {

class SimTier final : public Tier {
 public:
  SimTier(TierKind kind, int32_t capacity) : kind_(kind), capacity_(capacity) {
    for (int32_t slot = capacity; slot-- > 0;) free_.push_back(TierSlot{slot});
  }

  TierKind kind() const override { return kind_; }
  int32_t capacity() const override { return capacity_; }
  std::optional<TierSlot> TryReserve() override {
    if (free_.empty()) return std::nullopt;
    const TierSlot slot = free_.back();
    free_.pop_back();
    CHECK(slots_.try_emplace(slot).second);
    return slot;
  }
  void Drop(TierSlot slot) override {
    CHECK(slots_.erase(slot) == 1);
    free_.push_back(slot);
  }
  int32_t num_free() const override { return static_cast<int32_t>(free_.size()); }

  void Put(std::span<TierTransfer> transfers) override {
    for (TierTransfer& transfer : transfers) {
      Slot& slot = slots_.at(transfer.slot);
      CHECK(slot.bytes.empty());
      slot.bytes.assign(transfer.bytes.begin(), transfer.bytes.end());
      slot.digest = transfer.identity->digest;
      transfer.status = absl::OkStatus();
    }
  }
  void Fetch(std::span<TierTransfer> transfers) override {
    for (TierTransfer& transfer : transfers) {
      const Slot& slot = slots_.at(transfer.slot);
      CHECK(!slot.bytes.empty() && slot.digest == transfer.identity->digest);
      std::copy(slot.bytes.begin(), slot.bytes.end(), transfer.bytes.begin());
      transfer.status = absl::OkStatus();
    }
  }

 private:
  struct Slot {
    std::vector<std::byte> bytes;
    BlockDigest digest{};
  };
  const TierKind kind_;
  const int32_t capacity_;
  std::vector<TierSlot> free_;
  std::map<TierSlot, Slot> slots_;  // reserved
};

class SimMover final {
 public:
  // One in `fail_one_in` moves fails; 0: none.
  SimMover(FakeEngine& engine, SimTier* host, SimTier* disk, uint32_t seed, uint32_t fail_one_in)
      : engine_(engine), host_(host), disk_(disk), rng_(seed), fail_one_in_(fail_one_in) {}

  void Take(std::vector<MoveJob>& jobs) {
    for (const MoveJob& job : jobs) {
      if (job.kind == MoveKind::kRestore) Spoil(engine_.Bytes(job.block));
      jobs_.push_back(job);
    }
    jobs.clear();
  }
  bool idle() const { return jobs_.empty(); }
  uint64_t num_done(MoveKind kind) const { return done_[static_cast<size_t>(kind)]; }

  // Ends any one of the moves under way.
  MoveDone FinishOne() {
    std::swap(jobs_[rng_() % jobs_.size()], jobs_.back());
    const MoveJob job = jobs_.back();
    jobs_.pop_back();
    MoveDone done{.id = job.id, .status = Fault()};
    std::vector<std::byte> staging(engine_.Bytes(BlockId{0}).size());
    switch (job.kind) {
      case MoveKind::kOffload:
        if (done.status.ok()) done.status = Put(job.tier, job.slot, job, engine_.Bytes(job.block));
        break;
      case MoveKind::kRestore:
        if (done.status.ok()) {
          done.status = Fetch(job.tier, job.slot, job, engine_.Bytes(job.block));
        }
        break;
      case MoveKind::kDemote:
        if (done.status.ok()) done.status = Fetch(job.tier, job.slot, job, staging);
        if (done.status.ok()) done.status = Put(job.lower_tier, job.lower_slot, job, staging);
        break;
    }
    if (done.status.ok()) ++done_[static_cast<size_t>(job.kind)];
    return done;
  }

 private:
  SimTier& TierOf(TierKind kind) { return kind == TierKind::kHost ? *host_ : *disk_; }
  absl::Status Put(TierKind tier, TierSlot slot, const MoveJob& job, std::span<std::byte> bytes) {
    TierTransfer transfer{.slot = slot, .identity = &job.identity, .bytes = bytes};
    TierOf(tier).Put({&transfer, 1});
    return transfer.status;
  }
  absl::Status Fetch(TierKind tier, TierSlot slot, const MoveJob& job, std::span<std::byte> bytes) {
    TierTransfer transfer{.slot = slot, .identity = &job.identity, .bytes = bytes};
    TierOf(tier).Fetch({&transfer, 1});
    return transfer.status;
  }
  static void Spoil(std::span<std::byte> bytes) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0xbd});
  }
  absl::Status Fault() {
    if (fail_one_in_ == 0 || rng_() % fail_one_in_ != 0) return absl::OkStatus();
    switch (rng_() % 4) {
      case 0:
        return absl::DataLossError("as the seed wants it");
      case 1:
        return absl::ResourceExhaustedError("as the seed wants it");
      case 2:
        return absl::CancelledError("as the seed wants it");
      default:
        return absl::UnavailableError("as the seed wants it");
    }
  }

  FakeEngine& engine_;
  SimTier* const host_;
  SimTier* const disk_;
  std::mt19937 rng_;
  const uint32_t fail_one_in_;
  std::vector<MoveJob> jobs_;
  std::array<uint64_t, 3> done_{};
};

}  // namespace holdfast
