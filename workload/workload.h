// What a service is asked over some time, without a word of text: programs of turns, each a prompt
// of so many tokens and a completion of so many. Made from public traces, client statistics or
// scenario files (workload_file.h); run by the simulator on a simulated clock, or fired at a live
// server.
//
// Open loop between programs: a program starts when it starts. Closed loop inside: a turn comes
// `after` the end of the one before it (its tool's time, or its user's), never earlier. A trace of
// single requests is one program a request.
//
// Prompts share what their traces say they share, block by block, and nothing else: tokens are
// named by runs. Token i of run r is a function of (seed, r, i); two prompts that begin with the
// same runs begin with the same tokens, and runs with different ids have nothing in common but by
// the chance of equal tokens.
//
// Bound: the trace. A turn takes about 80 bytes and its runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace holdfast {

struct TokenRun {
  uint64_t id = 0;
  int32_t num_tokens = 0;
  bool operator==(const TokenRun&) const = default;
};

struct WorkloadTurn {
  // From the end of the program's previous turn to this one's arrival; of the first turn: zero.
  absl::Duration after;
  // The prompt: this many tokens of the previous turn's prompt and completion (0 for the first
  // turn), then the runs. Not empty as a whole; without runs it is all kept.
  int32_t kept_tokens = 0;
  std::vector<TokenRun> runs;
  int32_t completion_tokens = 1;  // > 0; the end token does not come before
  std::optional<int32_t> tool;    // index into Workload::tools that its answer calls
  // How long after its arrival its client leaves, if it is not over by then.
  std::optional<absl::Duration> patience;
};

struct WorkloadProgram {
  absl::Duration start;             // arrival of the first turn, since the workload began
  int32_t tenant = 0;               // index into Workload::tenants
  std::string session;              // what it calls itself; empty: it does not say
  bool offline = false;             // fills what others leave
  std::vector<WorkloadTurn> turns;  // not empty
};

// Rows of a trace file, each accounted for: read = kept + all that were dropped. A row is what
// would be a turn: a request's line, a call of a session, a draw from a client's statistics; a line
// that gives no turn at all counts as one.
struct WorkloadCounts {
  int64_t rows_read = 0, rows_kept = 0;
  int64_t rows_clipped = 0;  // of the kept: made shorter to fit the context
  std::vector<std::pair<std::string, int64_t>> dropped;  // by reason, as a metric label
  std::string file_sha256;                               // of the file as it lies there

  // Rows, counted as read, that are not kept. `reason` is lower case with underscores.
  void Drop(std::string_view reason, int64_t rows = 1) {
    for (auto& [known, count] : dropped) {
      if (known == reason) {
        count += rows;
        return;
      }
    }
    dropped.emplace_back(reason, rows);
  }
};

struct Workload {
  std::string name;                  // for reports
  std::vector<std::string> tenants;  // at least one
  std::vector<std::string> tools;
  std::vector<WorkloadProgram> programs;  // by start
  WorkloadCounts counts;
  std::vector<std::string> assumptions;  // what the trace does not say and the reader chose

  int64_t num_turns() const {
    int64_t turns = 0;
    for (const WorkloadProgram& program : programs) {
      turns += static_cast<int64_t>(program.turns.size());
    }
    return turns;
  }
};

}  // namespace holdfast
