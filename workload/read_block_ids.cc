#include <algorithm>
#include <utility>

#include "config/base/status_macros.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"

namespace holdfast {
namespace {

using nlohmann::json;

constexpr double kStampMaxMs = 1e13;

// The prompt's runs: one for each id, and a fresh one for an end without an id. Nothing: an id is
// none.
std::optional<std::vector<TokenRun>> RunsOf(const json& ids, int32_t prompt_tokens,
                                            int32_t block_tokens, TraceRows& rows) {
  for (const json& id : ids) {
    if (!id.is_number_integer() || (!id.is_number_unsigned() && id.get<int64_t>() < 0)) {
      return std::nullopt;
    }
  }
  std::vector<TokenRun> runs;
  runs.reserve(ids.size() + 1);
  int32_t left = prompt_tokens;
  for (const json& id : ids) {
    runs.push_back(
        {.id = rows.BlockRun(id.get<uint64_t>()), .num_tokens = std::min(left, block_tokens)});
    left -= runs.back().num_tokens;
  }
  if (left > 0) runs.push_back({.id = rows.FreshRun(), .num_tokens = left});
  return runs;
}

// The reason to drop it, or nothing.
std::optional<std::string_view> AddRow(const json& row, const WorkloadOptions& options,
                                       int32_t block_tokens, TraceRows& rows) {
  const json& ids = FieldOf(row, "hash_ids");
  if (!ids.is_array()) return "bad_row";
  const auto stamp_ms = NumberOf(FieldOf(row, "timestamp"));
  const auto input = TokensOf(FieldOf(row, "input_length"));
  const auto output = TokensOf(FieldOf(row, "output_length"));
  if (!stamp_ms || !input || !output || *stamp_ms > kStampMaxMs) return "bad_number";
  if (*stamp_ms < 0) return "negative_time";
  if (*input == 0) return "zero_input";
  const std::optional<int32_t> completion = CompletionToAsk(*output, options);
  if (!completion) return "zero_output";
  const auto full_blocks = static_cast<size_t>(*input / block_tokens);
  const size_t all_blocks = full_blocks + (*input % block_tokens == 0 ? 0 : 1);
  if (ids.size() != full_blocks && ids.size() != all_blocks) return "block_count";
  std::optional<std::vector<TokenRun>> runs = RunsOf(ids, *input, block_tokens, rows);
  if (!runs) return "bad_number";
  rows.AddRequest(absl::Milliseconds(*stamp_ms), *std::move(runs), *completion);
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Trace> ReadBlockIds(LineFile& file, const WorkloadOptions& options,
                                   int32_t block_tokens) {
  TraceRows rows;
  RETURN_IF_ERROR(ForEachLine(file, rows, [&](const std::string& line) -> absl::Status {
    RETURN_IF_ERROR(rows.Read());
    const std::optional<json> row = ParseJsonRow(line);
    const auto reason = row ? AddRow(*row, options, block_tokens, rows) : "bad_row";
    if (reason) rows.Drop(*reason);
    return absl::OkStatus();
  }));
  Trace trace = std::move(rows).Finish(NameOfFile(file.path()));
  trace.knows_sharing = true;
  return trace;
}

}  // namespace holdfast
