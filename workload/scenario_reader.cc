#include "workload/scenario_reader.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/nearest_name.h"
#include "workload/arrivals.h"
#include "workload/csv_row.h"
#include "workload/workload_file.h"
#include "yaml-cpp/yaml.h"

namespace holdfast {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr size_t kFaultsMax = 100;
constexpr int64_t kNodesMax = 1'000'000;  // looked at, aliases anew each time
constexpr double kSecondsMax = 1e9;

struct TurnSpec {
  std::optional<absl::Duration> after;
  enum class Keep { kAll, kTokens } keep = Keep::kAll;
  int32_t keep_tokens = 0;
  struct Part {
    std::string run;  // empty: fresh
    int32_t tokens = 0;
  };
  std::vector<Part> prompt;
  int32_t completion_tokens = 1;
  std::string tool;
  std::optional<absl::Duration> patience;
  int64_t repeat = 1;
};

struct ProgramSpec {
  std::string tenant, session;
  bool offline = false;
  int64_t repeat = 1;
  std::vector<absl::Duration> starts;
  std::optional<ArrivalProcess> arrivals;
  absl::Duration arrivals_start;
  std::vector<TurnSpec> turns;
};

// A node with the way to it, for messages: `programs[2].turns[0].prompt`.
struct Place {
  std::string path;
  YAML::Node node;
};

int LineOf(const YAML::Node& node) { return node.Mark().line + 1; }

// Walks the tree along the schema, never deeper, and collects every fault with its line.
class ScenarioReader final {
 public:
  ScenarioReader(const std::string& file_name, const WorkloadOptions& options)
      : file_name_(file_name), options_(options) {}

  void AddFault(int line, std::string what) {  // line from 1; 0: the file as a whole
    if (faults_.size() > kFaultsMax) return;
    faults_.emplace(line, line > 0 ? Concat(file_name_, ":", line, ": ", what)
                                   : Concat(file_name_, ": ", what));
  }

  void ReadRoot(const YAML::Node& root) {
    std::map<std::string, Place> fields;
    // `simulate` and `expect` belong to those who run it.
    if (!Fields({"", root}, {"name", "tenants", "programs", "simulate", "expect"}, fields)) return;
    if (const auto name = fields.find("name"); name != fields.end()) {
      name_ = ReadName(name->second);
    }
    if (const auto tenants = fields.find("tenants"); tenants != fields.end()) {
      ForEach(tenants->second, [&](const Place& tenant) {
        if (const std::string known = ReadName(tenant); !known.empty()) {
          rows_.Tenant(known);
          known_tenants_.insert(known);
        }
      });
    }
    const auto programs = fields.find("programs");
    if (programs == fields.end()) {
      AddFault(0, "`programs` is missing: the list of who asks what");
      return;
    }
    ForEach(programs->second, [&](const Place& program) {
      ProgramSpec spec;
      const size_t faults_before = faults_.size();
      ReadProgram(program, spec);
      if (faults_.size() == faults_before) AddPrograms(program, spec);
    });
  }

  absl::StatusOr<Trace> Finish() && {
    RETURN_IF_ERROR(status_);
    if (!faults_.empty()) {
      std::vector<std::string> lines;
      for (const auto& [line, what] : faults_) lines.push_back(what);
      if (lines.size() > kFaultsMax) lines.back() = "and more";
      return absl::InvalidArgumentError(ConcatList(lines, "\n"));
    }
    Trace trace = std::move(rows_).Finish(name_.empty() ? NameOfFile(file_name_) : name_);
    trace.has_own_zero = true;
    trace.knows_sharing = true;
    return trace;
  }

