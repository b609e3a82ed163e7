// A real tier over a medium that goes wrong as a seed wants it: puts and fetches fail, writes tear
// or land on another's place although the put was told that all is well, bits flip while they lie,
// and no room is had though there is some. Whether the tier below finds each damage out, and
// accuses nothing that is whole, is checked here; the caller sees what a store would.
//
// Thread: one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <set>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "kvstore/tier.h"

namespace holdfast {

struct TierFaults {  // one in so many calls; 0: never
  uint32_t put_fails = 0;
  uint32_t put_tears = 0;        // and says ok
  uint32_t put_goes_astray = 0;  // ends up on the place of another block, and says ok
  uint32_t fetch_fails = 0;
  uint32_t bit_flips = 0;  // before a fetch
  uint32_t refuses = 0;    // to reserve
};

class FaultyTier final : public Tier {
 public:
  // The medium's own bytes of a slot, to be damaged.
  using RawBytes = std::function<std::span<std::byte>(TierSlot)>;

  // `inner` outlives it.
  FaultyTier(Tier& inner, const TierFaults& faults, uint32_t seed, RawBytes raw)
      : inner_(inner), faults_(faults), raw_(std::move(raw)), rng_(seed) {}
  // Where slots have no bytes of their own: each damage is a call of `scratch`, and which blocks it
  // hits is not known.
  FaultyTier(Tier& inner, const TierFaults& faults, uint32_t seed, std::function<void()> scratch)
      : inner_(inner), faults_(faults), scratch_(std::move(scratch)), rng_(seed) {}

  TierKind kind() const override { return inner_.kind(); }
  int32_t capacity() const override { return inner_.capacity(); }
  int32_t num_free() const override { return inner_.num_free(); }
  std::optional<TierSlot> TryReserve() override {
    if (Happens(faults_.refuses)) return std::nullopt;
    return inner_.TryReserve();
  }
  void Drop(TierSlot slot) override {
    stored_.erase(slot);
    inner_.Drop(slot);
  }

  void Put(std::span<TierTransfer> transfers) override {
    for (TierTransfer& transfer : transfers) {
      stored_.erase(transfer.slot);
      if (Happens(faults_.put_fails)) {  // what lay there lies there still, as it was
        transfer.status = Failure();
        continue;
      }
      inner_.Put({&transfer, 1});
      if (!transfer.status.ok()) continue;
      damaged_.erase(transfer.slot);
      astray_.erase(transfer.slot);
      if (Happens(faults_.put_tears)) {
        Tear(transfer.slot);
      } else if (Happens(faults_.put_goes_astray)) {
        GoAstray(transfer.slot);
      }
      stored_.insert(transfer.slot);
    }
  }

  void Fetch(std::span<TierTransfer> transfers) override {
    for (TierTransfer& transfer : transfers) {
      if (Happens(faults_.fetch_fails)) {
        transfer.status = Failure();
      } else {
        if (Happens(faults_.bit_flips)) FlipBit(transfer.slot);
        inner_.Fetch({&transfer, 1});
        const bool damaged = damaged_.contains(transfer.slot);
        EXPECT_FALSE(damaged && transfer.status.ok()) << "damaged bytes were given out as good";
        EXPECT_FALSE(!damaged && !scratch_ && absl::IsDataLoss(transfer.status))
            << "a place was asked for a block that it does not hold";
        if (absl::IsDataLoss(transfer.status)) ++num_found_out_;
      }
      // Whoever uses them nevertheless says nonsense.
      if (!transfer.status.ok()) Spoil(transfer.bytes);
    }
  }

  // The write was cut off, and nobody was told.
  void Tear(TierSlot slot) {
    if (!Damage(slot)) return;
    const std::span<std::byte> raw = raw_(slot);
    Spoil(raw.subspan(raw.size() / 2));
  }

  // The medium is read anew: what a place holds is what its own record says.
  void OnReopen() {
    for (TierSlot slot : astray_) damaged_.erase(slot);
    astray_.clear();
    stored_.clear();
  }

  bool IsDamaged(TierSlot slot) const { return damaged_.contains(slot); }
  // Since the last call.
  uint64_t TakeNumDamaged() { return std::exchange(num_damaged_, 0); }
  uint64_t TakeNumFoundOut() { return std::exchange(num_found_out_, 0); }

 private:
  bool Happens(uint32_t one_in) { return one_in != 0 && rng_() % one_in == 0; }
  static void Spoil(std::span<std::byte> bytes) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0xbd});
  }
  bool Damage(TierSlot slot) {  // once only: a second flip might mend it
    if (scratch_) {
      ++num_damaged_;
      scratch_();
      return false;
    }
    if (!damaged_.insert(slot).second) return false;
    ++num_damaged_;
    return true;
  }
  void FlipBit(TierSlot slot) {
    if (!Damage(slot)) return;
    const std::span<std::byte> raw = raw_(slot);
    raw[rng_() % raw.size()] ^= std::byte{1} << (rng_() % 8);
  }
  void GoAstray(TierSlot slot) {
    if (stored_.empty()) return;
    auto other = stored_.begin();
    std::advance(other, static_cast<std::ptrdiff_t>(rng_() % stored_.size()));
    if (*other == slot || !Damage(*other)) return;
    astray_.insert(*other);
    std::ranges::copy(raw_(slot), raw_(*other).begin());
  }
  absl::Status Failure() {
    switch (rng_() % 3) {
      case 0:
        return absl::ResourceExhaustedError("as the seed wants it");
      case 1:
        return absl::CancelledError("as the seed wants it");
      default:
        return absl::UnavailableError("as the seed wants it");
    }
  }

  Tier& inner_;
  const TierFaults faults_;
  const RawBytes raw_;
  const std::function<void()> scratch_;
  std::mt19937 rng_;
  std::set<TierSlot> stored_;   // put, and not dropped
  std::set<TierSlot> damaged_;  // since the last put
  std::set<TierSlot> astray_;   // of these, those that hold another's whole block
  uint64_t num_damaged_ = 0, num_found_out_ = 0;
};

}  // namespace holdfast
