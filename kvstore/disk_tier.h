// The tier on disk: blocks in append-only segment files (disk_segment.h), found again after a
// restart by scanning their headers.
//
//                    Put                    all places used           all records dead
//   new segment ───► active ───────────────► sealed ─────────────────► removed
//                      ▲                        │ compaction: the live ones of the segment with
//                      └──── live records ──────┘ the fewest move to the next active one
//
// Bounds: `bytes_max` holds for the sum of all segment files at every moment, or what the disk had
// room for at start where that is less. All files have one size; one file's room is kept free for
// compaction, and of the rest an eighth is not lent, so that a compacted segment has on average an
// eighth dead records or more. Dropping is counted at once; the file goes when its last record is
// dead or compaction comes by.
//
// Dying: a record is believed after a restart if its header proves itself (block_record.h), and
// served if its payload's checksum is right. So SIGKILL loses at most the blocks in mid-write.
// After a power failure the newest blocks may be missing or torn, which is found out: `sync` only
// chooses how many. Blocks that were dropped shortly before may be found again; they are as true as
// they were. Two daemons never share a directory: it is locked.
//
// Privacy: files are readable by their owner alone; dropped bytes stay on the medium until the file
// is removed.
//
// Thread: as tier.h says. One lock guards the accounts and is never held over I/O; a Put that needs
// a new segment does compaction itself, others wait for it; a Fetch waits for nobody.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/base/mutex.h"
#include "kvstore/disk_io.h"
#include "kvstore/disk_segment.h"
#include "kvstore/tier.h"

namespace holdfast {

enum class DiskSync : uint8_t {
  kNone,        // the system writes when it likes
  kSegmentEnd,  // a segment is synced when its last place is written
};

struct DiskTierOptions {
  std::string directory;  // made if missing; its parent must exist
  int64_t bytes_max = 0;  // of all segment files together; what the disk has not does not count
  size_t block_bytes = 0;
  LayoutDigest layout{};
  DiskSync sync = DiskSync::kNone;
  DiskIoKind io = DiskIoKind::kAuto;
  int32_t io_depth = 32;
  int64_t segment_bytes = 0;  // 0: chosen (64 MiB; more where there would be over 512 files)
};

// A block that start has found, with its slot, which is reserved. The store adopts it or drops it.
struct RecoveredBlock {
  TierSlot slot{};
  BlockIdentity identity;
};

struct DiskRecovery {  // what start found; in records where nothing else is said
  ScanCounts scanned;
  int64_t duplicate = 0;      // an older record of a block that is there twice
  int64_t over_capacity = 0;  // the oldest, where more was found than the limit allows now
  int64_t segments = 0;
  int64_t segments_removed = 0;       // without a good record, or over the limit
  std::vector<std::string> warnings;  // for the log: what was left alone, and why
};

struct DiskTierCounters {  // since Open
  uint64_t blocks_put = 0, puts_failed = 0;
  uint64_t blocks_fetched = 0, fetches_unproven = 0, fetches_failed = 0;
  uint64_t segments_made = 0, segments_removed = 0;
  uint64_t blocks_compacted = 0, blocks_lost_in_compaction = 0;
  uint64_t syncs_failed = 0;
};

class DiskTier final : public Tier {
 public:
  // kInvalidArgument: the limit is too small. kFailedPrecondition: the directory is in use, or is
  // none, or its disk is full. kPermissionDenied: it cannot be written. The message says what to
  // do.
  static absl::StatusOr<std::unique_ptr<DiskTier>> Open(const DiskTierOptions& options);
  ~DiskTier() override;

  // What Open found, parents before children. Once; empty afterwards.
  std::vector<RecoveredBlock> RecoveredBlocks();
  const DiskRecovery& recovery() const { return recovery_; }

  TierKind kind() const override { return TierKind::kDisk; }
  int32_t capacity() const override { return static_cast<int32_t>(capacity_); }
  std::optional<TierSlot> TryReserve() override;
  void Drop(TierSlot slot) override;
  int32_t num_free() const override;
  void Put(std::span<TierTransfer> transfers) override;
  void Fetch(std::span<TierTransfer> transfers) override;

