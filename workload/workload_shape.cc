#include "workload/workload_shape.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "config/base/concat.h"
#include "workload/random_source.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

// Streams of the seed, so that one choice does not move another. Far from those of clients.
enum Stream : uint64_t { kSpread = 1ull << 40, kPrefix, kTenant, kStarts };

int64_t RunTokens(const WorkloadTurn& turn) {
  int64_t tokens = 0;
  for (const TokenRun& run : turn.runs) tokens += run.num_tokens;
  return tokens;
}

// Cuts the runs at their end to `tokens`.
void CutRuns(int64_t tokens, std::vector<TokenRun>& runs) {
  size_t kept = 0;
  for (; kept < runs.size() && tokens > 0; ++kept) {
    runs[kept].num_tokens = static_cast<int32_t>(std::min<int64_t>(runs[kept].num_tokens, tokens));
    tokens -= runs[kept].num_tokens;
  }
  runs.resize(kept);
}

// Takes `tokens` off the front of the runs.
void CutFront(int64_t tokens, std::vector<TokenRun>& runs) {
  size_t gone = 0;
  for (; gone < runs.size() && runs[gone].num_tokens <= tokens; ++gone) {
    tokens -= runs[gone].num_tokens;
  }
  runs.erase(runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(gone));
  if (!runs.empty()) runs.front().num_tokens -= static_cast<int32_t>(tokens);
}

std::vector<double> ZipfSteps(int32_t count, double skew) {
  std::vector<double> cumulative;
  double total = 0;
  for (int32_t rank = 1; rank <= count; ++rank) {
    cumulative.push_back(total += std::pow(rank, -skew));
  }
  return cumulative;
}

class Shaper final {
 public:
  Shaper(Trace& trace, const WorkloadOptions& options)
      : trace_(trace), workload_(trace.workload), options_(options) {}

  void Run() {
    SetStarts();
    TakeWindow();
    if (options_.length_scale != 1) ScaleLengths();
    if (options_.shared_prefix_tokens > 0 && !trace_.knows_sharing) SharePrefixes();
    FitContext();
    DropWhere("beyond_limit", [this](const WorkloadProgram&, int64_t index) {
      return index >= options_.programs_max;
    });
    SetPace();
    if (options_.num_tenants) DealTenants(*options_.num_tenants);
    TellSessionsApart();
    workload_.counts.rows_kept = workload_.num_turns();
  }

 private:
  void SetStarts() {
    std::vector<WorkloadProgram>& programs = workload_.programs;
    std::stable_sort(
        programs.begin(), programs.end(),
        [](const WorkloadProgram& a, const WorkloadProgram& b) { return a.start < b.start; });
    if (trace_.whole_second_stamps && options_.stamps == WorkloadOptions::Stamps::kSpread) {
      SpreadStarts();
    }
    if (trace_.has_own_zero || programs.empty()) return;
    const absl::Duration zero = programs.front().start;
    for (WorkloadProgram& program : programs) program.start -= zero;
  }

  // Programs that share a whole second get places drawn evenly inside it, in their order.
  void SpreadStarts() {
    RandomSource random(options_.seed, kSpread);
    std::vector<WorkloadProgram>& programs = workload_.programs;
    int64_t num_spread = 0;
    for (size_t begin = 0; begin < programs.size();) {
      size_t end = begin + 1;
      while (end < programs.size() && programs[end].start == programs[begin].start) ++end;
      if (end - begin > 1 &&
          programs[begin].start == absl::Floor(programs[begin].start, absl::Seconds(1))) {
        std::vector<double> places;
        for (size_t i = begin; i < end; ++i) places.push_back(random.Uniform());
        std::sort(places.begin(), places.end());
        for (size_t i = begin; i < end; ++i) {
          programs[i].start += absl::Microseconds(std::floor(places[i - begin] * 1e6));
        }
        num_spread += static_cast<int64_t>(end - begin);
      }
      begin = end;
    }
    if (num_spread > 0) {
      workload_.assumptions.push_back(
          Concat(num_spread, " starts that shared a whole second are spread evenly inside it"));
    }
  }

  void TakeWindow() {
    DropWhere("outside_window", [this](const WorkloadProgram& program, int64_t) {
      return program.start < options_.from || program.start >= options_.until;
    });
    for (WorkloadProgram& program : workload_.programs) program.start -= options_.from;
  }

  template <typename Unwanted>
  void DropWhere(std::string_view reason, Unwanted unwanted) {
    int64_t index = 0, rows = 0;
    std::erase_if(workload_.programs, [&](const WorkloadProgram& program) {
      if (!unwanted(program, index++)) return false;
      rows += static_cast<int64_t>(program.turns.size());
      return true;
    });
    if (rows > 0) workload_.counts.Drop(reason, rows);
  }

  int32_t Scaled(int64_t tokens) const {
    const double scaled = std::round(static_cast<double>(tokens) * options_.length_scale);
    return static_cast<int32_t>(std::clamp<double>(scaled, 1, kRequestTokensMax));
  }

  void ScaleLengths() {
    for (WorkloadProgram& program : workload_.programs) {
      int64_t before = 0, before_scaled = 0;  // prompt and completion of the turn before
      for (WorkloadTurn& turn : program.turns) {
        const int64_t total = turn.kept_tokens + RunTokens(turn) + turn.completion_tokens;
        if (turn.kept_tokens > 0) {
          const int64_t kept =
              turn.kept_tokens == before ? before_scaled : Scaled(turn.kept_tokens);
          turn.kept_tokens =
              static_cast<int32_t>(std::min({kept, before_scaled, int64_t{kRequestTokensMax}}));
        }
        for (TokenRun& run : turn.runs) run.num_tokens = Scaled(run.num_tokens);
        turn.completion_tokens = Scaled(turn.completion_tokens);
        before = total;
        before_scaled = turn.kept_tokens + RunTokens(turn) + turn.completion_tokens;
      }
    }
    workload_.assumptions.push_back(Concat("lengths are scaled by ", options_.length_scale));
  }

