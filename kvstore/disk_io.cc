#include "kvstore/disk_io.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "config/base/concat.h"
#include "kvstore/disk_io_threads.h"
#include "kvstore/disk_io_uring.h"

namespace holdfast {

absl::StatusOr<std::unique_ptr<DiskIo>> MakeDiskIo(DiskIoKind kind, int32_t depth) {
  if (kind != DiskIoKind::kThreads) {
    absl::StatusOr<std::unique_ptr<DiskIo>> uring = DiskIoUring::Create(depth);
    if (uring.ok() || kind == DiskIoKind::kUring) return uring;
  }
  return DiskIoThreads::Create(depth);
}

bool AdvanceDiskTransfer(DiskTransfer& transfer, int64_t result) {
  if (result == -EINTR || result == -EAGAIN) return false;
  const bool is_read = transfer.kind == DiskTransfer::Kind::kRead;
  if (result < 0) {
    transfer.status =
        DiskError(is_read ? "reading a block" : "writing a block", static_cast<int>(-result));
    return true;
  }
  if (result == 0) {
    transfer.status = is_read ? absl::DataLossError("the file ends in the middle of a block")
                              : absl::UnavailableError("the medium takes no more bytes");
    return true;
  }
  transfer.offset += result;
  size_t done = static_cast<size_t>(result);
  int32_t left = 0;  // pieces that are not done move to the front
  for (int32_t i = 0; i < transfer.num_pieces; ++i) {
    iovec piece = transfer.pieces[static_cast<size_t>(i)];
    const size_t part = std::min(done, piece.iov_len);
    done -= part;
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + part;
    piece.iov_len -= part;
    if (piece.iov_len > 0) transfer.pieces[static_cast<size_t>(left++)] = piece;
  }
  transfer.num_pieces = left;
  if (left > 0) return false;
  transfer.status = absl::OkStatus();
  return true;
}

absl::Status DiskError(std::string_view what, int error) {
  const std::string message =
      Concat(what, ": ", std::error_code(error, std::generic_category()).message());
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

}  // namespace holdfast
