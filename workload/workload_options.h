// How a workload file is read and what is made of it (workload_file.h). The defaults take a trace
// as it is.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "workload/arrivals.h"

namespace holdfast {

enum class WorkloadKind {
  kByContent,
  kBurstGpt,     // CSV, both layouts
  kAzure,        // CSV of arrivals, context and generated tokens
  kMooncake,     // JSON lines with an id for every 512 prompt tokens, the last ones in part
  kRtpOnline,    // JSON lines with an id for every full 1024 prompt tokens
  kAgentSteps,   // JSON lines of sessions whose steps give their tools' times (ISO-Bench)
  kAgentCalls,   // JSON lines of sessions whose calls give the gap to the next (mini-swe-agent)
  kAgentLog,     // JSON lines of sessions whose calls give when they were answered (inference-sim)
  kAgentEvents,  // JSON lines of sessions whose events give token sums and causes (OpenHands)
  kAgentTexts,   // JSON lines of calls with their text (LMCache's multi-agent trace)
  kDialogues,    // JSON lines of dialogues, a time and a usage at each message (tau2-bench)
  kClientRates,  // JSON lines of clients' rates, bursts and length quantiles (ServeGen)
  kScenario,     // YAML (scenario_reader.h)
};

struct WorkloadOptions {
  WorkloadKind kind = WorkloadKind::kByContent;
  uint64_t seed = 1;

  // Time. The window takes the programs that start in [from, until) after the file's first one
  // (statistics and scenarios: after their own zero); what is kept begins at zero.
  absl::Duration from;
  absl::Duration until = absl::InfiniteDuration();
  double rate_scale = 1;   // divides the gaps between programs' starts; multiplies clients' rates
  double think_scale = 1;  // multiplies the waits inside programs
  std::optional<ArrivalProcess> arrivals;  // in the place of the file's starts and of rate_scale
  // Stamps in whole seconds make bursts that were none: spread what shares one over its second, or
  // let it come together.
  enum class Stamps { kSpread, kAsWritten } stamps = Stamps::kSpread;

  // Lengths. Over the context: a program ends before its first turn that is too long, or the turn
  // is made shorter (workload_shape.h says how).
  double length_scale = 1;
  std::optional<int32_t> context_tokens;
  enum class OverContext { kDrop, kClip } over_context = OverContext::kDrop;
  // Requests without an answer failed at the source: leave them out, or ask for one token.
  enum class Failures { kDrop, kOneToken } failures = Failures::kDrop;

  // What the file says of itself, BurstGPT only; empty: all.
  std::string only_model, only_log_type;

  int64_t programs_max = std::numeric_limits<int64_t>::max();  // the first of those that are left

  // Deals programs to so many tenants with Zipf weights 1 / rank^tenant_skew, whatever the file
  // says; otherwise its own, or one.
  std::optional<int32_t> num_tenants;
  double tenant_skew = 1;

  // A beginning that programs have in common (instructions, tools) where the trace does not say
  // what is shared: so many tokens at the front of each prompt that begins anew, of one of
  // so many families with Zipf weights 1 / rank.
  int32_t shared_prefix_tokens = 0;
  int32_t shared_prefix_families = 1;

  // Where a trace gives the time from call to call (kAgentCalls, kAgentLog, kAgentTexts), the
  // answer is taken to have lasted `answer_base` and its tokens at this speed; the rest is the
  // tool's. The defaults are what its calls with instant commands (cat, ls, sed) fit.
  absl::Duration answer_base = absl::Seconds(2);
  double answer_tokens_per_second = 100;
};

// Every fault in one message.
absl::Status CheckWorkloadOptions(const WorkloadOptions& options);

}  // namespace holdfast