 private:
  // The fields of a map by their names. False: it is none; its faults are told.
  bool Fields(const Place& place, const std::vector<std::string_view>& known,
              std::map<std::string, Place>& fields) {
    const std::string what = place.path.empty() ? "the file" : Concat("`", place.path, "`");
    if (!place.node.IsMap()) {
      AddFault(LineOf(place.node), Concat(what, " must hold `key: value` lines"));
      return false;
    }
    for (const auto& entry : place.node) {
      if (!Look()) return false;
      if (!entry.first.IsScalar()) {
        AddFault(LineOf(entry.first), Concat("a key of ", what, " must be plain text"));
        continue;
      }
      const std::string& key = entry.first.Scalar();
      const std::string path = place.path.empty() ? key : Concat(place.path, ".", key);
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        const auto nearest = NearestName(key, known);
        AddFault(LineOf(entry.first),
                 Concat("unknown key `", PlainName(path), "`; ",
                        nearest ? Concat("did you mean `", *nearest, "`?")
                                : Concat("known here: ", ConcatList(known, ", "))));
      } else if (!fields.emplace(key, Place{path, entry.second}).second) {
        AddFault(LineOf(entry.first), Concat("`", path, "` stands twice"));
      }
    }
    return true;
  }

  template <typename Use>
  void ForEach(const Place& place, Use use) {
    if (!place.node.IsSequence() || place.node.size() == 0) {
      AddFault(LineOf(place.node), Concat("`", place.path, "` must be a list and not empty"));
      return;
    }
    size_t index = 0;
    for (const YAML::Node& entry : place.node) {
      if (!Look()) return;
      use(Place{Concat(place.path, "[", index++, "]"), entry});
    }
  }

  // One more node; false when there were too many (a few aliases can stand for very many).
  bool Look() {
    if (++nodes_ <= kNodesMax && faults_.size() <= kFaultsMax && status_.ok()) return true;
    if (nodes_ == kNodesMax + 1) AddFault(0, "is too large; repeat programs with `repeat`");
    return false;
  }

  // Whether it is a single value; otherwise told.
  bool IsValue(const Place& place) {
    if (place.node.IsScalar()) return true;
    AddFault(LineOf(place.node), Concat("`", place.path, "` must be a single value"));
    return false;
  }

  void Refuse(const Place& place, std::string_view wanted) {
    AddFault(LineOf(place.node), Concat("`", place.path, "` is `", PlainName(place.node.Scalar()),
                                        "`; wanted ", wanted));
  }

  std::string ReadName(const Place& place) {
    if (!IsValue(place)) return {};
    const std::string& name = place.node.Scalar();
    if (name.empty() || PlainName(name) != name) {
      Refuse(place, Concat("1 to ", kNameBytesMax, " printable ASCII characters"));
    }
    return PlainName(name);
  }

  double ReadNumber(const Place& place, double least, double most) {
    if (!IsValue(place)) return least;
    const std::optional<double> number = ParseNumber(place.node.Scalar());
    if (number && *number >= least && *number <= most) return *number;
    Refuse(place, Concat("a number from ", least, " to ", most));
    return least;
  }

  int64_t ReadCount(const Place& place, int64_t least, int64_t most) {
    if (!IsValue(place)) return least;
    int64_t count = 0;
    if (absl::SimpleAtoi(place.node.Scalar(), &count) && count >= least && count <= most) {
      return count;
    }
    Refuse(place, Concat("a whole number from ", least, " to ", most));
    return least;
  }

  int32_t ReadTokens(const Place& place) {
    return static_cast<int32_t>(ReadCount(place, 1, kRequestTokensMax));
  }

  bool ReadFlag(const Place& place) {
    if (!IsValue(place)) return false;
    const std::string& text = place.node.Scalar();
    if (text != "true" && text != "false") Refuse(place, "true or false");
    return text == "true";
  }

  // Seconds as a plain number, or with a unit: 250ms, 2s, 1m30s.
  absl::Duration ReadTime(const Place& place) {
    if (!IsValue(place)) return absl::ZeroDuration();
    const std::string& text = place.node.Scalar();
    absl::Duration time;
    if (const std::optional<double> seconds = ParseNumber(text);
        seconds && *seconds >= 0 && *seconds <= kSecondsMax) {
      return absl::Seconds(*seconds);
    }
    if (absl::ParseDuration(text, &time) && time >= absl::ZeroDuration() &&
        time <= absl::Seconds(kSecondsMax)) {
      return time;
    }
    Refuse(place, "seconds, or a time such as 250ms or 1m30s");
    return absl::ZeroDuration();
  }

