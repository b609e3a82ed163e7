// Slots and transfers. Starting is in disk_tier_open.cc, the life of segments in
// disk_tier_segments.cc.
#include "kvstore/disk_tier.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/page_buffer.h"
#include "kvstore/block_checksum.h"

namespace holdfast {
namespace {

constexpr size_t kBatchBlocks = 32;  // of one Put or Fetch at a time; bounds the bounce memory

// A payload as direct I/O takes it. The whole pages of an aligned caller are used in place and only
// a last part of a page goes by a page of ours; an unaligned caller's payload goes by our pages.
class PayloadPages {
 public:
  static size_t StagingBytes(std::span<const std::byte> bytes) {
    return IsAligned(bytes) ? (bytes.size() % kDiskPageBytes != 0 ? kDiskPageBytes : 0)
                            : RecordShape{bytes.size()}.payload_bytes();
  }

  PayloadPages(std::span<std::byte> bytes, std::byte* staging)
      : in_place_(IsAligned(bytes) ? bytes.size() / kDiskPageBytes * kDiskPageBytes : 0),
        bytes_(bytes),
        staged_(staging, bytes.size() - in_place_) {}

  void AddTo(DiskTransfer& transfer) const {
    if (in_place_ > 0) transfer.Add(bytes_.data(), in_place_);
    if (!staged_.empty()) {
      transfer.Add(staged_.data(), RecordShape{staged_.size()}.payload_bytes());
    }
  }
  void Stage() const {
    if (!staged_.empty()) {
      std::memcpy(staged_.data(), bytes_.data() + in_place_, staged_.size());
    }
  }
  // Makes the caller's bytes whole after a read; their checksum.
  uint64_t Unstage() const {
    if (in_place_ == 0) return CopyWithChecksum(bytes_, staged_);
    if (!staged_.empty()) {
      std::memcpy(bytes_.data() + in_place_, staged_.data(), staged_.size());
    }
    return BlockChecksum(bytes_);
  }

 private:
  static bool IsAligned(std::span<const std::byte> bytes) {
    return reinterpret_cast<uintptr_t>(bytes.data()) % kDiskPageBytes == 0 &&
           bytes.size() >= kDiskPageBytes;
  }

