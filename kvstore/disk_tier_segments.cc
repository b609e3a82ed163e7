// The life of segments: made, compacted, removed.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/page_buffer.h"
#include "kvstore/block_checksum.h"
#include "kvstore/disk_tier.h"

namespace holdfast {
namespace {

constexpr size_t kMovedAtATime = 8;  // records; bounds the memory of compaction

}  // namespace

bool DiskTier::IsDead(const Segment& segment) const { return segment.sealed && segment.live == 0; }

// One thread at a time is here (is_making_). Files never outnumber num_segments_max_: a segment is
// made either with two rooms left, or with one left and a victim to be emptied into it.
absl::Status DiskTier::MakeSegment() {
  Segment* victim = nullptr;
  uint64_t number = 0;
  while (victim == nullptr) {
    RemoveDead();
    MutexLock lock(&mutex_);
    if (num_files() < num_segments_max_ - 1) {
      number = next_number_++;
      break;
    }
    bool is_leaving = num_leaving_ > 0;  // room comes back without our doing
    bool is_written = false;
    for (const auto& [unused, segment] : segments_) {
      is_leaving = is_leaving || IsDead(*segment);
      is_written = is_written || segment->writers > 0;
    }
    if (num_files() < num_segments_max_) {
      if (const std::optional<uint64_t> chosen = ChooseVictim(); chosen.has_value()) {
        victim = segments_.at(*chosen).get();
        ++victim->readers;
        number = next_number_++;
        break;
      }
    }
    if (!is_leaving && !is_written) {
      return absl::ResourceExhaustedError(
          Concat("the disk tier's ", num_files(), " files are full of live blocks"));
    }
    bool can_remove = false;  // a reader may have left since RemoveDead
    for (const auto& [unused, segment] : segments_) {
      can_remove =
          can_remove || (IsDead(*segment) && segment->readers == 0 && segment->writers == 0);
    }
    if (!can_remove) changed_.Wait(&mutex_);
  }

  absl::StatusOr<std::unique_ptr<SegmentFile>> file =
      SegmentFile::Create(directory_fd_, number, segment_bytes_);
  if (!file.ok()) {
    MutexLock lock(&mutex_);
    if (victim != nullptr) --victim->readers;
    return file.status();
  }
  const bool is_synced = options_.sync == DiskSync::kNone || fsync(directory_fd_) == 0;
  auto made = std::make_unique<Segment>();
  made->file = *std::move(file);
  made->slots.assign(static_cast<size_t>(segment_places_), kNoSlot);
  Segment& segment = *made;
  {
    MutexLock lock(&mutex_);
    segments_.emplace(number, std::move(made));
    ++counters_.segments_made;
    if (!is_synced) ++counters_.syncs_failed;
  }
  if (victim != nullptr) Compact(*victim, segment);
  MutexLock lock(&mutex_);
  if (victim != nullptr) {
    --victim->readers;
    has_dead_ = true;
  }
  active_ = &segment;
  return absl::OkStatus();
}

// The sealed segment with the fewest live records; it has a dead one, so that the next active
// segment has room after it was emptied into it. Nullopt: there is none, or not before its writers
// have left.
std::optional<uint64_t> DiskTier::ChooseVictim() {
  std::optional<uint64_t> chosen;
  int32_t fewest = segment_places_;
  for (const auto& [number, segment] : segments_) {
    if (segment->sealed && segment->writers == 0 && segment->live < fewest) {
      chosen = number;
      fewest = segment->live;
    }
  }
  return chosen;
}

// Nobody else knows `target` yet. What cannot be read, proven or written is lost: its slot stays
// with the store and answers kDataLoss.
void DiskTier::Compact(Segment& victim, Segment& target) {
  std::vector<int32_t> places;
  {
    MutexLock lock(&mutex_);
    for (int32_t place = 0; place < victim.used; ++place) {
      if (victim.slots[static_cast<size_t>(place)] != kNoSlot) places.push_back(place);
    }
  }
  const std::span<const int32_t> all(places);
  for (size_t first = 0; first < all.size(); first += kMovedAtATime) {
    MoveRecords(victim, all.subspan(first, std::min(kMovedAtATime, all.size() - first)), target);
  }
  if (options_.sync == DiskSync::kSegmentEnd && !target.file->Sync().ok()) {
    MutexLock lock(&mutex_);
    ++counters_.syncs_failed;
  }
}

void DiskTier::MoveRecords(Segment& victim, std::span<const int32_t> places, Segment& target) {
  const size_t record_bytes = shape_.record_bytes();
  std::vector<DiskTransfer> transfers;
  std::vector<size_t> moved;  // which of `places`, by transfer
  std::vector<bool> is_written(places.size(), false);
  const std::optional<PageBuffer> pages = PageBuffer::Map(places.size() * record_bytes);
  if (pages.has_value()) {
    for (size_t i = 0; i < places.size(); ++i) {
      DiskTransfer& read = transfers.emplace_back();
      read.fd = victim.file->fd();
      read.offset = shape_.offset(places[i]);
      read.Add(pages->data() + i * record_bytes, record_bytes);
    }
    io_->Run(transfers);
    std::vector<DiskTransfer> writes;
    for (size_t i = 0; i < places.size(); ++i) {
      if (!transfers[i].status.ok()) continue;
      const std::span<std::byte> record(pages->data() + i * record_bytes, record_bytes);
      RecordHeader header;
      if (DecodeRecordHeader(record, options_.layout, header) != RecordVerdict::kGood ||
          BlockChecksum(record.subspan(kDiskPageBytes, shape_.block_bytes)) !=
              header.payload_checksum) {
        continue;
      }
      DiskTransfer& write = writes.emplace_back();
      write.kind = DiskTransfer::Kind::kWrite;
      write.fd = target.file->fd();
      write.offset = shape_.offset(target.used + static_cast<int32_t>(moved.size()));
      write.Add(record.data(), record_bytes);
      moved.push_back(i);
    }
    io_->Run(writes);
    for (size_t k = 0; k < moved.size(); ++k) is_written[moved[k]] = writes[k].status.ok();
  }

  MutexLock lock(&mutex_);
  const int32_t first_target = target.used;
  target.used += static_cast<int32_t>(moved.size());
  for (size_t i = 0; i < places.size(); ++i) {
    TierSlot& from = victim.slots[static_cast<size_t>(places[i])];
    if (from == kNoSlot) continue;  // dropped meanwhile
    const TierSlot owner = std::exchange(from, kNoSlot);
    --victim.live;
    Slot& slot = slots_[static_cast<size_t>(Number(owner))];
    if (!is_written[i]) {
      slot.state = SlotState::kLost;
      ++counters_.blocks_lost_in_compaction;
      continue;
    }
    const auto index = std::find(moved.begin(), moved.end(), i) - moved.begin();
    slot.segment = target.file->number();
    slot.place = first_target + static_cast<int32_t>(index);
    target.slots[static_cast<size_t>(slot.place)] = owner;
    ++target.live;
    ++counters_.blocks_compacted;
  }
}

void DiskTier::RemoveDead() {
  std::vector<std::unique_ptr<Segment>> dead;
  {
    MutexLock lock(&mutex_);
    if (!has_dead_) return;
    has_dead_ = false;
    for (auto it = segments_.begin(); it != segments_.end();) {
      Segment& segment = *it->second;
      if (!IsDead(segment)) {
        ++it;
      } else if (segment.readers > 0 || segment.writers > 0) {
        has_dead_ = true;  // for a later call
        ++it;
      } else {
        dead.push_back(std::move(it->second));
        it = segments_.erase(it);
      }
    }
    num_leaving_ += static_cast<int64_t>(dead.size());
  }
  int64_t removed = 0;
  for (std::unique_ptr<Segment>& segment : dead) {
    if (segment->file->Remove(directory_fd_).ok()) ++removed;
    segment.reset();  // closes: the room is back
  }
  MutexLock lock(&mutex_);
  num_leaving_ -= static_cast<int64_t>(dead.size());
  num_stuck_ += static_cast<int64_t>(dead.size()) - removed;
  counters_.segments_removed += static_cast<uint64_t>(removed);
  changed_.NotifyAll();
}

}  // namespace holdfast