  void ReadProgram(const Place& place, ProgramSpec& spec) {
    std::map<std::string, Place> fields;
    if (!Fields(place, {"tenant", "session", "offline", "repeat", "at", "arrivals", "turns"},
                fields)) {
      return;
    }
    for (const auto& [key, field] : fields) {
      if (key == "tenant") spec.tenant = ReadTenant(field);
      if (key == "session") spec.session = ReadName(field);
      if (key == "offline") spec.offline = ReadFlag(field);
      if (key == "repeat") spec.repeat = ReadCount(field, 1, kScenarioTurnsMax);
      if (key == "at") ReadStarts(field, spec);
      if (key == "arrivals") ReadArrivals(field, spec);
      if (key == "turns") {
        ForEach(field, [&](const Place& turn) { ReadTurn(turn, spec.turns); });
      }
    }
    if (fields.count("at") + fields.count("arrivals") > 1) {
      AddFault(LineOf(place.node), Concat("`", place.path,
                                          "` has both `at` and `arrivals`; wanted "
                                          "one of them"));
    }
    if (spec.starts.size() > 1 && fields.count("repeat") > 0) {
      AddFault(LineOf(place.node), Concat("`", place.path,
                                          "` has `repeat` and a list of times; the "
                                          "list says how often"));
    }
    if (fields.count("turns") == 0) {
      AddFault(LineOf(place.node), Concat("`", place.path, ".turns` is missing"));
    }
  }

  std::string ReadTenant(const Place& place) {
    std::string name = ReadName(place);
    if (!known_tenants_.empty() && known_tenants_.count(name) == 0) {
      Refuse(place, "one of the names in `tenants`");
    }
    return name;
  }

  void ReadStarts(const Place& place, ProgramSpec& spec) {
    if (!place.node.IsSequence()) {
      spec.starts = {ReadTime(place)};
      return;
    }
    ForEach(place, [&](const Place& start) { spec.starts.push_back(ReadTime(start)); });
  }

  void ReadArrivals(const Place& place, ProgramSpec& spec) {
    std::map<std::string, Place> fields;
    if (!Fields(place, {"process", "rate", "cv", "start"}, fields)) return;
    std::string process = "poisson";
    ArrivalProcess arrivals;
    for (const auto& [key, field] : fields) {
      if (key == "rate") arrivals.rate = ReadNumber(field, 1e-9, 1e9);
      if (key == "cv") arrivals.cv = ReadNumber(field, 0, kArrivalCvMax);
      if (key == "start") spec.arrivals_start = ReadTime(field);
      if (key == "process" && IsValue(field)) {
        process = field.node.Scalar();
        if (process != "poisson" && process != "gamma" && process != "even") {
          Refuse(field, "poisson, gamma or even");
        }
      }
    }
    if (process == "even") arrivals.cv = 0;
    if (fields.count("rate") == 0) {
      AddFault(LineOf(place.node), Concat("`", place.path, ".rate` is missing: starts a second"));
    }
    if ((process == "gamma") != (fields.count("cv") > 0)) {
      AddFault(LineOf(place.node),
               Concat("`", place.path, ".cv` belongs to `process: gamma`, and it needs one"));
    }
    spec.arrivals = arrivals;
  }

  void ReadTurn(const Place& place, std::vector<TurnSpec>& turns) {
    std::map<std::string, Place> fields;
    if (!Fields(place, {"after", "keep", "prompt", "completion", "tool", "patience", "repeat"},
                fields)) {
      return;
    }
    TurnSpec turn;
    for (const auto& [key, field] : fields) {
      if (key == "after") turn.after = ReadTime(field);
      if (key == "keep") ReadKeep(field, turn);
      if (key == "prompt") ReadPrompt(field, turn);
      if (key == "completion") turn.completion_tokens = ReadTokens(field);
      if (key == "tool") turn.tool = ReadName(field);
      if (key == "patience") turn.patience = ReadTime(field);
      if (key == "repeat") turn.repeat = ReadCount(field, 1, kScenarioTurnsMax);
    }
    const bool is_first = turns.empty();
    if (is_first && turn.repeat == 1 && (turn.after || fields.count("keep") > 0)) {
      AddFault(LineOf(place.node),
               Concat("`", place.path,
                      "` is the first turn; nothing is before it to wait for or "
                      "to keep"));
    }
    if (turn.prompt.empty() &&
        (is_first || (turn.keep == TurnSpec::Keep::kTokens && turn.keep_tokens == 0))) {
      AddFault(LineOf(place.node), Concat("`", place.path, ".prompt` is missing"));
    }
    turns.push_back(std::move(turn));
  }

