#include "kvstore/host_tier.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "config/base/check.h"
#include "config/base/concat.h"
#include "kvstore/block_checksum.h"

namespace holdfast {
namespace {

constexpr size_t kPageBytes = 4096;

}  // namespace

absl::StatusOr<std::unique_ptr<HostTier>> HostTier::Create(int64_t bytes_max, size_t block_bytes) {
  CHECK(block_bytes > 0);
  const size_t slot_bytes = (block_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  const size_t slots = bytes_max > 0 ? static_cast<size_t>(bytes_max) / slot_bytes : 0;
  if (slots == 0) {
    return absl::InvalidArgumentError(Concat("the host tier has ", bytes_max,
                                             " bytes; one block of this model takes ", slot_bytes,
                                             "; give it more, or 0 to do without"));
  }
  const int32_t capacity = static_cast<int32_t>(
      std::min<size_t>(slots, static_cast<size_t>(std::numeric_limits<int32_t>::max())));
  std::optional<PageBuffer> memory = PageBuffer::Map(static_cast<size_t>(capacity) * slot_bytes);
  if (!memory.has_value()) {
    return absl::ResourceExhaustedError(
        Concat("the host tier's ", bytes_max, " bytes cannot be mapped; give it less"));
  }
  return std::unique_ptr<HostTier>(
      new HostTier(*std::move(memory), capacity, block_bytes, slot_bytes));
}

HostTier::HostTier(PageBuffer memory, int32_t capacity, size_t block_bytes, size_t slot_bytes)
    : block_bytes_(block_bytes),
      slot_bytes_(slot_bytes),
      memory_(std::move(memory)),
      proofs_(static_cast<size_t>(capacity)) {
  free_.reserve(proofs_.size());
  for (int32_t slot = capacity; slot-- > 0;) free_.push_back(TierSlot{slot});
}

size_t HostTier::Index(TierSlot slot) const {
  CHECK(Number(slot) >= 0 && Number(slot) < capacity());
  const size_t index = static_cast<size_t>(Number(slot));
  CHECK(proofs_[index].reserved);
  return index;
}

std::optional<TierSlot> HostTier::TryReserve() {
  if (free_.empty()) return std::nullopt;
  const TierSlot slot = free_.back();
  free_.pop_back();
  proofs_[static_cast<size_t>(Number(slot))].reserved = true;
  return slot;
}

void HostTier::Drop(TierSlot slot) {
  proofs_[Index(slot)] = Proof{};
  free_.push_back(slot);
}

std::span<std::byte> HostTier::View(TierSlot slot) {
  return {memory_.data() + Index(slot) * slot_bytes_, block_bytes_};
}

void HostTier::Put(std::span<TierTransfer> transfers) {
  for (TierTransfer& transfer : transfers) {
    Proof& proof = proofs_[Index(transfer.slot)];
    CHECK(!proof.stored);
    CHECK(transfer.bytes.size() == block_bytes_);
    proof.checksum = CopyWithChecksum(View(transfer.slot), transfer.bytes);
    proof.digest = transfer.identity->digest;
    proof.stored = true;
    transfer.status = absl::OkStatus();
  }
}

void HostTier::Fetch(std::span<TierTransfer> transfers) {
  for (TierTransfer& transfer : transfers) {
    const Proof& proof = proofs_[Index(transfer.slot)];
    CHECK(transfer.bytes.size() == block_bytes_);
    if (!proof.stored || proof.digest != transfer.identity->digest) {
      transfer.status = absl::DataLossError("the host slot holds another block than was asked for");
    } else if (CopyWithChecksum(transfer.bytes, View(transfer.slot)) != proof.checksum) {
      transfer.status =
          absl::DataLossError("the bytes in the host slot are not what was put there");
    } else {
      transfer.status = absl::OkStatus();
    }
  }
}

}  // namespace holdfast
