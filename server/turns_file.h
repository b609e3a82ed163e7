// What simulate and replay write: each turn as a line of CSV, and the report.
//
// Thread: one at a time.
#pragma once

#include <fstream>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "simulator/tally.h"

namespace holdfast {

class TurnsFile final {
 public:
  explicit TurnsFile(const std::string& path);  // empty: none is wanted
  bool wanted() const { return !path_.empty(); }
  void Add(const TurnRecord& turn);
  absl::Status Close();  // kUnavailable: not all of it could be written

 private:
  const std::string path_;
  std::ofstream file_;
};

// "program,turn,...": what was not known is empty.
std::string TurnColumns();
std::string TurnLine(const TurnRecord& turn);

// To the file of this path; empty: to standard output.
absl::Status WriteReport(const std::string& path, std::string_view report);

}  // namespace holdfast
