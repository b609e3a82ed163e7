// What the readers of traces have in common: a workload in the making, whose rows are counted and
// whose runs, tools and tenants get their numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "workload/line_file.h"
#include "workload/workload.h"

namespace holdfast {

// What a reader makes of a file: programs in the file's order, times and lengths as the file has
// them. ShapeTrace (workload_shape.h) makes of it what the options say.
struct Trace {
  Workload workload;                 // rows_kept is not yet set
  bool has_own_zero = false;         // times count from a zero of its own, not from the first start
  bool whole_second_stamps = false;  // starts were rounded down to seconds
  bool knows_sharing = false;        // says itself what prompts have in common
  bool rates_are_scaled = false;     // rate_scale is already in it
};

class TraceRows final {
 public:
  // `rows` more were read. ResourceExhausted: more than kRowsMax in all.
  absl::Status Read(int64_t rows = 1);
  void Drop(std::string_view reason, int64_t rows = 1) {
    trace_.workload.counts.Drop(reason, rows);
  }
  void Assume(std::string what) { trace_.workload.assumptions.push_back(std::move(what)); }

  // A run that no other prompt has.
  uint64_t FreshRun() { return next_run_++; }
  // The run of all prompts that hold the block which the trace calls `id`.
  uint64_t BlockRun(uint64_t id);

  int32_t Tool(std::string_view name);  // beyond kToolsMax names they become one: "other"
  int32_t Tenant(std::string_view name);

  std::vector<WorkloadProgram>& programs() { return trace_.workload.programs; }
  // A program of one turn.
  void AddRequest(absl::Duration start, std::vector<TokenRun> runs, int32_t completion_tokens);

  Trace Finish(std::string name) &&;

 private:
  Trace trace_;
  uint64_t next_run_ = 0;
  absl::flat_hash_map<uint64_t, uint64_t> block_runs_;
  absl::flat_hash_map<std::string, int32_t> tools_, tenants_;
};

inline constexpr int32_t kToolsMax = 1000;
inline constexpr size_t kNameBytesMax = 200;  // of sessions, tools, tenants

// Gives every line that is not blank to `use`, until one returns an error. A line that is too long
// is a dropped row.
absl::Status ForEachLine(LineFile& file, TraceRows& rows,
                         const std::function<absl::Status(const std::string&)>& use);

// A name to write anywhere: to kNameBytesMax bytes of it, with ? for what is not printable ASCII.
std::string PlainName(std::string_view name);

// "conversation_first" of "a/conversation_first.jsonl.gz".
std::string NameOfFile(std::string_view path);

}  // namespace holdfast
