// Writes what the tenants use to the ledger every so often, and deletes there what is too old, from
// a thread of its own: the disk holds nobody up.
//
// Thread: any.    Bound: one Add at a time; kUsageAsksMax questions, kUsageAsksOfOneMax of a
// tenant.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "config/base/metrics.h"
#include "server/usage_ask.h"
#include "server/usage_ledger.h"

namespace holdfast {

inline constexpr size_t kUsageAsksMax = 64;
inline constexpr size_t kUsageAsksOfOneMax = 4;  // so that one who asks a lot leaves others room

struct UsageOptions {
  absl::Duration flush;                            // between two writes
  absl::Duration keep = absl::InfiniteDuration();  // after which an hour is deleted
  // The disk failed, after all was well; or, OK, all is well again. On the service's thread.
  std::function<void(const absl::Status&)> on_change;
  // Reads the ledger. On the service's thread, which writes nothing meanwhile: it must be bounded.
  std::function<absl::StatusOr<std::string>(const UsageAsk&)> answer;
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

  // `done` gets what options.answer has, on the service's thread; kUnavailable: the service ended
  // before. False: too many wait, of this tenant or in all.
  using Done = std::function<void(absl::StatusOr<std::string>)>;
  bool Ask(UsageAsk ask, Done done) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Question {
    UsageAsk ask;
    Done done;
  };

  void Loop() noexcept;
  void Write() ABSL_LOCKS_EXCLUDED(mutex_);
  void RefuseAll() ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !questions_.empty();
  }

  const std::unique_ptr<UsageLedger> ledger_;
  const ReadTotals read_;
  const UsageOptions options_;
  bool failing_ = false;  // the thread's
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::vector<std::string>> tenants_ ABSL_GUARDED_BY(mutex_);  // for the ledger
  std::deque<Question> questions_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// Reads the counters of the scheduler and of generation, which `registry` has or gets.
UsageService::ReadTotals UsageCounters(MetricsRegistry& registry, const std::string& model);

}  // namespace holdfast
