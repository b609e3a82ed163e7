// What each tenant has used, by the hour, in a SQLite file: rows that only grow until they are old,
// which `holdfast usage` sums up (usage_report.h).
//
//   counters of this process ── Add, now and then: what they have grown by ──► row of the hour
//
// What an Add has kept is kept and never added again: it is taken off only once the transaction is
// committed. So a process that is killed loses what came after its last Add, and nothing twice: the
// next one counts from 0. Where the disk fails, the next Add brings it all.
//
// Hours are UTC's, by the date when it is added.
//
// An hour that is too old goes whole, all tenants' rows at once: a sum never has a part of it.
//
// Thread: one at a time.    Bound: a row for each hour and tenant that used something, and one for
// each reason of its refusals, of the hours that DeleteOld leaves.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "server/database.h"

namespace holdfast {

// The columns of a row; docs/usage.md says what each counts.
inline constexpr std::array<std::string_view, 10> kUsageColumns = {
    "requests",        "ok",
    "cancelled",       "timed_out",
    "failed",          "prompt_tokens",
    "cached_tokens",   "completion_tokens",
    "kv_byte_seconds", "compute_us"};
enum class UsageColumn : uint8_t {
  kRequests,
  kOk,
  kCancelled,
  kTimedOut,
  kFailed,
  kPromptTokens,
  kCachedTokens,
  kCompletionTokens,
  kKvByteSeconds,
  kComputeMicroseconds,
};

// Why requests were refused: the scheduler's ShedReason by its name, and what the server adds.
inline constexpr std::array<std::string_view, 10> kRefusalReasons = {
    "capacity",     "queue",      "tenant_queue", "queue_share", "queue_wait",
    "request_rate", "token_rate", "texts",        "invalid",     "unavailable"};

// That one DeleteOld deletes at most, so that a ledger that was kept for long before holds nobody
// up.
inline constexpr int kUsageHoursDeletedMax = 24;

// Of one tenant, since the process began: each only grows.
struct UsageTotals {
  std::array<int64_t, kUsageColumns.size()> counts{};
  std::array<int64_t, kRefusalReasons.size()> refusals{};

  int64_t& operator[](UsageColumn column) { return counts[static_cast<size_t>(column)]; }
  bool operator==(const UsageTotals&) const = default;
};

class UsageLedger final {
 public:
  // `clock` tells the date and must outlive this. `tenants`: names, by TenantIndex. Several daemons
  // may write to one file.
  static absl::StatusOr<std::unique_ptr<UsageLedger>> Open(const std::string& path,
                                                           std::vector<std::string> tenants,
                                                           const Clock& clock);

  UsageLedger(std::unique_ptr<Database> database, std::vector<std::string> tenants,
              const Clock& clock)
      : database_(std::move(database)),
        tenants_(std::move(tenants)),
        clock_(clock),
        kept_(tenants_.size()) {}

  // Keeps what `totals`, by TenantIndex, have grown by since the last Add that was OK: all of it,
  // or, with an error, nothing.
  absl::Status Add(std::span<const UsageTotals> totals);

  // Deletes hours that began more than `keep`, an hour or more, before this one, the oldest first;
  // with an error, those that come before the fault.
  absl::Status DeleteOld(absl::Duration keep);

  const std::vector<std::string>& tenants() const { return tenants_; }
  // New ones behind those that there are: `names` has all.
  void SetTenants(std::vector<std::string> names) {
    tenants_ = std::move(names);
    kept_.resize(tenants_.size());
  }

 private:
  absl::Status AddOf(size_t tenant, int64_t hour, const UsageTotals& totals);
  int64_t ThisHour() const;  // its beginning, in Unix seconds
  absl::StatusOr<std::optional<int64_t>> OldestHour();
  absl::Status DeleteHour(int64_t hour);

  const std::unique_ptr<Database> database_;
  std::vector<std::string> tenants_;
  const Clock& clock_;
  std::vector<UsageTotals> kept_;  // by tenant; as of the last Add that was OK
};

}  // namespace holdfast
