#include "workload/workload_lines.h"

#include <string>

#include "config/base/concat.h"
#include "nlohmann/json.hpp"

namespace holdfast {
namespace {

// Names may hold any text; what is not UTF-8 is written as the replacement character.
std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void WriteWorkloadLines(const Workload& workload,
                        const std::function<void(std::string_view)>& sink) {
  for (size_t index = 0; index < workload.programs.size(); ++index) {
    const WorkloadProgram& program = workload.programs[index];
    const std::string tenant = Quoted(workload.tenants[static_cast<size_t>(program.tenant)]);
    const std::string session = Quoted(program.session);
    for (size_t place = 0; place < program.turns.size(); ++place) {
      const WorkloadTurn& turn = program.turns[place];
      std::string runs;
      for (const TokenRun& run : turn.runs) {
        runs.append(Concat(runs.empty() ? "[" : ",[", run.id, ",", run.num_tokens, "]"));
      }
      const std::string tool =
          turn.tool ? Quoted(workload.tools[static_cast<size_t>(*turn.tool)]) : "null";
      const std::string patience =
          turn.patience ? Concat(",\"patience_us\":", absl::ToInt64Microseconds(*turn.patience))
                        : "";
      sink(Concat("{\"program\":", index, ",\"turn\":", place,
                  ",\"start_us\":", absl::ToInt64Microseconds(program.start),
                  ",\"after_us\":", absl::ToInt64Microseconds(turn.after), ",\"tenant\":", tenant,
                  ",\"session\":", session, ",\"offline\":", program.offline ? "true" : "false",
                  ",\"kept_tokens\":", turn.kept_tokens, ",\"runs\":[", runs,
                  "],\"completion_tokens\":", turn.completion_tokens, ",\"tool\":", tool, patience,
                  "}\n"));
    }
  }
}

}  // namespace holdfast
