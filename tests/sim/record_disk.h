// A disk tier in memory with the real records on it: what is written is a header of block_record.h
// and the payload, and what is read back is believed for no other reason than the disk tier would
// have. Outlives a scheduler, as a directory outlives a daemon: Reopen finds what is whole.
//
// Thread: one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "config/base/check.h"
#include "kvstore/block_checksum.h"
#include "kvstore/block_record.h"
#include "kvstore/disk_tier.h"
#include "kvstore/tier.h"

namespace holdfast {

class RecordDisk final : public Tier {
 public:
  RecordDisk(int32_t capacity, size_t block_bytes)
      : block_bytes_(block_bytes), slots_(static_cast<size_t>(capacity)) {
    for (Slot& slot : slots_) slot.record.resize(kRecordHeaderBytes + block_bytes);
  }

  TierKind kind() const override { return TierKind::kDisk; }
  int32_t capacity() const override { return static_cast<int32_t>(slots_.size()); }
  int32_t num_free() const override {
    return static_cast<int32_t>(
        std::count_if(slots_.begin(), slots_.end(), [](const Slot& s) { return !s.reserved; }));
  }
  std::optional<TierSlot> TryReserve() override {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].reserved) continue;
      slots_[i].reserved = true;
      return TierSlot{static_cast<int32_t>(i)};
    }
    return std::nullopt;
  }
  void Drop(TierSlot slot) override {  // the bytes stay, as on a disk
    CHECK(At(slot).reserved);
    At(slot).reserved = false;
  }

  void Put(std::span<TierTransfer> transfers) override {
    for (TierTransfer& transfer : transfers) {
      CHECK(At(transfer.slot).reserved && transfer.bytes.size() == block_bytes_);
      const std::span<std::byte> record = Raw(transfer.slot);
      const RecordHeader header{.sequence = next_sequence_++,
                                .payload_bytes = block_bytes_,
                                .payload_checksum = BlockChecksum(transfer.bytes),
                                .identity = *transfer.identity};
      EncodeRecordHeader(header, record);
      std::copy(transfer.bytes.begin(), transfer.bytes.end(), record.begin() + kRecordHeaderBytes);
      transfer.status = absl::OkStatus();
    }
  }
  void Fetch(std::span<TierTransfer> transfers) override {
    for (TierTransfer& transfer : transfers) {
      CHECK(At(transfer.slot).reserved && transfer.bytes.size() == block_bytes_);
      const std::span<std::byte> record = Raw(transfer.slot);
      RecordHeader header;
      const bool proven =
          DecodeRecordHeader(record, LayoutDigest{}, header) == RecordVerdict::kGood &&
          header.identity.digest == transfer.identity->digest &&
          header.payload_bytes == block_bytes_ &&
          CopyWithChecksum(transfer.bytes, record.subspan(kRecordHeaderBytes)) ==
              header.payload_checksum;
      transfer.status = proven ? absl::OkStatus() : absl::DataLossError("not this block's record");
    }
  }

  // The daemon is gone and a new one starts: of each content the newest whole record is found, in
  // the order that adoption wants, and its slot is reserved; all others are free.
  std::vector<RecoveredBlock> Reopen() {
    std::map<BlockDigest, std::pair<uint64_t, RecoveredBlock>> newest;
    for (size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].reserved = false;
      RecordHeader header;
      if (DecodeRecordHeader(slots_[i].record, LayoutDigest{}, header) != RecordVerdict::kGood) {
        continue;
      }
      auto& [sequence, block] = newest[header.identity.digest];
      if (sequence > header.sequence) continue;
      sequence = header.sequence;
      block = {.slot = TierSlot{static_cast<int32_t>(i)}, .identity = header.identity};
    }
    std::vector<RecoveredBlock> found;
    for (auto& [digest, entry] : newest) {
      At(entry.second.slot).reserved = true;
      found.push_back(std::move(entry.second));
    }
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
      return a.identity.depth < b.identity.depth;
    });
    return found;
  }

  // Header and payload, for who damages them.
  std::span<std::byte> Raw(TierSlot slot) { return At(slot).record; }

 private:
  struct Slot {
    std::vector<std::byte> record;
    bool reserved = false;
  };
  Slot& At(TierSlot slot) { return slots_.at(static_cast<size_t>(Number(slot))); }

  const size_t block_bytes_;
  std::vector<Slot> slots_;
  uint64_t next_sequence_ = 1;
};

}  // namespace holdfast
