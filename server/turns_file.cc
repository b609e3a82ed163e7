#include "server/turns_file.h"

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <utility>

#include "config/base/concat.h"

namespace holdfast {
namespace {

constexpr const char* kEnds[] = {"done", "refused", "failed", "cancelled", "abandoned"};

absl::Status CannotBeWritten(const std::string& path) {
  return absl::UnavailableError(Concat(path, ": cannot be written"));
}

double Seconds(int64_t nanos) { return static_cast<double>(nanos) / 1e9; }

}  // namespace

std::string TurnColumns() {
  return "program,turn,tenant,class,end,arrival_s,scheduled_s,first_token_s,end_s,prompt_tokens,"
         "cached_tokens,completion_tokens,preemptions,recomputed_tokens,opened,retry_after_s\n";
}

std::string TurnLine(const TurnRecord& turn) {
  std::ostringstream line;
  line.precision(12);
  line << turn.program << ',' << turn.turn << ',' << turn.tenant << ','
       << (turn.offline ? "offline" : "online") << ',' << kEnds[static_cast<size_t>(turn.end)]
       << ',' << Seconds(turn.arrival_nanos) << ',';
  if (turn.scheduled_nanos) line << Seconds(*turn.scheduled_nanos);
  line << ',' << Seconds(turn.first_token_nanos) << ',' << Seconds(turn.end_nanos) << ','
       << turn.prompt_tokens << ',' << turn.cached_tokens << ',' << turn.completion_tokens << ',';
  if (turn.scheduled_nanos) {
    line << turn.preemptions << ',' << turn.recomputed_tokens << ',' << turn.opened;
  } else {
    line << ",,";
  }
  line << ',';
  if (turn.retry_after_nanos) line << Seconds(*turn.retry_after_nanos);
  line << '\n';
  return std::move(line).str();
}

TurnsFile::TurnsFile(const std::string& path) : path_(path) {
  if (!wanted()) return;
  file_.open(path_, std::ios::binary);
  file_ << TurnColumns();
}

void TurnsFile::Add(const TurnRecord& turn) {
  if (wanted()) file_ << TurnLine(turn);
}

absl::Status TurnsFile::Close() {
  if (!wanted()) return absl::OkStatus();
  file_.close();
  return file_ ? absl::OkStatus() : CannotBeWritten(path_);
}

absl::Status WriteReport(const std::string& path, std::string_view report) {
  if (path.empty()) {
    std::fwrite(report.data(), 1, report.size(), stdout);
    return absl::OkStatus();
  }
  std::ofstream file(path, std::ios::binary);
  file << report;
  file.close();
  return file ? absl::OkStatus() : CannotBeWritten(path);
}

}  // namespace holdfast
