// The tier in this machine's memory: one mapping, cut into slots of one block each. What proves a
// slot's content (digest and checksum) lies beside the mapping, not in it, so that a stray write
// does not take both.
//
//   mapping   [ slot 0 | slot 1 | ... ]       page-aligned slots: the disk tier's direct I/O reads
//   proofs    [ digest, checksums | ... ]     and writes them in place
//
// A block has a checksum for each layer, so that a restore can hand layers on as they come. Each
// stands for the bytes of its own place in its own slot: a block whose layers are all proven is
// proven as well as by one checksum over all of it. 8 bytes a layer: 0.07 % of the default model's.
//
// Thread: as tier.h says; no lock. A slot's bytes and proof are handed from thread to thread by the
// messages that carry its moves.
// Bound: the capacity. Pages are taken when first written, and kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/page_buffer.h"
#include "kvstore/tier.h"

namespace holdfast {

class HostTier final : public Tier {
 public:
  // As many blocks of `block_bytes`, in `num_layers` equal parts, as fit into `bytes_max`.
  // kInvalidArgument: not one does. kResourceExhausted: the system has no such room.
  static absl::StatusOr<std::unique_ptr<HostTier>> Create(int64_t bytes_max, size_t block_bytes,
                                                          int32_t num_layers = 1);

  TierKind kind() const override { return TierKind::kHost; }
  int32_t capacity() const override { return static_cast<int32_t>(proofs_.size()); }
  std::optional<TierSlot> TryReserve() override;
  void Drop(TierSlot slot) override;
  int32_t num_free() const override { return static_cast<int32_t>(free_.size()); }

  // Copies, hashing on the way: at least 70 % of the bandwidth of memcpy (bench_tiers).
  void Put(std::span<TierTransfer> transfers) override;
  void Fetch(std::span<TierTransfer> transfers) override;
  int32_t num_layers() const override { return num_layers_; }
  void FetchLayer(std::span<TierTransfer> transfers, int32_t layer) override;

  // A slot's bytes where they lie, for attention that reads them in place. Not checked against the
  // checksum. Writing to them is for tests of faults.
  std::span<std::byte> View(TierSlot slot);

 private:
  // The digest stands for scope, tokens and all blocks before (block_identity.h), so the rest of
  // the identity need not be kept.
  struct Proof {
    BlockDigest digest{};
    bool reserved = false;  // scheduler's thread
    bool stored = false;
  };

  HostTier(PageBuffer memory, int32_t capacity, size_t block_bytes, size_t slot_bytes,
           int32_t num_layers);
  size_t Index(TierSlot slot) const;  // stops at a slot that is not lent
  std::span<std::byte> LayerOf(std::span<std::byte> block, int32_t layer) const;
  uint64_t& Checksum(TierSlot slot, int32_t layer);

  const size_t block_bytes_;
  const size_t slot_bytes_;  // block_bytes_ in whole pages
  const int32_t num_layers_;
  PageBuffer memory_;
  std::vector<Proof> proofs_;
  std::vector<uint64_t> checksums_;  // [slot][layer]
  std::vector<TierSlot> free_;       // a stack: what was used last has its pages already
};

}  // namespace holdfast
