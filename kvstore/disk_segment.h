// One file of the disk tier: places for records of one size, filled from the front, never written
// twice.
//
//   segment-000000000000002a.hfkv
//   │ header page │ payload, padded │ header page │ payload, padded │ ... │ places never written │
//     4096 bytes    whole pages
//
// A segment has its full size from the start (fallocate): running out of disk is seen when it is
// made and not in the middle of a block, and the tier's size limit is a number of files.
// Header and payload of a record are written by one call; whether both arrived is seen by their
// checksums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvstore/block_record.h"
#include "kvstore/disk_io.h"

namespace holdfast {

struct RecordShape {
  size_t block_bytes = 0;

  size_t payload_bytes() const {  // in whole pages
    return (block_bytes + kDiskPageBytes - 1) / kDiskPageBytes * kDiskPageBytes;
  }
  size_t record_bytes() const { return kDiskPageBytes + payload_bytes(); }
  int64_t offset(int32_t place) const {
    return static_cast<int64_t>(place) * static_cast<int64_t>(record_bytes());
  }
};

std::string SegmentFileName(uint64_t number);
std::optional<uint64_t> ParseSegmentFileName(std::string_view name);  // nullopt: not one of ours

class SegmentFile final {
 public:
  // A new file of `bytes`, which must not exist. Undone if it cannot have them.
  static absl::StatusOr<std::unique_ptr<SegmentFile>> Create(int directory_fd, uint64_t number,
                                                             int64_t bytes);
  // kFailedPrecondition: the name is there, but is no regular file.
  static absl::StatusOr<std::unique_ptr<SegmentFile>> Open(int directory_fd, uint64_t number);
  ~SegmentFile();  // closes
  SegmentFile(const SegmentFile&) = delete;

  uint64_t number() const { return number_; }
  int fd() const { return fd_; }
  bool is_direct() const { return is_direct_; }  // false: this file system knows no direct I/O

  absl::StatusOr<int64_t> Bytes() const;
  absl::Status Resize(int64_t bytes);
  absl::Status Sync();
  absl::Status Remove(int directory_fd);  // its name; the room is back when it is closed

 private:
  SegmentFile(uint64_t number, int fd, bool is_direct)
      : number_(number), fd_(fd), is_direct_(is_direct) {}

  const uint64_t number_;
  const int fd_;
  const bool is_direct_;
};

struct ScannedRecord {
  int32_t place = 0;
  RecordHeader header;
};

struct ScanCounts {  // in records
  int64_t good = 0, torn = 0, other_version = 0, other_layout = 0;
};

// Reads the headers of all places and appends the good records to `found`; payloads are proven when
// they are fetched. A file of another record size is counted and gives none.
absl::Status ScanSegment(DiskIo& io, const SegmentFile& file, const RecordShape& shape,
                         const LayoutDigest& layout, std::vector<ScannedRecord>& found,
                         ScanCounts& counts);

}  // namespace holdfast
