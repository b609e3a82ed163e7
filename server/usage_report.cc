#include "server/usage_report.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/workload_arguments.h"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 3> kBys = {"tenant", "day", "hour"};
constexpr std::array<std::string_view, 3> kPeriods = {"0", "hour - hour % 86400", "hour"};
constexpr std::string_view kWhere =
    " WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR tenant = ?3) GROUP BY 1, 2";
constexpr std::string_view kLimit = " LIMIT ?4";

double MicrosecondsToSeconds(double microseconds) { return microseconds / 1e6; }

bool IsComputeTime(size_t column) {
  return static_cast<UsageColumn>(column) == UsageColumn::kComputeMicroseconds;
}

// As it is shown, where seconds have a fraction.
std::string_view ShownName(size_t column) {
  return IsComputeTime(column) ? "compute_seconds" : kUsageColumns[column];
}

std::string TimeText(int64_t unix_seconds, UsageBy by) {
  return absl::FormatTime(by == UsageBy::kDay ? "%Y-%m-%d" : "%Y-%m-%dT%H:00:00Z",
                          absl::FromUnixSeconds(unix_seconds), absl::UTCTimeZone());
}

int64_t Refused(const UsageRow& row) {
  int64_t all = 0;
  for (const auto& [reason, count] : row.refusals) all += count;
  return all;
}

std::string CsvCell(std::string_view text) {
  const bool is_formula =
      !text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos;
  const std::string cell = Concat(is_formula ? "'" : "", text);
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  return Concat("\"", absl::StrReplaceAll(cell, {{"\"", "\"\""}}), "\"");
}

absl::StatusOr<std::optional<int64_t>> HourOf(const std::string* text, std::string_view flag) {
  if (text == nullptr) return std::nullopt;
  for (const char* form : {"%Y-%m-%dT%H", "%Y-%m-%d"}) {
    absl::Time time;
    if (absl::ParseTime(form, *text, &time, nullptr)) return absl::ToUnixSeconds(time);
  }
  return absl::InvalidArgumentError(Concat(
      flag, ": wanted a UTC hour as 2026-11-30T17, or a day as 2026-11-30, found `", *text, "`"));
}

absl::StatusOr<size_t> ChoiceOf(const std::string* text, std::string_view flag,
                                std::span<const std::string_view> choices) {
  if (text == nullptr) return size_t{0};
  const auto found = std::find(choices.begin(), choices.end(), *text);
  if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  return absl::InvalidArgumentError(
      Concat(flag, ": wanted ", ConcatList(choices, " | "), ", found `", *text, "`"));
}

absl::StatusOr<UsageQuery> QueryOf(const VerbArguments& arguments) {
  UsageQuery query;
  ASSIGN_OR_RETURN(query.from, HourOf(arguments.Find("--from"), "--from"));
  ASSIGN_OR_RETURN(query.to, HourOf(arguments.Find("--to"), "--to"));
  if (const std::string* tenant = arguments.Find("--tenant")) query.tenant = *tenant;
  ASSIGN_OR_RETURN(const size_t by, ChoiceOf(arguments.Find("--by"), "--by", kBys));
  query.by = static_cast<UsageBy>(by);
  return query;
}

}  // namespace

