// A lower tier: places for whole KV blocks outside the device. The seam between the store, which
// decides what lies where, and the media.
//
//   store (scheduler's thread):   TryReserve ──► ... ──► Drop          counts only, no I/O
//   mover's threads:                      Put ──► Fetch, Fetch ...     bytes; may be slow, may fail
//
// A slot has one owner at a time: reserved by the store, filled by one Put, then read by Fetches,
// then dropped; the store never drops a slot that a move still uses. Content never changes once
// put: a Put that failed is followed by Drop.
//
// Two real sides: host memory (host_tier.h) and disk (disk_tier.h). The remote tier has no slots of
// ours and its own seam (remote_tier.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "config/base/check.h"
#include "config/ids.h"
#include "kvstore/block_identity.h"

namespace holdfast {

enum class TierKind : uint8_t { kDevice, kHost, kDisk, kRemote };

// One block's share of a Put or Fetch.
struct TierTransfer {
  TierSlot slot{};
  const BlockIdentity* identity = nullptr;  // what is put; what a fetch must prove
  std::span<std::byte> bytes;               // KvLayout::block_bytes(); a put only reads them
  // Filled by the call. Fetch: kDataLoss: the bytes are not proven to be this block's (checksum,
  // identity, length): never used, counted, recomputed. kUnavailable: the medium fails or is too
  // slow. Put: kResourceExhausted: the medium is full for all that the tier believed.
  absl::Status status;
};

class Tier {
 public:
  virtual ~Tier() = default;

  virtual TierKind kind() const = 0;
  virtual int32_t capacity() const = 0;  // blocks, fixed

  // Thread: the scheduler's.
  virtual std::optional<TierSlot> TryReserve() = 0;  // nullopt: all slots are taken
  virtual void Drop(TierSlot slot) = 0;              // reserved; free from now on
  virtual int32_t num_free() const = 0;

  // Thread: any of the mover's, several at once on different slots. Transfers of one call are
  // independent: each has its own status. On a failed Fetch the bytes are undefined.
  virtual void Put(std::span<TierTransfer> transfers) = 0;
  virtual void Fetch(std::span<TierTransfer> transfers) = 0;

  // In how many equal layers, one after the other, a block can be fetched, each proven by itself.
  virtual int32_t num_layers() const { return 1; }
  // Fetches one layer of each block into its place in `bytes`, which are the whole block's. Layers
  // come in ascending order from 0; a transfer is ok when all of its layers were. One that has
  // failed in an earlier layer is left out.
  virtual void FetchLayer(std::span<TierTransfer> transfers, int32_t layer) {
    CHECK(layer == 0);  // there is but one
    Fetch(transfers);
  }
};

}  // namespace holdfast
