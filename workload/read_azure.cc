#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/time/time.h"
#include "config/base/status_macros.h"
#include "workload/csv_row.h"
#include "workload/trace_readers.h"

namespace holdfast {
namespace {

struct Columns {
  size_t stamp, input, output;
};

absl::StatusOr<Columns> FindColumns(const std::string& line) {
  const CsvHeader header(line);
  const auto stamp = header.Find({"TIMESTAMP", "t_s"});
  const auto input = header.Find({"ContextTokens"});
  const auto output = header.Find({"GeneratedTokens"});
  if (!stamp || !input || !output) {
    return absl::InvalidArgumentError(
        "an Azure file has the columns TIMESTAMP, ContextTokens and GeneratedTokens");
  }
  return Columns{.stamp = *stamp, .input = *input, .output = *output};
}

// Seconds, or a date with a time of day, taken as UTC: only differences matter.
std::optional<absl::Duration> ParseStamp(const std::string& text) {
  constexpr double kStampMax = 1e10;
  if (const std::optional<double> seconds = ParseNumber(text)) {
    if (std::abs(*seconds) > kStampMax) return std::nullopt;
    return absl::Seconds(*seconds);
  }
  for (const char* format : {"%Y-%m-%d%t%H:%M:%E*S", "%Y-%m-%dT%H:%M:%E*S%Ez"}) {
    absl::Time time;
    std::string error;
    if (absl::ParseTime(format, text, absl::UTCTimeZone(), &time, &error) &&
        time > absl::UnixEpoch() && time < absl::UnixEpoch() + absl::Seconds(kStampMax)) {
      return time - absl::UnixEpoch();
    }
  }
  return std::nullopt;
}

// The reason to drop it, or nothing.
std::optional<std::string_view> AddRow(const std::string& line, const Columns& columns,
                                       const WorkloadOptions& options, TraceRows& rows) {
  const std::vector<std::string> fields = SplitCsvRow(line);
  if (fields.size() <= std::max({columns.stamp, columns.input, columns.output})) return "bad_row";
  const auto stamp = ParseStamp(fields[columns.stamp]);
  const auto input = ParseTokens(fields[columns.input]);
  const auto output = ParseTokens(fields[columns.output]);
  if (!stamp || !input || !output) return "bad_number";
  if (*stamp < absl::ZeroDuration()) return "negative_time";
  if (*input == 0) return "zero_input";
  const std::optional<int32_t> completion = CompletionToAsk(*output, options);
  if (!completion) return "zero_output";
  rows.AddRequest(*stamp, {{rows.FreshRun(), *input}}, *completion);
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Trace> ReadAzure(LineFile& file, const WorkloadOptions& options) {
  TraceRows rows;
  std::optional<Columns> columns;
  RETURN_IF_ERROR(ForEachLine(file, rows, [&](const std::string& line) -> absl::Status {
    if (!columns) {
      ASSIGN_OR_RETURN(columns, FindColumns(line));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(rows.Read());
    if (const auto reason = AddRow(line, *columns, options, rows)) rows.Drop(*reason);
    return absl::OkStatus();
  }));
  return std::move(rows).Finish(NameOfFile(file.path()));
}

}  // namespace holdfast
