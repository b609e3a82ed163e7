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

absl::StatusOr<std::unique_ptr<HostTier>> HostTier::Create(int64_t bytes_max, size_t block_bytes,
                                                           int32_t num_layers) {
  CHECK(block_bytes > 0 && num_layers > 0);
  CHECK(block_bytes % static_cast<size_t>(num_layers) == 0);
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
      new HostTier(*std::move(memory), capacity, block_bytes, slot_bytes, num_layers));
}

HostTier::HostTier(PageBuffer memory, int32_t capacity, size_t block_bytes, size_t slot_bytes,
                   int32_t num_layers)
    : block_bytes_(block_bytes),
      slot_bytes_(slot_bytes),
      num_layers_(num_layers),
      memory_(std::move(memory)),
      proofs_(static_cast<size_t>(capacity)),
      checksums_(static_cast<size_t>(capacity) * static_cast<size_t>(num_layers)) {
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

std::span<std::byte> HostTier::LayerOf(std::span<std::byte> block, int32_t layer) const {
  const size_t layer_bytes = block_bytes_ / static_cast<size_t>(num_layers_);
  return block.subspan(static_cast<size_t>(layer) * layer_bytes, layer_bytes);
}

uint64_t& HostTier::Checksum(TierSlot slot, int32_t layer) {
  return checksums_[Index(slot) * static_cast<size_t>(num_layers_) + static_cast<size_t>(layer)];
}

void HostTier::Put(std::span<TierTransfer> transfers) {
  for (TierTransfer& transfer : transfers) {
    Proof& proof = proofs_[Index(transfer.slot)];
    CHECK(!proof.stored);
    CHECK(transfer.bytes.size() == block_bytes_);
    for (int32_t layer = 0; layer < num_layers_; ++layer) {
      Checksum(transfer.slot, layer) =
          CopyWithChecksum(LayerOf(View(transfer.slot), layer), LayerOf(transfer.bytes, layer));
    }
    proof.digest = transfer.identity->digest;
    proof.stored = true;
    transfer.status = absl::OkStatus();
  }
}

void HostTier::Fetch(std::span<TierTransfer> transfers) {
  // Block by block: a slot's pages lie together.
  for (TierTransfer& transfer : transfers) {
    for (int32_t layer = 0; layer < num_layers_; ++layer) FetchLayer({&transfer, 1}, layer);
  }
}

void HostTier::FetchLayer(std::span<TierTransfer> transfers, int32_t layer) {
  CHECK(layer >= 0 && layer < num_layers_);
  for (TierTransfer& transfer : transfers) {
    const Proof& proof = proofs_[Index(transfer.slot)];
    CHECK(transfer.bytes.size() == block_bytes_);
    if (layer == 0) {
      transfer.status = absl::OkStatus();
    } else if (!transfer.status.ok()) {
      continue;
    }
    if (!proof.stored || proof.digest != transfer.identity->digest) {
      transfer.status = absl::DataLossError("the host slot holds another block than was asked for");
    } else if (CopyWithChecksum(LayerOf(transfer.bytes, layer),
                                LayerOf(View(transfer.slot), layer)) !=
               Checksum(transfer.slot, layer)) {
      transfer.status =
          absl::DataLossError("the bytes in the host slot are not what was put there");
    }
  }
}

}  // namespace holdfast
