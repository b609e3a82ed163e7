// Lower tiers and a mover without threads, whose every fault betrays a store that trusts them too
// much: what is fetched is checked against what was put under that identity, a block that a restore
// fills holds rubbish until it is done, and what fails leaves rubbish behind. A seed decides what
// fails, and in which order moves end. Restores behind a gate can be carried on layer by layer.
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
#include "tests/sim/one_transfer.h"

namespace holdfast {

class SimTier final : public Tier {
 public:
  SimTier(TierKind kind, int32_t capacity, int32_t num_layers = 1)
      : kind_(kind), capacity_(capacity), num_layers_(num_layers) {
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
    for (int32_t layer = 0; layer < num_layers_; ++layer) FetchLayer(transfers, layer);
  }
  int32_t num_layers() const override { return num_layers_; }
  void FetchLayer(std::span<TierTransfer> transfers, int32_t layer) override {
    for (TierTransfer& transfer : transfers) {
      const Slot& slot = slots_.at(transfer.slot);
      CHECK(!slot.bytes.empty() && slot.digest == transfer.identity->digest);
      const size_t bytes = slot.bytes.size() / static_cast<size_t>(num_layers_);
      const size_t begin = static_cast<size_t>(layer) * bytes;
      std::copy_n(slot.bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes,
                  transfer.bytes.subspan(begin).begin());
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
  const int32_t num_layers_;
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

  bool has_gated() const { return std::any_of(jobs_.begin(), jobs_.end(), IsGated); }
  // Brings the next layer of all that comes back behind the oldest gate, but for the last: that
  // comes with the ends of its moves. False: there is none to bring.
  bool BringLayer() {
    const auto oldest = std::find_if(jobs_.begin(), jobs_.end(), IsGated);
    if (oldest == jobs_.end() || oldest->gate->failed()) return false;
    LayerGate& gate = *oldest->gate;
    const int32_t layer = gate.num_open();
    if (layer + 1 == gate.num_layers()) return false;
    for (const MoveJob& job : jobs_) {
      if (job.gate != &gate) continue;
      TierTransfer transfer{
          .slot = job.slot, .identity = &job.identity, .bytes = engine_.Bytes(job.block)};
      TierOf(job.tier).FetchLayer({&transfer, 1}, layer);
    }
    gate.Open(layer + 1);
    return true;
  }
  // Ends any one of the moves behind gates.
  MoveDone FinishGated() {
    std::vector<size_t> gated;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      if (IsGated(jobs_[i])) gated.push_back(i);
    }
    return Finish(gated[rng_() % gated.size()]);
  }
  // Ends any one of the moves under way.
  MoveDone FinishOne() { return Finish(rng_() % jobs_.size()); }

 private:
  static bool IsGated(const MoveJob& job) { return job.gate != nullptr; }

  MoveDone Finish(size_t index) {
    const MoveJob job = jobs_[index];
    jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(index));
    MoveDone done{.id = job.id, .status = Fault()};
    std::vector<std::byte> staging(engine_.Bytes(BlockId{0}).size());
    switch (job.kind) {
      case MoveKind::kOffload:
        if (done.status.ok())
          done.status = PutOne(TierOf(job.tier), job.slot, job, engine_.Bytes(job.block));
        break;
      case MoveKind::kRestore:
        if (done.status.ok()) {
          done.status = FetchOne(TierOf(job.tier), job.slot, job, engine_.Bytes(job.block));
        }
        break;
      case MoveKind::kDemote:
        if (done.status.ok()) done.status = FetchOne(TierOf(job.tier), job.slot, job, staging);
        if (done.status.ok())
          done.status = PutOne(TierOf(job.lower_tier), job.lower_slot, job, staging);
        break;
      case MoveKind::kSend:
        CHECK(false);  // it has no remote tier
    }
    if (done.status.ok()) ++done_[static_cast<size_t>(job.kind)];
    if (job.gate != nullptr && !job.gate->ended()) EndGate(job, done.status);
    return done;
  }

  // Open when the last of its moves has ended well; the caller tells of it before anything else.
  void EndGate(const MoveJob& job, const absl::Status& status) {
    const bool is_last = std::none_of(jobs_.begin(), jobs_.end(),
                                      [&](const MoveJob& other) { return other.gate == job.gate; });
    if (!status.ok()) {
      Spoil(engine_.Bytes(job.block));
      job.gate->Fail();
    } else if (is_last) {
      job.gate->Open(job.gate->num_layers());
    }
  }

  SimTier& TierOf(TierKind kind) { return kind == TierKind::kHost ? *host_ : *disk_; }
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
  std::array<uint64_t, kNumMoveKinds> done_{};
};

}  // namespace holdfast
