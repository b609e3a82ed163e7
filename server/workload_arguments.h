// What the verbs that run a workload, simulate and replay, read from their command lines alike.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "config/base/concat.h"
#include "server/command_line.h"
#include "simulator/tally.h"
#include "workload/workload_options.h"

namespace holdfast {

// Reads `line.arguments` by name into what they mean, and keeps the first fault. `line` outlives
// it.
class VerbArguments final {
 public:
  explicit VerbArguments(const CommandLine& line) : line_(line) {}

  const std::string* Find(std::string_view flag) const;  // of equal flags the last
  std::string Text(std::string_view flag) const;         // empty: not given
  template <typename Int>
  void Count(std::string_view flag, int64_t least, Int& out) {
    const std::string* value = Find(flag);
    if (value == nullptr) return;
    int64_t number = 0;
    constexpr auto most = static_cast<int64_t>(
        std::min<uint64_t>(std::numeric_limits<Int>::max(), std::numeric_limits<int64_t>::max()));
    if (!absl::SimpleAtoi(*value, &number) || number < least || number > most) {
      return Fault(flag, Concat("wanted a whole number of at least ", least), *value);
    }
    out = static_cast<Int>(number);
  }
  void Number(std::string_view flag, double& out);  // above 0
  std::optional<absl::Duration> Time(std::string_view flag);
  std::optional<int64_t> Nanos(std::string_view flag);
  void Fault(std::string_view flag, std::string_view wanted, std::string_view found);
  const absl::Status& status() const { return status_; }

 private:
  const CommandLine& line_;
  absl::Status status_;
};

// kInvalidArgument names the flag.
absl::StatusOr<WorkloadOptions> WorkloadOptionsOf(const CommandLine& line);
Slo SloOf(VerbArguments& arguments);

}  // namespace holdfast