  const size_t in_place_;
  const std::span<std::byte> bytes_;
  const std::span<std::byte> staged_;
};

size_t StagingBytes(std::span<const TierTransfer> transfers) {
  size_t bytes = 0;
  for (const TierTransfer& transfer : transfers)
    bytes += PayloadPages::StagingBytes(transfer.bytes);
  return bytes;
}

void FailAll(std::span<TierTransfer> transfers, const absl::Status& status) {
  for (TierTransfer& transfer : transfers) transfer.status = status;
}

}  // namespace

DiskTier::DiskTier(const DiskTierOptions& options)
    : options_(options), shape_{.block_bytes = options.block_bytes} {}

DiskTier::~DiskTier() {
  {
    MutexLock lock(&mutex_);
    if (options_.sync == DiskSync::kSegmentEnd && active_ != nullptr) {
      active_->file->Sync().IgnoreError();  // what is lost is found out at the next start
    }
    segments_.clear();
  }
  if (lock_fd_ >= 0) close(lock_fd_);  // and with it the lock
  if (directory_fd_ >= 0) close(directory_fd_);
}

std::vector<RecoveredBlock> DiskTier::RecoveredBlocks() { return std::move(recovered_); }

std::optional<TierSlot> DiskTier::TryReserve() {
  MutexLock lock(&mutex_);
  if (free_.empty()) return std::nullopt;
  const TierSlot slot = free_.back();
  free_.pop_back();
  slots_[static_cast<size_t>(Number(slot))].state = SlotState::kReserved;
  return slot;
}

void DiskTier::Drop(TierSlot slot) {
  CHECK(Number(slot) >= 0 && Number(slot) < capacity());
  MutexLock lock(&mutex_);
  Slot& entry = slots_[static_cast<size_t>(Number(slot))];
  CHECK(entry.state != SlotState::kFree);
  if (entry.state == SlotState::kStored) {
    Segment& segment = *segments_.at(entry.segment);
    segment.slots[static_cast<size_t>(entry.place)] = kNoSlot;
    --segment.live;
    if (IsDead(segment)) has_dead_ = true;
  }
  entry = Slot{};
  free_.push_back(slot);
}

int32_t DiskTier::num_free() const {
  MutexLock lock(&mutex_);
  return static_cast<int32_t>(free_.size());
}

DiskTierCounters DiskTier::counters() const {
  MutexLock lock(&mutex_);
  return counters_;
}

int64_t DiskTier::bytes_used() const {
  MutexLock lock(&mutex_);
  return num_files() * segment_bytes_;
}

std::string DiskTier::Describe() const {
  return Concat("disk tier in ", options_.directory, ": ", capacity_, " blocks, at most ",
                num_segments_max_, " files of ", segment_bytes_, " bytes, by ", io_->name(),
                is_direct_ ? "" : " without direct I/O", ", ",
                options_.sync == DiskSync::kNone ? "not synced" : "synced at the end of segments",
                "; found ", recovery_.scanned.good, " good records");
}

void DiskTier::Put(std::span<TierTransfer> transfers) {
  while (!transfers.empty()) {
    const size_t batch = std::min(transfers.size(), kBatchBlocks);
    const absl::StatusOr<Places> places = TakePlaces(transfers.first(batch));
    if (!places.ok()) {
      FailAll(transfers, places.status());
      MutexLock lock(&mutex_);
      counters_.puts_failed += transfers.size();
      break;
    }
    const size_t count = static_cast<size_t>(places->count);
    PutBatch(transfers.first(count), *places);
    transfers = transfers.subspan(count);
  }
  RemoveDead();
}

// Never holds places while it waits for a new segment, so that making one can wait for writers.
absl::StatusOr<DiskTier::Places> DiskTier::TakePlaces(std::span<const TierTransfer> transfers) {
  mutex_.Lock();
  while (active_ == nullptr) {
    if (is_making_) {
      changed_.Wait(&mutex_);
      continue;
    }
    is_making_ = true;
    mutex_.Unlock();
    const absl::Status made = MakeSegment();
    mutex_.Lock();
    is_making_ = false;
    changed_.NotifyAll();
    if (!made.ok()) {
      mutex_.Unlock();
      return made;
    }
  }
  Segment& segment = *active_;
  Places places{.segment = &segment, .first = segment.used, .first_sequence = next_sequence_};
  places.count = std::min(static_cast<int32_t>(transfers.size()), segment_places_ - segment.used);
  for (int32_t i = 0; i < places.count; ++i) {
    const TierSlot slot = transfers[static_cast<size_t>(i)].slot;
    CHECK(Number(slot) >= 0 && Number(slot) < capacity());
    CHECK(slots_[static_cast<size_t>(Number(slot))].state == SlotState::kReserved);
    segment.slots[static_cast<size_t>(segment.used + i)] = slot;
  }
  next_sequence_ += static_cast<uint64_t>(places.count);
  segment.used += places.count;
  segment.live += places.count;
  ++segment.writers;
  if (segment.used == segment_places_) {
    segment.sealed = true;
    active_ = nullptr;
  }
  mutex_.Unlock();
  return places;
}

void DiskTier::PutBatch(std::span<TierTransfer> transfers, const Places& places) {
  std::vector<uint64_t> checksums(transfers.size());
  const size_t header_bytes = transfers.size() * kDiskPageBytes;
  const std::optional<PageBuffer> pages = PageBuffer::Map(header_bytes + StagingBytes(transfers));
  if (!pages.has_value()) {
    FailAll(transfers, absl::ResourceExhaustedError("no memory to write blocks to disk with"));
    FinishPut(transfers, places, checksums);
    return;
  }
  std::byte* header = pages->data();
  std::byte* staging = pages->data() + header_bytes;
  std::vector<DiskTransfer> writes(transfers.size());
  for (size_t i = 0; i < transfers.size(); ++i) {
    const TierTransfer& transfer = transfers[i];
    CHECK(transfer.bytes.size() == shape_.block_bytes);
    checksums[i] = BlockChecksum(transfer.bytes);
    EncodeRecordHeader({.sequence = places.first_sequence + i,
                        .payload_bytes = shape_.block_bytes,
                        .payload_checksum = checksums[i],
                        .layout = options_.layout,
                        .identity = *transfer.identity},
                       {header, kDiskPageBytes});
    const PayloadPages payload(transfer.bytes, staging);
    payload.Stage();
    writes[i].kind = DiskTransfer::Kind::kWrite;
    writes[i].fd = places.segment->file->fd();
    writes[i].offset = shape_.offset(places.first + static_cast<int32_t>(i));
    writes[i].Add(header, kDiskPageBytes);
    payload.AddTo(writes[i]);
    header += kDiskPageBytes;
    staging += PayloadPages::StagingBytes(transfer.bytes);
  }
  io_->Run(writes);
  for (size_t i = 0; i < transfers.size(); ++i) transfers[i].status = std::move(writes[i].status);
  FinishPut(transfers, places, checksums);
}

void DiskTier::FinishPut(std::span<TierTransfer> transfers, const Places& places,
                         std::span<const uint64_t> checksums) {
  Segment& segment = *places.segment;
  bool sync = false;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < transfers.size(); ++i) {
      const int32_t place = places.first + static_cast<int32_t>(i);
      if (!transfers[i].status.ok()) {
        segment.slots[static_cast<size_t>(place)] = kNoSlot;
        --segment.live;
        ++counters_.puts_failed;
        continue;
      }
      slots_[static_cast<size_t>(Number(transfers[i].slot))] = {
          .state = SlotState::kStored,
          .place = place,
          .segment = segment.file->number(),
          .checksum = checksums[i],
          .digest = transfers[i].identity->digest};
      ++counters_.blocks_put;
    }
    --segment.writers;
    sync = options_.sync == DiskSync::kSegmentEnd && segment.sealed && segment.writers == 0;
    if (sync) ++segment.readers;  // keeps the file
    if (IsDead(segment)) has_dead_ = true;
    changed_.NotifyAll();
  }
  if (!sync) return;
  const absl::Status synced = segment.file->Sync();
  MutexLock lock(&mutex_);
  if (!synced.ok()) ++counters_.syncs_failed;
  --segment.readers;
  changed_.NotifyAll();
}