  void ReadKeep(const Place& place, TurnSpec& turn) {
    if (!IsValue(place) || place.node.Scalar() == "all") return;
    turn.keep = TurnSpec::Keep::kTokens;
    if (place.node.Scalar() == "none") return;
    turn.keep_tokens = static_cast<int32_t>(ReadCount(place, 0, kRequestTokensMax));
  }

  void ReadPrompt(const Place& place, TurnSpec& turn) {
    if (!place.node.IsSequence()) {
      turn.prompt.push_back({.run = {}, .tokens = ReadTokens(place)});
      return;
    }
    ForEach(place, [&](const Place& entry) {
      if (entry.node.IsScalar()) {
        turn.prompt.push_back({.run = {}, .tokens = ReadTokens(entry)});
        return;
      }
      std::map<std::string, Place> fields;
      if (!Fields(entry, {"run", "tokens"}, fields)) return;
      if (fields.size() != 2) {
        AddFault(LineOf(entry.node),
                 Concat("`", entry.path, "` needs both `run`, a name, and `tokens`"));
        return;
      }
      turn.prompt.push_back(
          {.run = ReadName(fields.at("run")), .tokens = ReadTokens(fields.at("tokens"))});
    });
  }

  // As many programs as the entry stands for.
  void AddPrograms(const Place& place, const ProgramSpec& spec) {
    int64_t num_turns = 0;  // of each, as far as it matters
    for (const TurnSpec& turn : spec.turns) {
      num_turns = std::min(num_turns + turn.repeat, kScenarioTurnsMax + 1);
    }
    const int64_t copies = std::max(spec.repeat, static_cast<int64_t>(spec.starts.size()));
    turns_left_ -= std::min(copies * num_turns, kScenarioTurnsMax + 1);
    if (turns_left_ < 0) {
      AddFault(LineOf(place.node), Concat("`", place.path, "` brings the scenario above ",
                                          kScenarioTurnsMax, " turns; wanted at most that"));
      turns_left_ = 0;
      return;
    }
    status_ = rows_.Read(copies * num_turns);
    std::vector<absl::Duration> starts = spec.starts;
    if (starts.size() <= 1 && !spec.arrivals) {
      starts.assign(static_cast<size_t>(spec.repeat),
                    starts.empty() ? absl::ZeroDuration() : starts.front());
    }
    if (spec.arrivals) {
      starts = DrawStarts(*spec.arrivals, spec.repeat, options_.seed + kGoldenGamma * num_entries_);
      for (absl::Duration& start : starts) start += spec.arrivals_start;
    }
    ++num_entries_;
    const int32_t tenant = spec.tenant.empty() ? DefaultTenant() : rows_.Tenant(spec.tenant);
    for (size_t i = 0; i < starts.size(); ++i) {
      WorkloadProgram program{
          .start = starts[i], .tenant = tenant, .session = spec.session, .offline = spec.offline};
      if (!spec.session.empty() && starts.size() > 1) {
        program.session = Concat(spec.session, "-", i + 1);
      }
      if (!AddTurns(place, spec, program)) return;
      rows_.programs().push_back(std::move(program));
    }
  }

  // The first one named, or one of its own.
  int32_t DefaultTenant() { return known_tenants_.empty() ? rows_.Tenant("default") : 0; }

