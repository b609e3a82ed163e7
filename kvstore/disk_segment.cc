#include "kvstore/disk_segment.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "absl/strings/str_format.h"
#include "config/base/concat.h"
#include "config/base/page_buffer.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

constexpr std::string_view kPrefix = "segment-";
constexpr std::string_view kSuffix = ".hfkv";
constexpr size_t kDigits = 16;
constexpr int32_t kScanBatch = 256;  // header pages read at a time: 1 MiB
// No KV block is larger; bounds what a header of another model can make us step over.
constexpr uint64_t kPayloadBytesMax = uint64_t{1} << 32;

// Direct if the file system can; `is_direct` says which.
int OpenFile(int directory_fd, const std::string& name, int flags, bool& is_direct) {
  flags |= O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  int fd = openat(directory_fd, name.c_str(), flags | O_DIRECT, 0600);
  is_direct = fd >= 0;
  // Without O_EXCL: some file systems make the file before they refuse direct I/O.
  if (fd < 0 && errno == EINVAL) fd = openat(directory_fd, name.c_str(), flags & ~O_EXCL, 0600);
  return fd;
}

// Takes the room now. File systems without fallocate promise nothing: there a later write may fail.
int Preallocate(int fd, int64_t bytes) {
  while (fallocate(fd, 0, 0, bytes) != 0) {
    if (errno == EINTR) continue;
    if (errno != EOPNOTSUPP) return errno;
    return ftruncate(fd, bytes) == 0 ? 0 : errno;
  }
  return 0;
}

}  // namespace

std::string SegmentFileName(uint64_t number) {
  return absl::StrFormat("%s%016x%s", AbslView(kPrefix), number, AbslView(kSuffix));
}

std::optional<uint64_t> ParseSegmentFileName(std::string_view name) {
  if (name.size() != kPrefix.size() + kDigits + kSuffix.size()) return std::nullopt;
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size(), kDigits);
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (SegmentFileName(number) != name) return std::nullopt;  // upper case is somebody else's
  return number;
}

absl::StatusOr<std::unique_ptr<SegmentFile>> SegmentFile::Create(int directory_fd, uint64_t number,
                                                                 int64_t bytes) {
  const std::string name = SegmentFileName(number);
  bool is_direct = false;
  const int fd = OpenFile(directory_fd, name, O_CREAT | O_EXCL, is_direct);
  if (fd < 0) return DiskError(Concat("making the file ", name), errno);
  auto file = std::unique_ptr<SegmentFile>(new SegmentFile(number, fd, is_direct));
  if (const int error = Preallocate(fd, bytes); error != 0) {
    file->Remove(directory_fd).IgnoreError();
    return DiskError(Concat("giving the file ", name, " its ", bytes, " bytes"), error);
  }
  return file;
}

absl::StatusOr<std::unique_ptr<SegmentFile>> SegmentFile::Open(int directory_fd, uint64_t number) {
  const std::string name = SegmentFileName(number);
  struct stat info {};
  if (fstatat(directory_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return DiskError(Concat("opening ", name), errno);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(Concat(name, " is not a regular file"));
  }
  bool is_direct = false;
  const int fd = OpenFile(directory_fd, name, 0, is_direct);
  if (fd < 0) return DiskError(Concat("opening ", name), errno);
  return std::unique_ptr<SegmentFile>(new SegmentFile(number, fd, is_direct));
}

SegmentFile::~SegmentFile() { close(fd_); }

absl::StatusOr<int64_t> SegmentFile::Bytes() const {
  struct stat info {};
  if (fstat(fd_, &info) != 0) {
    return DiskError(Concat("asking the size of ", SegmentFileName(number_)), errno);
  }
  return info.st_size;
}

absl::Status SegmentFile::Resize(int64_t bytes) {
  if (ftruncate(fd_, bytes) == 0) return absl::OkStatus();
  return DiskError(Concat("resizing ", SegmentFileName(number_)), errno);
}

absl::Status SegmentFile::Sync() {
  if (fdatasync(fd_) == 0) return absl::OkStatus();
  return DiskError(Concat("syncing ", SegmentFileName(number_)), errno);
}

absl::Status SegmentFile::Remove(int directory_fd) {
  const std::string name = SegmentFileName(number_);
  // Gone already, by an operator's hand: its room comes back all the same, and must be counted so.
  if (unlinkat(directory_fd, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  return DiskError(Concat("removing ", name), errno);
}

absl::Status ScanSegment(DiskIo& io, const SegmentFile& file, const RecordShape& shape,
                         const LayoutDigest& layout, std::vector<ScannedRecord>& found,
                         ScanCounts& counts) {
  ASSIGN_OR_RETURN(const int64_t file_bytes, file.Bytes());
  const int64_t record_bytes = static_cast<int64_t>(shape.record_bytes());
  const int64_t page = static_cast<int64_t>(kDiskPageBytes);
  // A last record that was cut off has its header counted as torn.
  const int64_t num_places = file_bytes / record_bytes + (file_bytes % record_bytes >= page);
  std::optional<PageBuffer> pages = PageBuffer::Map(kScanBatch * kDiskPageBytes);
  if (!pages.has_value()) return absl::ResourceExhaustedError("no memory to scan segments with");
  std::vector<DiskTransfer> transfers;
  for (int64_t first = 0; first < num_places; first += kScanBatch) {
    const int64_t count = std::min<int64_t>(kScanBatch, num_places - first);
    transfers.clear();
    for (int64_t i = 0; i < count; ++i) {
      DiskTransfer& transfer = transfers.emplace_back();
      transfer.fd = file.fd();
      transfer.offset = (first + i) * record_bytes;
      transfer.Add(pages->data() + i * page, kDiskPageBytes);
    }
    io.Run(transfers);
    for (int64_t i = 0; i < count; ++i) {
      if (!transfers[static_cast<size_t>(i)].status.ok()) {  // unreadable is as good as torn
        ++counts.torn;
        continue;
      }
      ScannedRecord record{.place = static_cast<int32_t>(first + i)};
      const std::span<const std::byte> header(pages->data() + i * page, kDiskPageBytes);
      switch (DecodeRecordHeader(header, layout, record.header)) {
        case RecordVerdict::kEmpty:
          break;
        case RecordVerdict::kTorn:
          ++counts.torn;
          break;
        case RecordVerdict::kOtherVersion:
          ++counts.other_version;
          break;
        case RecordVerdict::kOtherLayout: {
          // Of another size too: the file is another model's, to be read in its own steps.
          const uint64_t payload = record.header.payload_bytes;
          const RecordShape other{.block_bytes = static_cast<size_t>(payload)};
          if (first + i == 0 && payload <= kPayloadBytesMax &&
              other.record_bytes() != shape.record_bytes()) {
            std::vector<ScannedRecord> not_ours;
            ScanCounts in_steps;
            RETURN_IF_ERROR(ScanSegment(io, file, other, layout, not_ours, in_steps));
            counts.torn += in_steps.torn;
            counts.other_version += in_steps.other_version;
            counts.other_layout += in_steps.other_layout + in_steps.good;
            return absl::OkStatus();
          }
          ++counts.other_layout;
          break;
        }
        case RecordVerdict::kGood: {
          const bool is_whole = (first + i + 1) * record_bytes <= file_bytes;
          if (!is_whole || record.header.payload_bytes != shape.block_bytes) {
            ++counts.torn;
            break;
          }
          ++counts.good;
          found.push_back(record);
          break;
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace holdfast
