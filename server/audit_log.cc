#include "server/audit_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <system_error>

#include "absl/strings/str_format.h"
#include "config/base/concat.h"

namespace holdfast {

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path, Log& log,
                                                         const Clock& clock) {
  std::unique_ptr<AuditLog> audit(new AuditLog(log));
  if (path.empty()) return audit;
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const int error = errno;
  if (file >= 0) close(file);
  audit->out_.open(path, std::ios::app);
  if (file < 0 || !audit->out_) {
    return absl::InvalidArgumentError(Concat("admin.audit_path: ", path, " cannot be written: ",
                                             std::generic_category().message(error)));
  }
  audit->file_.emplace(Log::Options{.format = LogFormat::kJson,
                                    .out = &audit->out_,
                                    .lines_max = std::numeric_limits<int>::max()},
                       clock);
  return audit;
}

void AuditLog::Write(const AdminAct& act) {
  const std::string key = act.key == 0 ? "" : absl::StrFormat("%08x", act.key);
  const std::string result = act.result.ok() ? "ok" : act.result.ToString();
  const auto write = [&](Log& log) {
    log.Info(
        "admin_act",
        {{"who", act.who}, {"key", key}, {"act", act.act}, {"on", act.on}, {"result", result}});
  };
  write(log_);
  if (file_) write(*file_);
}

}  // namespace holdfast