  bool AddTurns(const Place& place, const ProgramSpec& spec, WorkloadProgram& program) {
    int64_t before = 0;  // prompt and completion of the turn before
    for (const TurnSpec& turn_spec : spec.turns) {
      for (int64_t i = 0; i < turn_spec.repeat; ++i) {
        WorkloadTurn turn = TurnFor(turn_spec, before, program.turns.empty());
        int64_t prompt_tokens = turn.kept_tokens;
        for (const TokenRun& run : turn.runs) prompt_tokens += run.num_tokens;
        if (turn.kept_tokens > before || prompt_tokens > kRequestTokensMax) {
          AddFault(LineOf(place.node),
                   Concat("`", place.path, ".turns`: turn ", program.turns.size() + 1,
                          turn.kept_tokens > before ? " keeps more than there is before it"
                                                    : " has too long a prompt"));
          return false;
        }
        before = prompt_tokens + turn.completion_tokens;
        program.turns.push_back(std::move(turn));
      }
    }
    return true;
  }

  WorkloadTurn TurnFor(const TurnSpec& spec, int64_t before, bool is_first) {
    WorkloadTurn turn{.completion_tokens = spec.completion_tokens, .patience = spec.patience};
    if (!is_first) {
      turn.after = spec.after.value_or(absl::ZeroDuration());
      turn.kept_tokens = spec.keep == TurnSpec::Keep::kTokens
                             ? spec.keep_tokens
                             : static_cast<int32_t>(std::min<int64_t>(before, kRequestTokensMax));
    }
    for (const TurnSpec::Part& part : spec.prompt) {
      uint64_t run = 0;
      if (part.run.empty()) {
        run = rows_.FreshRun();
      } else {
        const auto [named, is_new] = named_runs_.try_emplace(part.run, 0);
        if (is_new) named->second = rows_.FreshRun();
        run = named->second;
      }
      turn.runs.push_back({.id = run, .num_tokens = part.tokens});
    }
    if (!spec.tool.empty()) turn.tool = rows_.Tool(spec.tool);
    return turn;
  }

  const std::string& file_name_;
  const WorkloadOptions& options_;
  std::string name_;
  TraceRows rows_;
  absl::flat_hash_map<std::string, uint64_t> named_runs_;
  std::set<std::string> known_tenants_;
  uint64_t num_entries_ = 0;
  int64_t turns_left_ = kScenarioTurnsMax;
  int64_t nodes_ = 0;
  absl::Status status_;
  std::multimap<int, std::string> faults_;  // by line
};

absl::StatusOr<std::string> WholeText(LineFile& file, ScenarioReader& reader) {
  std::string text;
  bool any = false;
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<LineFile::Line> line, file.Next());
    if (!line) return text;
    if (any && (line->text.starts_with("---") || line->text.starts_with("..."))) {
      reader.AddFault(static_cast<int>(file.line_number()),
                      "holds several YAML documents; wanted one");
    }
    any = any || (!line->text.empty() && line->text[0] != '#');
    text.append(line->text).push_back('\n');
    if (line->too_long || text.size() > kFileBytesMax) {
      return absl::InvalidArgumentError(
          Concat(file.path(), " has more than ", kFileBytesMax, " bytes; wanted at most that"));
    }
    if (line->text.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          Concat(file.path(), " holds a zero byte; wanted YAML text"));
    }
  }
}

}  // namespace

absl::StatusOr<Trace> ReadScenario(LineFile& file, const WorkloadOptions& options) {
  ScenarioReader reader(file.path(), options);
  ASSIGN_OR_RETURN(const std::string text, WholeText(file, reader));
  try {  // yaml-cpp reports by exceptions; they end here
    if (const YAML::Node root = YAML::Load(text); root.IsDefined()) reader.ReadRoot(root);
  } catch (const YAML::Exception& error) {
    reader.AddFault(error.mark.is_null() ? 0 : error.mark.line + 1,
                    Concat("not YAML: ", error.msg));
  } catch (const std::exception& error) {
    reader.AddFault(0, Concat("cannot be read: ", error.what()));
  }
  return std::move(reader).Finish();
}

}  // namespace holdfast
