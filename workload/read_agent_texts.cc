#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "workload/agent_sessions.h"
#include "workload/json_row.h"
#include "workload/trace_readers.h"
#include "workload/workload_file.h"

namespace holdfast {
namespace {

using nlohmann::json;

constexpr int32_t kTokenBytes = 4, kBlockTokens = 16;
constexpr size_t kBlockBytes = size_t{kTokenBytes} * kBlockTokens;
constexpr double kStampMax = 1e9;  // seconds

int32_t TokensOfText(size_t bytes) {
  return static_cast<int32_t>((bytes + kTokenBytes - 1) / kTokenBytes);
}

struct TextCall {
  double stamp_s = 0;
  std::vector<TokenRun> runs;
  int32_t completion_tokens = 1;
};

class TextSessions final {
 public:
  TextSessions(const WorkloadOptions& options, TraceRows& rows) : options_(options), rows_(rows) {}

  absl::Status Add(const std::string& line) {
    RETURN_IF_ERROR(rows_.Read());
    const std::optional<json> row = ParseJsonRow(line);
    if (const auto reason = row ? AddCall(*row) : "bad_row") rows_.Drop(*reason);
    return absl::OkStatus();
  }

  // Every session as a program, in the order of their first lines.
  void AddPrograms() {
    for (auto& [name, calls] : sessions_) {
      std::stable_sort(calls.begin(), calls.end(),
                       [](const TextCall& a, const TextCall& b) { return a.stamp_s < b.stamp_s; });
      WorkloadProgram program{.session = name};
      for (size_t i = 0; i < calls.size(); ++i) {
        program.turns.push_back(i == 0 ? FirstTurn(calls[0]) : NextTurn(calls[i - 1], calls[i]));
      }
      rows_.programs().push_back(std::move(program));
    }
  }

 private:
  std::optional<std::string_view> AddCall(const json& row) {
    const std::optional<std::string> name = TextOf(FieldOf(row, "session"));
    const json& prompt = FieldOf(row, "prompt");
    const json& output = FieldOf(row, "output");
    if (!name || !prompt.is_string() || !output.is_string()) return "bad_row";
    const std::optional<double> stamp = NumberOf(FieldOf(row, "t_s"));
    if (!stamp || *stamp < -kStampMax || *stamp > kStampMax) return "bad_number";
    const auto& text = prompt.get_ref<const std::string&>();
    if (text.empty()) return "zero_input";
    const auto& answer = output.get_ref<const std::string&>();
    const std::optional<int32_t> completion =
        CompletionToAsk(TokensOfText(answer.size()), options_);
    if (!completion) return "zero_output";
    const auto [found, is_new] = numbers_.try_emplace(*name, sessions_.size());
    if (is_new) sessions_.emplace_back(*name, std::vector<TextCall>());
    sessions_[found->second].second.push_back({*stamp, RunsOf(text), *completion});
    return std::nullopt;
  }

  // A run for each block, the same for all texts that are equal up to its end.
  std::vector<TokenRun> RunsOf(std::string_view text) {
    std::vector<TokenRun> runs;
    runs.reserve(text.size() / kBlockBytes + 1);
    uint64_t key = 0;
    for (; !text.empty(); text.remove_prefix(std::min(text.size(), kBlockBytes))) {
      const std::string_view block = text.substr(0, kBlockBytes);
      key = XXH3_64bits_withSeed(block.data(), block.size(), key);
      runs.push_back({.id = rows_.BlockRun(key), .num_tokens = TokensOfText(block.size())});
    }
    return runs;
  }

  static WorkloadTurn FirstTurn(const TextCall& call) {
    return {.runs = call.runs, .completion_tokens = call.completion_tokens};
  }

  WorkloadTurn NextTurn(const TextCall& before, const TextCall& call) const {
    const auto first_new =
        std::mismatch(before.runs.begin(), before.runs.end(), call.runs.begin(), call.runs.end())
            .second;
    WorkloadTurn turn{.completion_tokens = call.completion_tokens};
    for (auto run = call.runs.begin(); run != first_new; ++run) turn.kept_tokens += run->num_tokens;
    turn.runs.assign(first_new, call.runs.end());
    turn.after = std::max(absl::Seconds(call.stamp_s - before.stamp_s) -
                              AnswerTime(before.completion_tokens, options_),
                          absl::ZeroDuration());
    return turn;
  }

  const WorkloadOptions& options_;
  TraceRows& rows_;
  absl::flat_hash_map<std::string, size_t> numbers_;
  std::vector<std::pair<std::string, std::vector<TextCall>>> sessions_;
};

}  // namespace

absl::StatusOr<Trace> ReadAgentTexts(LineFile& file, const WorkloadOptions& options) {
  TraceRows rows;
  TextSessions sessions(options, rows);
  RETURN_IF_ERROR(
      ForEachLine(file, rows, [&](const std::string& line) { return sessions.Add(line); }));
  sessions.AddPrograms();
  rows.Assume(Concat("a token is ", kTokenBytes, " bytes of text; prompts share what they begin ",
                     "with in common, in blocks of ", kBlockTokens,
                     " tokens; answers that are sent back count as new text"));
  rows.Assume(AnswerTimeAssumption(options));
  rows.Assume(kAllStartAtZero);
  Trace trace = std::move(rows).Finish(NameOfFile(file.path()));
  trace.knows_sharing = true;
  return trace;
}

}  // namespace holdfast
