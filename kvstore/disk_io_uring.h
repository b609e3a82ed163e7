// DiskIo by io_uring: one ring for each call at work, kept for the next one. A caller fills its
// ring up to the depth, waits for the first completions, and refills; no thread of our own.
//
// Source: io_uring (Jens Axboe), through liburing.
#pragma once

#include <memory>
#include <vector>

#include "config/base/mutex.h"
#include "kvstore/disk_io.h"

namespace holdfast {

class DiskIoUring final : public DiskIo {
 public:
  static absl::StatusOr<std::unique_ptr<DiskIo>> Create(int32_t depth);
  ~DiskIoUring() override;

  std::string_view name() const override { return "io_uring"; }
  void Run(std::span<DiskTransfer> transfers) override;

 private:
  struct Ring;
  explicit DiskIoUring(int32_t depth);
  std::unique_ptr<Ring> TakeRing();
  void GiveRing(std::unique_ptr<Ring> ring);

  const int32_t depth_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Ring>> idle_ ABSL_GUARDED_BY(mutex_);  // one a caller at most
};

}  // namespace holdfast