  void SharePrefixes() {
    RandomSource random(options_.seed, kPrefix);
    const std::vector<double> families = ZipfSteps(options_.shared_prefix_families, 1);
    uint64_t first_family = 0;  // ids beyond all that the trace has
    for (const WorkloadProgram& program : workload_.programs) {
      for (const WorkloadTurn& turn : program.turns) {
        for (const TokenRun& run : turn.runs) first_family = std::max(first_family, run.id + 1);
      }
    }
    for (WorkloadProgram& program : workload_.programs) {
      const uint64_t family = first_family + random.Pick(families);
      for (WorkloadTurn& turn : program.turns) {
        if (turn.kept_tokens > 0) continue;
        const int64_t tokens = std::min<int64_t>(options_.shared_prefix_tokens, RunTokens(turn));
        CutFront(tokens, turn.runs);
        turn.runs.insert(turn.runs.begin(),
                         TokenRun{.id = family, .num_tokens = static_cast<int32_t>(tokens)});
      }
    }
    workload_.assumptions.push_back(Concat("prompts that begin anew share up to ",
                                           options_.shared_prefix_tokens, " tokens in ",
                                           options_.shared_prefix_families, " families"));
  }

  void FitContext() {
    const bool clips = options_.over_context == WorkloadOptions::OverContext::kClip;
    // Without a context: what no request may have, which lengths scaled up could.
    const int64_t context = options_.context_tokens.value_or(2 * kRequestTokensMax);
    int64_t too_long = 0, behind = 0;
    for (WorkloadProgram& program : workload_.programs) {
      int64_t before = 0;  // prompt and completion of the turn before
      for (size_t i = 0; i < program.turns.size(); ++i) {
        WorkloadTurn& turn = program.turns[i];
        bool is_clipped = turn.kept_tokens > before;
        if (is_clipped) turn.kept_tokens = static_cast<int32_t>(before);
        if (turn.kept_tokens + RunTokens(turn) + turn.completion_tokens > context) {
          if (!clips) {
            ++too_long;
            behind += static_cast<int64_t>(program.turns.size() - i) - 1;
            program.turns.resize(i);
            break;
          }
          ClipTurn(context, turn);
          is_clipped = true;
        }
        if (is_clipped) ++workload_.counts.rows_clipped;
        before = turn.kept_tokens + RunTokens(turn) + turn.completion_tokens;
      }
    }
    std::erase_if(workload_.programs,
                  [](const WorkloadProgram& program) { return program.turns.empty(); });
    if (too_long > 0) workload_.counts.Drop("over_context", too_long);
    if (behind > 0) workload_.counts.Drop("after_over_context", behind);
    if (workload_.counts.rows_clipped > 0) {
      workload_.assumptions.push_back(Concat(workload_.counts.rows_clipped,
                                             " turns are clipped to a "
                                             "context of ",
                                             context, " tokens"));
    }
  }

  static void ClipTurn(int64_t context, WorkloadTurn& turn) {
    turn.completion_tokens =
        static_cast<int32_t>(std::min<int64_t>(turn.completion_tokens, context / 2));
    const int64_t room = context - turn.completion_tokens;  // > 0
    const int64_t least_fresh = std::max(room - turn.kept_tokens, room / 2);
    const int64_t fresh = std::min(RunTokens(turn), least_fresh);
    turn.kept_tokens = static_cast<int32_t>(std::min<int64_t>(turn.kept_tokens, room - fresh));
    CutRuns(fresh, turn.runs);
  }

  void SetPace() {
    if (options_.arrivals) {
      RetimeStarts(*options_.arrivals, RandomSource(options_.seed, kStarts).Bits(), workload_);
      workload_.assumptions.push_back(Concat("programs start at ", options_.arrivals->rate,
                                             "/s with cv ", options_.arrivals->cv,
                                             " in the place of the file's times"));
    } else if (options_.rate_scale != 1 && !trace_.rates_are_scaled) {
      for (WorkloadProgram& program : workload_.programs) program.start /= options_.rate_scale;
    }
    if (options_.think_scale == 1) return;
    for (WorkloadProgram& program : workload_.programs) {
      for (WorkloadTurn& turn : program.turns) turn.after *= options_.think_scale;
    }
  }

  void DealTenants(int32_t count) {
    RandomSource random(options_.seed, kTenant);
    const std::vector<double> weights = ZipfSteps(count, options_.tenant_skew);
    workload_.tenants.clear();
    for (int32_t i = 0; i < count; ++i) workload_.tenants.push_back(Concat("tenant-", i));
    for (WorkloadProgram& program : workload_.programs) {
      program.tenant = static_cast<int32_t>(random.Pick(weights));
    }
  }

  void TellSessionsApart() {
    absl::flat_hash_map<std::string, int64_t> seen;
    for (WorkloadProgram& program : workload_.programs) {
      if (program.session.empty()) continue;
      const int64_t times = ++seen[program.session];
      if (times > 1) program.session = Concat(program.session, "#", times);
    }
  }

  Trace& trace_;
  Workload& workload_;
  const WorkloadOptions& options_;
};

}  // namespace

Workload ShapeTrace(Trace trace, const WorkloadOptions& options) {
  Shaper(trace, options).Run();
  return std::move(trace.workload);
}

}  // namespace holdfast
