// Reads and writes of files, many at once: the small seam under the disk tier. Two sides: io_uring
// (disk_io_uring.h), and threads that call pread and pwrite (disk_io_threads.h) where the kernel
// has no io_uring or forbids it (containers often do).
//
// Thread: any, several at once.    Bound: `depth` transfers of one call are at work at a time.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace holdfast {

// One contiguous place of a file, gathered from or scattered to up to three pieces of memory. For
// direct I/O the offset and all pieces are multiples of kDiskPageBytes.
struct DiskTransfer {
  enum class Kind : uint8_t { kRead, kWrite };
  Kind kind = Kind::kRead;
  int fd = -1;
  int64_t offset = 0;
  std::array<iovec, 3> pieces{};
  int32_t num_pieces = 0;
  // Filled by Run. kDataLoss: the file ends before the place does. kResourceExhausted: no room.
  // kUnavailable: the medium fails.
  absl::Status status;

  void Add(void* data, size_t bytes) {
    pieces[static_cast<size_t>(num_pieces++)] = {.iov_base = data, .iov_len = bytes};
  }
};

// The unit of direct I/O that all common media take (512 and 4096 are their sectors).
inline constexpr size_t kDiskPageBytes = 4096;

class DiskIo {
 public:
  virtual ~DiskIo() = default;
  virtual std::string_view name() const = 0;
  // Does all transfers, in any order, and returns when they are done. They are independent: each
  // has its own status. Changes their pieces.
  virtual void Run(std::span<DiskTransfer> transfers) = 0;
};

enum class DiskIoKind : uint8_t { kAuto, kUring, kThreads };

// kAuto tries io_uring and takes threads if the kernel refuses. `depth`: transfers at work at a
// time. kUnavailable: io_uring was asked for and the kernel has none for us.
absl::StatusOr<std::unique_ptr<DiskIo>> MakeDiskIo(DiskIoKind kind, int32_t depth);

// For the implementations: counts `result` (bytes, or a negative errno) in. True: the transfer is
// finished and its status set; false: the rest of it has to be run.
bool AdvanceDiskTransfer(DiskTransfer& transfer, int64_t result);

// "wanted to do `what`: strerror", with the code by DiskTransfer::status's rule.
absl::Status DiskError(std::string_view what, int error);

}  // namespace holdfast
