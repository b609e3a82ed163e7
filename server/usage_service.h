// Writes what the tenants use to the ledger every so often, from a thread of its own: the disk
// holds nobody up.
//
// Thread: any.    Bound: one Add at a time; kUsageTasksMax tasks.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "server/usage_ledger.h"

namespace holdfast {

inline constexpr size_t kUsageTasksMax = 64;

struct UsageOptions {
  absl::Duration flush;  // between two writes
  // The disk failed, after all was well; or, OK, all is well again. On the service's thread.
  std::function<void(const absl::Status&)> on_change;
};

class UsageService final {
 public:
  // Of the ledger's tenants.
  using ReadTotals = std::function<std::vector<UsageTotals>(const std::vector<std::string>&)>;

  UsageService(std::unique_ptr<UsageLedger> ledger, ReadTotals read, UsageOptions options);
  ~UsageService();  // after a last write
  UsageService(const UsageService&) = delete;

  // New ones behind those that there are: `names` has all. From the next write on.
  void SetTenants(std::vector<std::string> names) ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs `task`, which reads the ledger, on the service's thread. False: too many wait.
  bool Ask(std::function<void()> task) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Loop() noexcept;
  void Write() ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !tasks_.empty();
  }

  const std::unique_ptr<UsageLedger> ledger_;
  const ReadTotals read_;
  const UsageOptions options_;
  bool failing_ = false;  // the thread's
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::vector<std::string>> tenants_ ABSL_GUARDED_BY(mutex_);  // for the ledger
  std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// Reads the counters of the scheduler and of generation, which `registry` has or gets.
UsageService::ReadTotals UsageCounters(MetricsRegistry& registry, const std::string& model);

}  // namespace holdfast
