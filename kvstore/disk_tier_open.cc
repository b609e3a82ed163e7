// Starting: lock the directory, scan what lies there, keep what proves itself.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "kvstore/disk_tier.h"

namespace holdfast {
namespace {

constexpr std::string_view kLockFileName = "holdfast.lock";
constexpr int64_t kSegmentBytes = 64 << 20;
constexpr int64_t kSegmentsWanted = 512;  // each is an open file
constexpr int64_t kSegmentsMin = 4;
constexpr size_t kWarningsMax = 16;

std::string Text(int error) { return std::error_code(error, std::generic_category()).message(); }

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

}  // namespace

struct DiskTier::Found {
  uint64_t segment = 0;
  ScannedRecord record;
};

absl::StatusOr<std::unique_ptr<DiskTier>> DiskTier::Open(const DiskTierOptions& options) {
  CHECK(options.block_bytes > 0 && options.io_depth > 0);
  auto tier = std::unique_ptr<DiskTier>(new DiskTier(options));
  const int64_t least_bytes = kSegmentsMin * static_cast<int64_t>(tier->shape_.record_bytes());
  if (options.bytes_max < least_bytes) {
    return absl::InvalidArgumentError(
        Concat("the disk tier has ", options.bytes_max, " bytes; it needs at least ", least_bytes,
               " for blocks of this model; give it more, or 0 to do without"));
  }
  ASSIGN_OR_RETURN(tier->io_, MakeDiskIo(options.io, options.io_depth));
  RETURN_IF_ERROR(tier->LockDirectory());
  ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, tier->ListSegments());
  ASSIGN_OR_RETURN(const int64_t there, tier->BytesThere(numbers));
  if (there < least_bytes) {
    return absl::FailedPreconditionError(Concat("the disk of ", options.directory, " has room for ",
                                                there, " bytes; the disk tier needs at least ",
                                                least_bytes,
                                                "; make room, or choose another directory"));
  }
  if (there < options.bytes_max) {
    tier->Warn(Concat("the limit is ", options.bytes_max, " bytes and the disk has room for ",
                      there, ": it keeps what fits"));
  }
  tier->Divide(std::min(options.bytes_max, there));
  RETURN_IF_ERROR(tier->Recover(numbers));
  return tier;
}

void DiskTier::Divide(int64_t bytes) {
  const auto record_bytes = static_cast<int64_t>(shape_.record_bytes());
  const int64_t wanted =
      options_.segment_bytes > 0
          ? options_.segment_bytes
          : std::min(std::max(kSegmentBytes, bytes / kSegmentsWanted), bytes / (2 * kSegmentsMin));
  const int64_t places = std::clamp<int64_t>(std::min(wanted, bytes / kSegmentsMin) / record_bytes,
                                             1, std::numeric_limits<int32_t>::max());
  segment_places_ = static_cast<int32_t>(places);
  segment_bytes_ = places * record_bytes;
  num_segments_max_ = bytes / segment_bytes_;
  capacity_ = std::min<int64_t>((num_segments_max_ - 1) * places * 7 / 8,
                                std::numeric_limits<int32_t>::max());
}

absl::StatusOr<int64_t> DiskTier::BytesThere(std::span<const uint64_t> numbers) const {
  struct statvfs disk {};
  if (fstatvfs(directory_fd_, &disk) != 0) return DiskError("asking for the disk's room", errno);
  // Some file systems do not say.
  if (disk.f_blocks == 0) return std::numeric_limits<int64_t>::max();
  auto bytes = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  for (const uint64_t number : numbers) {
    struct stat file {};
    if (fstatat(directory_fd_, SegmentFileName(number).c_str(), &file, AT_SYMLINK_NOFOLLOW) == 0) {
      bytes += int64_t{512} * file.st_blocks;
    }
  }
  return bytes;
}

absl::Status DiskTier::LockDirectory() {
  const std::string& path = options_.directory;
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        Concat("the disk tier's directory ", path, " cannot be made: ", Text(errno)));
  }
  directory_fd_ = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_fd_ < 0) {
    return absl::FailedPreconditionError(
        Concat("the disk tier's directory ", path, " cannot be opened: ", Text(errno)));
  }
  lock_fd_ = openat(directory_fd_, std::string(kLockFileName).c_str(),
                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_fd_ < 0) {
    return absl::PermissionDeniedError(Concat("the disk tier's directory ", path,
                                              " cannot be written: ", Text(errno),
                                              "; make it writable for this user"));
  }
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        errno == EWOULDBLOCK
            ? Concat("the disk tier's directory ", path,
                     " is used by another daemon; give each its own")
            : Concat("the disk tier's directory ", path, " cannot be locked: ", Text(errno)));
  }
  return absl::OkStatus();
}

void DiskTier::Warn(std::string text) {
  if (recovery_.warnings.size() < kWarningsMax) {
    recovery_.warnings.push_back(std::move(text));
  } else if (recovery_.warnings.size() == kWarningsMax) {
    recovery_.warnings.push_back("and more of the kind");
  }
}

