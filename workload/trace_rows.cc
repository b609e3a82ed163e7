#include "workload/trace_rows.h"

#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/workload_file.h"

namespace holdfast {

absl::Status TraceRows::Read(int64_t rows) {
  int64_t& rows_read = trace_.workload.counts.rows_read;
  rows_read += rows;
  if (rows_read <= kRowsMax) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      Concat("more than ", kRowsMax, " rows; split the file or draw fewer"));
}

uint64_t TraceRows::BlockRun(uint64_t id) {
  const auto [found, is_new] = block_runs_.try_emplace(id, next_run_);
  if (is_new) ++next_run_;
  return found->second;
}

int32_t TraceRows::Tool(std::string_view name) {
  std::string plain = PlainName(name);
  std::vector<std::string>& names = trace_.workload.tools;
  if (names.size() >= kToolsMax && !tools_.contains(plain)) plain = "other";
  const auto [found, is_new] = tools_.try_emplace(plain, static_cast<int32_t>(names.size()));
  if (is_new) names.push_back(std::move(plain));
  return found->second;
}

int32_t TraceRows::Tenant(std::string_view name) {
  std::string plain = PlainName(name);
  std::vector<std::string>& names = trace_.workload.tenants;
  const auto [found, is_new] = tenants_.try_emplace(plain, static_cast<int32_t>(names.size()));
  if (is_new) names.push_back(std::move(plain));
  return found->second;
}

void TraceRows::AddRequest(absl::Duration start, std::vector<TokenRun> runs,
                           int32_t completion_tokens) {
  WorkloadProgram program{.start = start};
  program.turns.push_back({.runs = std::move(runs), .completion_tokens = completion_tokens});
  programs().push_back(std::move(program));
}

Trace TraceRows::Finish(std::string name) && {
  trace_.workload.name = std::move(name);
  if (trace_.workload.tenants.empty()) trace_.workload.tenants.emplace_back("default");
  return std::move(trace_);
}

absl::Status ForEachLine(LineFile& file, TraceRows& rows,
                         const std::function<absl::Status(const std::string&)>& use) {
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<LineFile::Line> line, file.Next());
    if (!line) return absl::OkStatus();
    if (line->too_long) {
      RETURN_IF_ERROR(rows.Read());
      rows.Drop("long_line");
    } else if (line->text.find_first_not_of(" \t") != std::string::npos) {
      RETURN_IF_ERROR(use(line->text));
    }
  }
}

std::string PlainName(std::string_view name) {
  std::string plain(name.substr(0, kNameBytesMax));
  for (char& c : plain) {
    if (c < ' ' || c > '~') c = '?';
  }
  return plain;
}

std::string NameOfFile(std::string_view path) {
  const size_t slash = path.rfind('/');
  const std::string_view file = path.substr(slash == std::string_view::npos ? 0 : slash + 1);
  return PlainName(file.substr(0, file.find('.', 1)));
}

}  // namespace holdfast