  DiskTierCounters counters() const;  // any thread
  int64_t bytes_used() const;         // of all files; any thread
  std::string Describe() const;       // one line for the start log

 private:
  static constexpr TierSlot kNoSlot{-1};

  struct Segment {
    std::unique_ptr<SegmentFile> file;
    std::vector<TierSlot> slots;  // by place; kNoSlot: never used or dead
    int32_t used = 0;             // places given out
    int32_t live = 0;             // places with a slot
    int32_t writers = 0;          // Puts at work
    int32_t readers = 0;          // Fetches and compaction at work
    bool sealed = false;          // takes no more
  };
  enum class SlotState : uint8_t { kFree, kReserved, kStored, kLost };
  struct Slot {
    SlotState state = SlotState::kFree;
    int32_t place = 0;
    uint64_t segment = 0;
    uint64_t checksum = 0;
    BlockDigest digest{};
  };
  struct Places {  // lent to one Put: `count` from `first` on, written by it alone
    Segment* segment = nullptr;
    int32_t first = 0, count = 0;
    uint64_t first_sequence = 0;
  };
  struct Found;

  explicit DiskTier(const DiskTierOptions& options);

  absl::Status LockDirectory();
  // What the disk has free, and what the segments that lie there take of it.
  absl::StatusOr<int64_t> BytesThere(std::span<const uint64_t> numbers) const;
  void Divide(int64_t bytes);
  absl::Status Recover(std::span<const uint64_t> numbers);
  absl::StatusOr<std::vector<uint64_t>> ListSegments();
  absl::Status ScanSegments(std::span<const uint64_t> numbers, std::vector<Found>& found);
  void RemoveOverLimit(std::vector<Found>& found);
  static void KeepNewest(std::vector<Found>& found, DiskRecovery& recovery);
  absl::Status Adopt(std::vector<Found>& found);
  void Warn(std::string text);

  absl::StatusOr<Places> TakePlaces(std::span<const TierTransfer> transfers);
  void PutBatch(std::span<TierTransfer> transfers, const Places& places);
  void FetchBatch(std::span<TierTransfer> transfers);
  void FinishPut(std::span<TierTransfer> transfers, const Places& places,
                 std::span<const uint64_t> checksums);

  absl::Status MakeSegment();  // a new active one, compacting if there is no room else
  std::optional<uint64_t> ChooseVictim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Compact(Segment& victim, Segment& target);
  void MoveRecords(Segment& victim, std::span<const int32_t> places, Segment& target);
  void RemoveDead();
  bool IsDead(const Segment& segment) const;
  int64_t num_files() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int64_t>(segments_.size()) + num_leaving_ + num_stuck_;
  }

  const DiskTierOptions options_;
  const RecordShape shape_;
  int32_t segment_places_ = 0;
  int64_t segment_bytes_ = 0;
  int64_t num_segments_max_ = 0;
  int64_t capacity_ = 0;
  int directory_fd_ = -1;
  int lock_fd_ = -1;
  bool is_direct_ = true;
  std::unique_ptr<DiskIo> io_;
  DiskRecovery recovery_;
  std::vector<RecoveredBlock> recovered_;

  mutable Mutex mutex_;
  CondVar changed_;  // a segment was made or removed, or its last writer or reader has left
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  std::vector<TierSlot> free_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::unique_ptr<Segment>> segments_ ABSL_GUARDED_BY(mutex_);  // by number
  Segment* active_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool is_making_ ABSL_GUARDED_BY(mutex_) = false;  // one thread is in MakeSegment
  bool has_dead_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t num_leaving_ ABSL_GUARDED_BY(mutex_) = 0;  // forgotten, their files not removed yet
  int64_t num_stuck_ ABSL_GUARDED_BY(mutex_) = 0;    // whose removal failed: counted for ever
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  DiskTierCounters counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