absl::StatusOr<std::vector<uint64_t>> DiskTier::ListSegments() {
  const int fd = openat(directory_fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, CloseDirectory> directory(fd < 0 ? nullptr : fdopendir(fd));
  if (directory == nullptr) return DiskError("listing the disk tier's directory", errno);
  std::vector<uint64_t> numbers;
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == ".." || name == kLockFileName) continue;
    if (const std::optional<uint64_t> number = ParseSegmentFileName(name); number.has_value()) {
      numbers.push_back(*number);
    } else {
      Warn(Concat("left alone, not the disk tier's: ", name));
    }
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

absl::Status DiskTier::ScanSegments(std::span<const uint64_t> numbers, std::vector<Found>& found) {
  MutexLock lock(&mutex_);
  std::vector<ScannedRecord> records;
  for (const uint64_t number : numbers) {
    next_number_ = std::max(next_number_, number + 1);
    absl::StatusOr<std::unique_ptr<SegmentFile>> file = SegmentFile::Open(directory_fd_, number);
    if (!file.ok()) {
      Warn(Concat("left alone: ", file.status().message()));
      continue;
    }
    ++recovery_.segments;
    records.clear();
    RETURN_IF_ERROR(ScanSegment(*io_, **file, shape_, options_.layout, records, recovery_.scanned));
    auto segment = std::make_unique<Segment>();
    segment->file = *std::move(file);
    segment->sealed = true;
    segment->used = segment_places_;
    segment->slots.assign(static_cast<size_t>(segment_places_), kNoSlot);
    segments_.emplace(number, std::move(segment));
    for (const ScannedRecord& record : records) {
      next_sequence_ = std::max(next_sequence_, record.header.sequence + 1);
      if (record.place < segment_places_) {
        found.push_back({.segment = number, .record = record});
      } else {
        ++recovery_.over_capacity;  // segments are smaller now
      }
    }
  }
  return absl::OkStatus();
}

// One record a block: the newest. `found` is then ordered from new to old.
void DiskTier::KeepNewest(std::vector<Found>& found, DiskRecovery& recovery) {
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tuple(a.record.header.sequence, a.segment, a.record.place) >
           std::tuple(b.record.header.sequence, b.segment, b.record.place);
  });
  absl::flat_hash_map<BlockDigest, bool> seen;
  const auto is_older = [&](const Found& entry) {
    return !seen.try_emplace(entry.record.header.identity.digest, true).second;
  };
  const auto end = std::remove_if(found.begin(), found.end(), is_older);
  recovery.duplicate += found.end() - end;
  found.erase(end, found.end());
}

// Whole segments, those with the fewest records first, until the files keep the limit and leave
// room for compaction.
void DiskTier::RemoveOverLimit(std::vector<Found>& found) {
  absl::flat_hash_map<uint64_t, int32_t> live;
  for (const Found& entry : found) ++live[entry.segment];
  MutexLock lock(&mutex_);
  std::vector<std::pair<int32_t, uint64_t>> by_worth;
  for (const auto& [number, segment] : segments_) by_worth.emplace_back(live[number], number);
  std::sort(by_worth.begin(), by_worth.end());
  std::set<uint64_t> removed_segments;
  for (const auto& [records, number] : by_worth) {
    if (records > 0 && num_files() < num_segments_max_) break;
    const auto segment = segments_.find(number);
    if (absl::Status removed = segment->second->file->Remove(directory_fd_); !removed.ok()) {
      Warn(std::string(removed.message()));
      ++num_stuck_;
    }
    ++recovery_.segments_removed;
    segments_.erase(segment);
    removed_segments.insert(number);
  }
  const auto is_removed = [&](const Found& entry) {
    return removed_segments.contains(entry.segment);
  };
  const auto end = std::remove_if(found.begin(), found.end(), is_removed);
  recovery_.over_capacity += found.end() - end;
  found.erase(end, found.end());
}

absl::Status DiskTier::Adopt(std::vector<Found>& found) {
  std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return a.record.header.identity.depth < b.record.header.identity.depth;
  });
  MutexLock lock(&mutex_);
  slots_.resize(static_cast<size_t>(capacity_));
  for (size_t i = 0; i < found.size(); ++i) {
    const RecordHeader& header = found[i].record.header;
    const TierSlot slot{static_cast<int32_t>(i)};
    Segment& segment = *segments_.at(found[i].segment);
    segment.slots[static_cast<size_t>(found[i].record.place)] = slot;
    ++segment.live;
    slots_[i] = {.state = SlotState::kStored,
                 .place = found[i].record.place,
                 .segment = found[i].segment,
                 .checksum = header.payload_checksum,
                 .digest = header.identity.digest};
    recovered_.push_back({.slot = slot, .identity = header.identity});
  }
  for (int64_t slot = capacity_; slot-- > static_cast<int64_t>(found.size());) {
    free_.push_back(TierSlot{static_cast<int32_t>(slot)});
  }
  for (const auto& [number, segment] : segments_) {
    is_direct_ = is_direct_ && segment->file->is_direct();
    has_dead_ = has_dead_ || IsDead(*segment);
    // All files have one size, also those that were cut off or made under other settings.
    ASSIGN_OR_RETURN(const int64_t bytes, segment->file->Bytes());
    if (bytes != segment_bytes_) RETURN_IF_ERROR(segment->file->Resize(segment_bytes_));
  }
  return absl::OkStatus();
}

absl::Status DiskTier::Recover(std::span<const uint64_t> numbers) {
  std::vector<Found> found;
  RETURN_IF_ERROR(ScanSegments(numbers, found));
  KeepNewest(found, recovery_);
  RemoveOverLimit(found);
  if (static_cast<int64_t>(found.size()) > capacity_) {
    recovery_.over_capacity += static_cast<int64_t>(found.size()) - capacity_;
    found.resize(static_cast<size_t>(capacity_));
  }
  RETURN_IF_ERROR(Adopt(found));
  RemoveDead();
  return absl::OkStatus();
}

}  // namespace holdfast
