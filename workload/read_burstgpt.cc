#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/csv_row.h"
#include "workload/session_history.h"
#include "workload/trace_readers.h"

namespace holdfast {
namespace {

struct Columns {
  size_t stamp, input, output;
  std::optional<size_t> model, log_type, session, elapsed;
  size_t needed = 0;  // a row has at least so many fields
};

absl::StatusOr<Columns> FindColumns(const std::string& line) {
  const CsvHeader header(line);
  const auto stamp = header.Find({"Timestamp", "t_s"});
  const auto input = header.Find({"Request tokens"});
  const auto output = header.Find({"Response tokens"});
  if (!stamp || !input || !output) {
    return absl::InvalidArgumentError(
        "a BurstGPT file has the columns Timestamp, Request tokens and Response tokens");
  }
  Columns columns{.stamp = *stamp,
                  .input = *input,
                  .output = *output,
                  .model = header.Find({"Model"}),
                  .log_type = header.Find({"Log Type"}),
                  .session = header.Find({"Session ID", "session"}),
                  .elapsed = header.Find({"Elapsed time", "elapsed_s"})};
  for (const std::optional<size_t> column :
       {stamp, input, output, columns.model, columns.log_type, columns.session, columns.elapsed}) {
    if (column) columns.needed = std::max(columns.needed, *column + 1);
  }
  return columns;
}

struct Row {
  double stamp_s = 0, elapsed_s = 0;
  TraceCall call;
  std::string session;  // empty: a request of its own
};

constexpr double kStampMax = 1e10;  // seconds; three centuries

// The reason to drop it, or nothing.
std::optional<std::string_view> ReadRow(const std::string& line, const Columns& columns,
                                        const WorkloadOptions& options, Row& row) {
  const std::vector<std::string> fields = SplitCsvRow(line);
  if (fields.size() < columns.needed) return "bad_row";
  const auto differs = [&](const std::string& wanted, std::optional<size_t> column) {
    return !wanted.empty() && column && !absl::StartsWithIgnoreCase(fields[*column], wanted);
  };
  if (differs(options.only_model, columns.model)) return "filtered";
  if (differs(options.only_log_type, columns.log_type)) return "filtered";
  const auto stamp = ParseNumber(fields[columns.stamp]);
  const auto input = ParseTokens(fields[columns.input]);
  const auto output = ParseTokens(fields[columns.output]);
  if (!stamp || !input || !output || *stamp > kStampMax) return "bad_number";
  if (*stamp < 0) return "negative_time";
  if (*input == 0) return "zero_input";
  const std::optional<int32_t> completion = CompletionToAsk(*output, options);
  if (!completion) return "zero_output";
  row.stamp_s = *stamp;
  row.call = {.prompt_tokens = *input, .completion_tokens = *completion};
  if (!columns.session || fields[*columns.session].empty()) return std::nullopt;
  row.session = PlainName(fields[*columns.session]);
  if (row.session != fields[*columns.session]) return "bad_row";
  if (columns.elapsed && !fields[*columns.elapsed].empty()) {
    const auto elapsed = ParseNumber(fields[*columns.elapsed]);
    if (!elapsed || *elapsed < 0 || *elapsed > kStampMax) return "bad_number";
    row.elapsed_s = *elapsed;
  }
  return std::nullopt;
}

// Rows by time, into programs; sessions grow by one turn a row.
class Programs final {
 public:
  explicit Programs(TraceRows& rows) : rows_(rows) {}

  void Add(const Row& row) {
    const absl::Duration start = absl::Seconds(row.stamp_s);
    if (row.session.empty()) {
      rows_.AddRequest(start, {{rows_.FreshRun(), row.call.prompt_tokens}},
                       row.call.completion_tokens);
      return;
    }
    const auto [found, is_new] =
        sessions_.try_emplace(row.session, Session{.program = rows_.programs().size()});
    Session& session = found->second;
    if (is_new) {
      rows_.programs().push_back({.start = start, .session = row.session});
      rows_.programs().back().turns.push_back(TurnOf(row.call, 0, rows_));
    } else {
      AddTurn(row, session);
    }
    session.last = row.call;
    session.end_s = row.stamp_s + row.elapsed_s;
  }

  void StateAssumptions() {
    if (sessions_.empty()) return;
    rows_.Assume(Concat("history=assumed: ", continued_,
                        " turns of sessions continue the one "
                        "before (their prompts are long enough), ",
                        begun_anew_, " begin anew"));
    if (overlapping_ > 0) {
      rows_.Assume(Concat(overlapping_,
                          " turns were stamped before the one before had ended; they "
                          "follow it at once"));
    }
  }

 private:
  struct Session {
    size_t program = 0;
    TraceCall last;
    double end_s = 0;
  };

  void AddTurn(const Row& row, const Session& session) {
    const int64_t history = int64_t{session.last.prompt_tokens} + session.last.completion_tokens;
    const bool continues = row.call.prompt_tokens >= history;
    ++(continues ? continued_ : begun_anew_);
    WorkloadTurn turn = TurnOf(row.call, continues ? static_cast<int32_t>(history) : 0, rows_);
    const double thought_s = row.stamp_s - session.end_s;
    if (thought_s < 0) ++overlapping_;
    turn.after = absl::Seconds(std::max(thought_s, 0.0));
    rows_.programs()[session.program].turns.push_back(std::move(turn));
  }

  TraceRows& rows_;
  absl::flat_hash_map<std::string, Session> sessions_;
  int64_t continued_ = 0, begun_anew_ = 0, overlapping_ = 0;
};

}  // namespace

absl::StatusOr<Trace> ReadBurstGpt(LineFile& file, const WorkloadOptions& options) {
  TraceRows rows;
  std::optional<Columns> columns;
  std::vector<Row> kept;
  bool whole_seconds = true;
  RETURN_IF_ERROR(ForEachLine(file, rows, [&](const std::string& line) -> absl::Status {
    if (!columns) {
      ASSIGN_OR_RETURN(columns, FindColumns(line));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(rows.Read());
    Row row;
    if (const auto reason = ReadRow(line, *columns, options, row)) {
      rows.Drop(*reason);
      return absl::OkStatus();
    }
    whole_seconds = whole_seconds && row.stamp_s == std::floor(row.stamp_s);
    kept.push_back(std::move(row));
    return absl::OkStatus();
  }));
  std::stable_sort(kept.begin(), kept.end(),
                   [](const Row& a, const Row& b) { return a.stamp_s < b.stamp_s; });
  Programs programs(rows);
  for (const Row& row : kept) programs.Add(row);
  programs.StateAssumptions();
  Trace trace = std::move(rows).Finish(NameOfFile(file.path()));
  trace.whole_second_stamps = whole_seconds;
  return trace;
}

}  // namespace holdfast
