// `holdfast usage`: sums of the usage ledger, also while a daemon writes to it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/command_line.h"
#include "server/usage_ask.h"
#include "server/usage_ledger.h"

namespace holdfast {

inline constexpr int64_t kUsageRowsMax = 10'000;  // of an answer over HTTP

enum class UsageBy : uint8_t { kTenant, kDay, kHour };  // the latter two by tenant as well

struct UsageQuery {
  std::optional<int64_t> from, to;  // Unix seconds; hours that begin before `to`
  std::optional<std::string> tenant;
  UsageBy by = UsageBy::kTenant;
  int64_t rows_max = int64_t{1} << 40;
};

struct UsageRow {
  int64_t begin = 0;  // of the day or the hour, in Unix seconds
  std::string tenant;
  std::array<double, kUsageColumns.size()> counts{};  // exact to 2^53
  std::map<std::string, int64_t> refusals;            // by reason
};

// By time, then by name. kNotFound: there is no ledger. kInvalidArgument: it would be more rows
// than query.rows_max.
absl::StatusOr<std::vector<UsageRow>> ReadUsage(const std::string& path, const UsageQuery& query);

std::string FormatUsageTable(const std::vector<UsageRow>& rows, UsageBy by);
// Cells as RFC 4180 has them; one that a spreadsheet would take for a formula gets a `'` in front.
std::string FormatUsageCsv(const std::vector<UsageRow>& rows, UsageBy by);
std::string FormatUsageJson(const std::vector<UsageRow>& rows, UsageBy by);

// What `ask` wants, as FormatUsageJson has it, in one line. kInvalidArgument: not such a query, or
// more than kUsageRowsMax rows.
absl::StatusOr<std::string> UsageAsJson(const std::string& path, const UsageAsk& ask);

// Prints what `line` asks for. `path` empty: no ledger was named.
absl::Status RunUsage(const CommandLine& line, const std::string& path);

}  // namespace holdfast
