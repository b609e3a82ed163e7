#include "kvstore/disk_io_threads.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "config/base/check.h"

namespace holdfast {
namespace {

// More threads than this cost more in switching than they gain in depth.
constexpr int32_t kThreadsMax = 16;

void RunToEnd(DiskTransfer& transfer) {
  int64_t result = 0;
  do {
    result =
        transfer.kind == DiskTransfer::Kind::kRead
            ? preadv(transfer.fd, transfer.pieces.data(), transfer.num_pieces, transfer.offset)
            : pwritev(transfer.fd, transfer.pieces.data(), transfer.num_pieces, transfer.offset);
    if (result < 0) result = -errno;
  } while (!AdvanceDiskTransfer(transfer, result));
}

}  // namespace

std::unique_ptr<DiskIo> DiskIoThreads::Create(int32_t depth) {
  CHECK(depth > 0);
  return std::unique_ptr<DiskIo>(new DiskIoThreads(std::min(depth, kThreadsMax)));
}

DiskIoThreads::DiskIoThreads(int32_t num_threads) {
  for (int32_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
}

DiskIoThreads::~DiskIoThreads() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    has_task_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void DiskIoThreads::Run(std::span<DiskTransfer> transfers) {
  Batch batch{.unfinished = transfers.size()};
  MutexLock lock(&mutex_);
  for (DiskTransfer& transfer : transfers) {
    tasks_.push_back({.transfer = &transfer, .batch = &batch});
    has_task_.NotifyOne();
  }
  while (batch.unfinished > 0) has_finished_.Wait(&mutex_);
}

void DiskIoThreads::Work() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mutex_);
      while (tasks_.empty() && !stopping_) has_task_.Wait(&mutex_);
      if (tasks_.empty()) return;
      task = tasks_.front();
      tasks_.pop_front();
    }
    RunToEnd(*task.transfer);
    MutexLock lock(&mutex_);
    if (--task.batch->unfinished == 0) has_finished_.NotifyAll();
  }
}

}  // namespace holdfast
