#include "workload/workload_file.h"

#include <cmath>
#include <utility>
#include <vector>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/csv_row.h"
#include "workload/json_row.h"
#include "workload/line_file.h"
#include "workload/scenario_reader.h"
#include "workload/trace_readers.h"
#include "workload/workload_shape.h"

namespace holdfast {
namespace {

constexpr int32_t kMooncakeBlockTokens = 512, kRtpOnlineBlockTokens = 1024;
constexpr size_t kLinesLookedAt = 16;  // for the kind: the first ones may be damaged
constexpr int32_t kTenantsDealtMax = 100'000;

bool IsBetween(double value, double least, double most) { return value >= least && value <= most; }

std::optional<WorkloadKind> KindOfRow(const nlohmann::json& row) {
  const auto has = [&](const char* key) { return row.contains(key); };
  if (has("hash_ids")) {
    const bool is_measured = has("ttfb_ms") || has("total_ms") || has("shard");
    return is_measured ? WorkloadKind::kRtpOnline : WorkloadKind::kMooncake;
  }
  if (has("steps")) return WorkloadKind::kAgentSteps;
  if (has("calls") && has("repo")) return WorkloadKind::kAgentCalls;
  if (has("calls") && has("benchmark")) return WorkloadKind::kAgentLog;
  if (has("events") && has("session")) return WorkloadKind::kAgentEvents;
  if (has("prompt") && has("output") && has("t_s")) return WorkloadKind::kAgentTexts;
  if (has("messages") && has("start_s")) return WorkloadKind::kDialogues;
  if (has("token_window_s")) return WorkloadKind::kClientRates;
  return std::nullopt;
}

std::optional<WorkloadKind> KindOfHeader(const std::string& line) {
  const CsvHeader header(line);
  if (header.Find({"Request tokens"}) && header.Find({"Response tokens"})) {
    return WorkloadKind::kBurstGpt;
  }
  if (header.Find({"ContextTokens"}) && header.Find({"GeneratedTokens"})) {
    return WorkloadKind::kAzure;
  }
  return std::nullopt;
}

bool NamesPrograms(const std::string& line) { return line.starts_with("programs:"); }

// Of a file that does not say at its beginning that it is something else.
absl::StatusOr<WorkloadKind> FindKind(LineFile& file) {
  ASSIGN_OR_RETURN(const std::vector<LineFile::Line> lines, file.Peek(kLinesLookedAt));
  bool is_first = true, looks_like_json = false;
  for (const LineFile::Line& line : lines) {
    if (line.text.find_first_not_of(" \t") == std::string::npos) continue;
    if (std::exchange(is_first, false)) {
      if (const auto kind = KindOfHeader(line.text)) return *kind;
    }
    looks_like_json = looks_like_json || line.text.starts_with('{');
    const std::optional<nlohmann::json> row = ParseJsonRow(line.text);
    if (!row) continue;
    if (const auto kind = KindOfRow(*row)) return *kind;
  }
  // YAML may have a long head before its programs; its reader says what is wrong with it.
  if (!is_first && !looks_like_json) {
    for (const LineFile::Line& line : lines) {
      if (NamesPrograms(line.text) || file.path().ends_with(".yaml") ||
          file.path().ends_with(".yml") || file.path().ends_with(".scn")) {
        return WorkloadKind::kScenario;
      }
    }
  }
  return absl::InvalidArgumentError(Concat(
      file.path(),
      " is of no known kind; wanted a CSV file with BurstGPT's or Azure's "
      "columns, JSON lines of Mooncake, rtp-online, agent sessions or ServeGen clients, or a "
      "scenario in YAML with `programs:`"));
}

absl::StatusOr<Trace> ReadAs(WorkloadKind kind, LineFile& file, const WorkloadOptions& options) {
  switch (kind) {
    case WorkloadKind::kByContent:
      break;
    case WorkloadKind::kBurstGpt:
      return ReadBurstGpt(file, options);
    case WorkloadKind::kAzure:
      return ReadAzure(file, options);
    case WorkloadKind::kMooncake:
      return ReadBlockIds(file, options, kMooncakeBlockTokens);
    case WorkloadKind::kRtpOnline:
      return ReadBlockIds(file, options, kRtpOnlineBlockTokens);
    case WorkloadKind::kAgentSteps:
      return ReadAgentSteps(file, options);
    case WorkloadKind::kAgentCalls:
      return ReadAgentCalls(file, options);
    case WorkloadKind::kAgentLog:
      return ReadAgentLog(file, options);
    case WorkloadKind::kAgentEvents:
      return ReadAgentEvents(file, options);
    case WorkloadKind::kAgentTexts:
      return ReadAgentTexts(file, options);
    case WorkloadKind::kDialogues:
      return ReadDialogues(file, options);
    case WorkloadKind::kClientRates:
      return ReadClientRates(file, options);
    case WorkloadKind::kScenario:
      return ReadScenario(file, options);
  }
  return absl::InternalError("a kind of workload without a reader");
}

}  // namespace

absl::Status CheckWorkloadOptions(const WorkloadOptions& options) {
  std::vector<std::string> faults;
  const auto wants = [&](bool holds, std::string_view what) {
    if (!holds) faults.emplace_back(what);
  };
  wants(options.from >= absl::ZeroDuration() && options.until > options.from,
        "the window must begin at or after zero and end after it begins");
  wants(IsBetween(options.rate_scale, 1e-6, 1e6), "the rate scale must be from 1e-6 to 1e6");
  wants(IsBetween(options.think_scale, 0, 1e6), "the think scale must be from 0 to 1e6");
  wants(IsBetween(options.length_scale, 1e-6, 1e3), "the length scale must be from 1e-6 to 1000");
  wants(!options.context_tokens || *options.context_tokens >= 2,
        "the context must have at least 2 tokens");
  wants(options.programs_max > 0, "the limit of programs must be above 0");
  wants(!options.num_tenants || IsBetween(*options.num_tenants, 1, kTenantsDealtMax),
        Concat("tenants must be 1 to ", kTenantsDealtMax));
  wants(IsBetween(options.tenant_skew, 0, 10), "the tenants' skew must be from 0 to 10");
  wants(IsBetween(options.shared_prefix_tokens, 0, kRequestTokensMax),
        "the shared prefix must have 0 or more tokens");
  wants(IsBetween(options.shared_prefix_families, 1, kTenantsDealtMax),
        Concat("families of prefixes must be 1 to ", kTenantsDealtMax));
  wants(options.answer_base >= absl::ZeroDuration() && options.answer_base <= absl::Hours(1) &&
            IsBetween(options.answer_tokens_per_second, 1e-3, 1e9),
        "the time of an answer must be 0 s to 1 h and some tokens per second");
  if (options.arrivals) {
    if (const absl::Status check = CheckArrivalProcess(*options.arrivals); !check.ok()) {
      faults.emplace_back(check.message());
    }
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(ConcatList(faults, "; "));
}

absl::StatusOr<Workload> ReadWorkload(const std::string& path, const WorkloadOptions& options) {
  RETURN_IF_ERROR(CheckWorkloadOptions(options));
  ASSIGN_OR_RETURN(LineFile file, LineFile::Open(path));
  WorkloadKind kind = options.kind;
  if (kind == WorkloadKind::kByContent) {
    ASSIGN_OR_RETURN(kind, FindKind(file));
  }
  ASSIGN_OR_RETURN(Trace trace, ReadAs(kind, file, options));
  ASSIGN_OR_RETURN(trace.workload.counts.file_sha256, FileSha256(path));
  return ShapeTrace(std::move(trace), options);
}

}  // namespace holdfast
