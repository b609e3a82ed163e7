#include "server/usage_ledger.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/time/time.h"
#include "config/base/check.h"
#include "config/base/status_macros.h"

namespace holdfast {
namespace {

// `hour`: its beginning, in Unix seconds.
constexpr char kSchema[] = R"sql(
CREATE TABLE usage (
  hour INTEGER NOT NULL, tenant TEXT NOT NULL,
  requests INTEGER NOT NULL, ok INTEGER NOT NULL, cancelled INTEGER NOT NULL,
  timed_out INTEGER NOT NULL, failed INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  kv_byte_seconds INTEGER NOT NULL, compute_us INTEGER NOT NULL,
  PRIMARY KEY (hour, tenant)) WITHOUT ROWID;
CREATE TABLE usage_refusals (
  hour INTEGER NOT NULL, tenant TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (hour, tenant, reason)) WITHOUT ROWID;
)sql";

constexpr char kAddUsage[] = R"sql(
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (hour, tenant) DO UPDATE SET
  requests = requests + excluded.requests, ok = ok + excluded.ok,
  cancelled = cancelled + excluded.cancelled, timed_out = timed_out + excluded.timed_out,
  failed = failed + excluded.failed, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
  cached_tokens = cached_tokens + excluded.cached_tokens,
  completion_tokens = completion_tokens + excluded.completion_tokens,
  kv_byte_seconds = kv_byte_seconds + excluded.kv_byte_seconds,
  compute_us = compute_us + excluded.compute_us)sql";

constexpr char kAddRefusals[] = R"sql(
INSERT INTO usage_refusals VALUES (?, ?, ?, ?)
ON CONFLICT (hour, tenant, reason) DO UPDATE SET count = count + excluded.count)sql";

}  // namespace

absl::StatusOr<std::unique_ptr<UsageLedger>> UsageLedger::Open(const std::string& path,
                                                               std::vector<std::string> tenants,
                                                               const Clock& clock) {
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database,
                   Database::Open(path, kSchema, DatabaseUse::kShared));
  return std::make_unique<UsageLedger>(std::move(database), std::move(tenants), clock);
}

absl::Status UsageLedger::Add(std::span<const UsageTotals> totals) {
  CHECK(totals.size() == kept_.size());
  if (std::equal(totals.begin(), totals.end(), kept_.begin())) return absl::OkStatus();
  const int64_t hour = ThisHour();
  Transaction transaction(*database_);
  RETURN_IF_ERROR(transaction.status());
  for (size_t i = 0; i < totals.size(); ++i) {
    if (totals[i] != kept_[i]) RETURN_IF_ERROR(AddOf(i, hour, totals[i]));
  }
  RETURN_IF_ERROR(transaction.Commit());
  kept_.assign(totals.begin(), totals.end());
  return absl::OkStatus();
}

absl::Status UsageLedger::AddOf(size_t tenant, int64_t hour, const UsageTotals& totals) {
  const UsageTotals& kept = kept_[tenant];
  const std::string& name = tenants_[tenant];
  std::array<int64_t, kUsageColumns.size()> grown{};
  for (size_t i = 0; i < grown.size(); ++i) grown[i] = totals.counts[i] - kept.counts[i];
  RETURN_IF_ERROR(std::apply(
      [&](const auto&... values) { return database_->Run(kAddUsage, hour, name, values...); },
      grown));
  for (size_t i = 0; i < kRefusalReasons.size(); ++i) {
    const int64_t refused = totals.refusals[i] - kept.refusals[i];
    if (refused == 0) continue;
    RETURN_IF_ERROR(database_->Run(kAddRefusals, hour, name, kRefusalReasons[i], refused));
  }
  return absl::OkStatus();
}

int64_t UsageLedger::ThisHour() const {
  const int64_t now = absl::ToUnixSeconds(clock_.Now());
  return now - now % 3600;
}

absl::StatusOr<std::optional<int64_t>> UsageLedger::OldestHour() {
  std::optional<int64_t> oldest;
  ASSIGN_OR_RETURN(Rows rows, database_->Query("SELECT min(hour) FROM usage"));
  if (rows.Next()) oldest = rows.MaybeInteger(0);
  RETURN_IF_ERROR(rows.status());
  return oldest;
}

absl::Status UsageLedger::DeleteOld(absl::Duration keep) {
  CHECK(keep >= absl::Hours(1));
  if (keep == absl::InfiniteDuration()) return absl::OkStatus();
  const int64_t first_kept = ThisHour() - absl::ToInt64Seconds(keep);
  for (int i = 0; i < kUsageHoursDeletedMax; ++i) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> oldest, OldestHour());
    if (!oldest || *oldest >= first_kept) break;
    RETURN_IF_ERROR(DeleteHour(*oldest));
  }
  return absl::OkStatus();
}

// Each refusal's row has one of `usage` beside it (AddOf), by which it is found.
absl::Status UsageLedger::DeleteHour(int64_t hour) {
  Transaction transaction(*database_);
  RETURN_IF_ERROR(transaction.status());
  RETURN_IF_ERROR(database_->Run("DELETE FROM usage WHERE hour = ?", hour));
  RETURN_IF_ERROR(database_->Run("DELETE FROM usage_refusals WHERE hour = ?", hour));
  return transaction.Commit();
}

}  // namespace holdfast