absl::StatusOr<std::vector<UsageRow>> ReadUsage(const std::string& path, const UsageQuery& query) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Database> database, Database::OpenToRead(path));
  const int64_t from = query.from.value_or(std::numeric_limits<int64_t>::min());
  const int64_t to = query.to.value_or(std::numeric_limits<int64_t>::max());
  // Whoever has refusals in an hour has counts in it.
  const int64_t limit = query.rows_max + 1;
  const int64_t refusals_limit = query.rows_max * static_cast<int64_t>(kRefusalReasons.size());
  const std::string_view period = kPeriods[static_cast<size_t>(query.by)];
  std::map<std::pair<int64_t, std::string>, UsageRow> found;
  RETURN_IF_ERROR(database->Run("BEGIN"));  // both tables as of one moment
  ASSIGN_OR_RETURN(Rows counts, database->Query(Concat("SELECT ", period, ", tenant, TOTAL(",
                                                       ConcatList(kUsageColumns, "), TOTAL("),
                                                       ") FROM usage", kWhere, kLimit),
                                                from, to, query.tenant, limit));
  while (counts.Next()) {
    UsageRow row{.begin = counts.Integer(0), .tenant = std::string(counts.Text(1))};
    for (size_t i = 0; i < row.counts.size(); ++i) {
      row.counts[i] = counts.Real(static_cast<int>(i) + 2);
    }
    auto key = std::make_pair(row.begin, row.tenant);
    found.emplace(std::move(key), std::move(row));
  }
  RETURN_IF_ERROR(counts.status());
  if (static_cast<int64_t>(found.size()) > query.rows_max) {
    return absl::InvalidArgumentError(Concat("that has more than ", query.rows_max,
                                             " rows; ask for a shorter time, or by day or tenant"));
  }
  ASSIGN_OR_RETURN(
      Rows refusals,
      database->Query(Concat("SELECT ", period, ", tenant, reason, SUM(count) FROM usage_refusals",
                             kWhere, ", 3", kLimit),
                      from, to, query.tenant, refusals_limit));
  while (refusals.Next()) {
    UsageRow& row = found[{refusals.Integer(0), std::string(refusals.Text(1))}];
    row.refusals[std::string(refusals.Text(2))] = refusals.Integer(3);
  }
  RETURN_IF_ERROR(refusals.status());
  std::vector<UsageRow> rows;
  for (auto& [key, row] : found) rows.push_back(std::move(row));
  return rows;
}

std::string FormatUsageTable(const std::vector<UsageRow>& rows, UsageBy by) {
  if (rows.empty()) return "nothing was used in that time\n";
  std::string text;
  const bool has_time = by != UsageBy::kTenant;
  const auto add = [&](std::string_view time, std::string_view tenant, auto... cells) {
    if (has_time) absl::StrAppendFormat(&text, "%-21s", AbslView(time));
    absl::StrAppendFormat(&text, "%-20s", AbslView(tenant));
    (absl::StrAppendFormat(&text, " %13s", cells), ...);
  };
  add(kBys[static_cast<size_t>(by)], "tenant", "requests", "ok", "prompt", "cached", "completion",
      "KV GiB s", "compute s");
  text += "  refused\n";
  for (const UsageRow& row : rows) {
    const auto count = [&](UsageColumn column) { return row.counts[static_cast<size_t>(column)]; };
    const auto whole = [&](UsageColumn column) { return absl::StrFormat("%.0f", count(column)); };
    add(TimeText(row.begin, by), row.tenant, whole(UsageColumn::kRequests), whole(UsageColumn::kOk),
        whole(UsageColumn::kPromptTokens), whole(UsageColumn::kCachedTokens),
        whole(UsageColumn::kCompletionTokens),
        absl::StrFormat("%.3f", count(UsageColumn::kKvByteSeconds) / (int64_t{1} << 30)),
        absl::StrFormat("%.3f", MicrosecondsToSeconds(count(UsageColumn::kComputeMicroseconds))));
    for (const auto& [reason, refused] : row.refusals) {
      absl::StrAppend(&text, "  ", reason, " ", refused);
    }
    text += "\n";
  }
  return text;
}