void DiskTier::Fetch(std::span<TierTransfer> transfers) {
  while (!transfers.empty()) {
    const size_t batch = std::min(transfers.size(), kBatchBlocks);
    FetchBatch(transfers.first(batch));
    transfers = transfers.subspan(batch);
  }
  RemoveDead();
}

void DiskTier::FetchBatch(std::span<TierTransfer> transfers) {
  struct Source {  // segment == nullptr: there is nothing to read
    Segment* segment = nullptr;
    int32_t place = 0;
    uint64_t checksum = 0;
  };
  std::vector<Source> sources(transfers.size());
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < transfers.size(); ++i) {
      TierTransfer& transfer = transfers[i];
      CHECK(Number(transfer.slot) >= 0 && Number(transfer.slot) < capacity());
      CHECK(transfer.bytes.size() == shape_.block_bytes);
      const Slot& slot = slots_[static_cast<size_t>(Number(transfer.slot))];
      CHECK(slot.state != SlotState::kFree);
      if (slot.state != SlotState::kStored || slot.digest != transfer.identity->digest) {
        transfer.status =
            absl::DataLossError("the disk slot does not hold the block that was asked for");
        continue;
      }
      Segment& segment = *segments_.at(slot.segment);
      ++segment.readers;
      sources[i] = {.segment = &segment, .place = slot.place, .checksum = slot.checksum};
    }
  }
  const std::optional<PageBuffer> pages = PageBuffer::Map(StagingBytes(transfers));
  std::vector<DiskTransfer> reads;
  std::vector<std::pair<size_t, PayloadPages>> payloads;  // of which transfer
  size_t staged = 0;
  for (size_t i = 0; i < transfers.size(); ++i) {
    if (sources[i].segment == nullptr) continue;
    if (!pages.has_value()) {
      transfers[i].status = absl::UnavailableError("no memory to read blocks from disk with");
      continue;
    }
    const auto& [which, payload] =
        payloads.emplace_back(i, PayloadPages(transfers[i].bytes, pages->data() + staged));
    staged += PayloadPages::StagingBytes(transfers[i].bytes);
    DiskTransfer& read = reads.emplace_back();
    read.fd = sources[i].segment->file->fd();
    read.offset = shape_.offset(sources[i].place) + static_cast<int64_t>(kDiskPageBytes);
    payload.AddTo(read);
  }
  io_->Run(reads);
  for (size_t k = 0; k < reads.size(); ++k) {
    const auto& [i, payload] = payloads[k];
    transfers[i].status = std::move(reads[k].status);
    if (transfers[i].status.ok() && payload.Unstage() != sources[i].checksum) {
      transfers[i].status = absl::DataLossError("the bytes on disk are not what was put there");
    }
  }
  MutexLock lock(&mutex_);
  for (size_t i = 0; i < transfers.size(); ++i) {
    if (sources[i].segment != nullptr) --sources[i].segment->readers;
    const absl::Status& status = transfers[i].status;
    ++(status.ok()                ? counters_.blocks_fetched
       : absl::IsDataLoss(status) ? counters_.fetches_unproven
                                  : counters_.fetches_failed);
  }
  changed_.NotifyAll();
}

}  // namespace holdfast
