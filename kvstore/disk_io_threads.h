// DiskIo by threads that call preadv and pwritev: as many transfers at work as there are threads,
// shared by all callers.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "config/base/mutex.h"
#include "kvstore/disk_io.h"

namespace holdfast {

class DiskIoThreads final : public DiskIo {
 public:
  static std::unique_ptr<DiskIo> Create(int32_t depth);
  ~DiskIoThreads() override;

  std::string_view name() const override { return "threads"; }
  void Run(std::span<DiskTransfer> transfers) override;

 private:
  struct Batch {  // one call of Run
    size_t unfinished = 0;
  };
  struct Task {
    DiskTransfer* transfer = nullptr;
    Batch* batch = nullptr;
  };

  explicit DiskIoThreads(int32_t num_threads);
  void Work();

  Mutex mutex_;
  CondVar has_task_, has_finished_;
  // Bounded by the callers: each waits for its own batch.
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace holdfast