std::string FormatUsageCsv(const std::vector<UsageRow>& rows, UsageBy by) {
  const bool has_time = by != UsageBy::kTenant;
  std::string text = has_time ? Concat(kBys[static_cast<size_t>(by)], ",tenant") : "tenant";
  for (size_t i = 0; i < kUsageColumns.size(); ++i) text += Concat(",", ShownName(i));
  text += ",refused";
  for (const std::string_view reason : kRefusalReasons) text += Concat(",refused_", reason);
  text += "\r\n";
  for (const UsageRow& row : rows) {
    if (has_time) text += Concat(TimeText(row.begin, by), ",");
    text += CsvCell(row.tenant);
    for (size_t i = 0; i < row.counts.size(); ++i) {
      if (IsComputeTime(i)) {
        absl::StrAppendFormat(&text, ",%.6f", MicrosecondsToSeconds(row.counts[i]));
      } else {
        absl::StrAppendFormat(&text, ",%.0f", row.counts[i]);
      }
    }
    text += Concat(",", Refused(row));
    for (const std::string_view reason : kRefusalReasons) {
      const auto found = row.refusals.find(std::string(reason));
      text += Concat(",", found == row.refusals.end() ? 0 : found->second);
    }
    text += "\r\n";
  }
  return text;
}

namespace {

Json RowsAsJson(const std::vector<UsageRow>& rows, UsageBy by) {
  constexpr double kWholeMax = 9e18;  // beyond, a number of JSON with an exponent
  Json all = Json::array();
  for (const UsageRow& row : rows) {
    Json entry = Json::object();
    if (by != UsageBy::kTenant) {
      entry[std::string(kBys[static_cast<size_t>(by)])] = TimeText(row.begin, by);
    }
    entry["tenant"] = row.tenant;
    for (size_t i = 0; i < row.counts.size(); ++i) {
      Json& value = entry[std::string(ShownName(i))];
      if (IsComputeTime(i)) {
        value = MicrosecondsToSeconds(row.counts[i]);
      } else if (row.counts[i] < kWholeMax) {
        value = static_cast<int64_t>(row.counts[i]);
      } else {
        value = row.counts[i];
      }
    }
    entry["refused"] = Refused(row);
    entry["refusals"] = Json::object();
    for (const auto& [reason, refused] : row.refusals) entry["refusals"][reason] = refused;
    all.push_back(std::move(entry));
  }
  return all;
}

}  // namespace

std::string FormatUsageJson(const std::vector<UsageRow>& rows, UsageBy by) {
  return RowsAsJson(rows, by).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<std::string> UsageAsJson(const std::string& path, const UsageAsk& ask) {
  const auto given = [](const std::string& text) { return text.empty() ? nullptr : &text; };
  UsageQuery query{.rows_max = kUsageRowsMax};
  ASSIGN_OR_RETURN(query.from, HourOf(given(ask.from), "from"));
  ASSIGN_OR_RETURN(query.to, HourOf(given(ask.to), "to"));
  ASSIGN_OR_RETURN(const size_t by, ChoiceOf(given(ask.by), "by", kBys));
  query.by = static_cast<UsageBy>(by);
  if (!ask.tenant.empty()) query.tenant = ask.tenant;
  ASSIGN_OR_RETURN(const std::vector<UsageRow> rows, ReadUsage(path, query));
  return RowsAsJson(rows, query.by).dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status RunUsage(const CommandLine& line, const std::string& path) {
  const VerbArguments arguments(line);
  ASSIGN_OR_RETURN(const UsageQuery query, QueryOf(arguments));
  static constexpr std::array kFormats = {&FormatUsageTable, &FormatUsageCsv, &FormatUsageJson};
  static constexpr std::array<std::string_view, kFormats.size()> kNames = {"table", "csv", "json"};
  ASSIGN_OR_RETURN(const size_t format, ChoiceOf(arguments.Find("--format"), "--format", kNames));
  if (path.empty()) {
    return absl::InvalidArgumentError(
        "no usage ledger is named; give --usage FILE, or --state or --config as the daemon has it");
  }
  ASSIGN_OR_RETURN(const std::vector<UsageRow> rows, ReadUsage(path, query));
  const std::string text = kFormats[format](rows, query.by);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return absl::OkStatus();
}

}  // namespace holdfast
