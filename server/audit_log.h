// What was done to the daemon by its administration: each act a line of JSON in a file of its own,
// and a line of the daemon's log.
//
//   {"time":"...","level":"info","event":"admin_act","who":"administrator","key":"9f86d081",
//    "act":"reload","on":"","result":"ok"}
//
// Lines are written by a thread of the log's: they outlive a killed process once they are out, a
// moment later, but not the machine's loss of power.
//
// Thread: any; never blocks. Bound: 8,192 acts that wait to be written, beyond which the oldest go.
#pragma once

#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "config/base/clock.h"
#include "server/admin_act.h"
#include "server/log.h"

namespace holdfast {

class AuditLog final {
 public:
  // Appends to `path`, made readable by its owner alone; empty: there is no file. `log` and `clock`
  // must outlive this. kInvalidArgument: it cannot be written.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path, Log& log,
                                                        const Clock& clock);

  void Write(const AdminAct& act);

 private:
  explicit AuditLog(Log& log) : log_(log) {}

  Log& log_;
  std::ofstream out_;
  std::optional<Log> file_;
};

}  // namespace holdfast
