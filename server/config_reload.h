// Reading the configuration file again while the daemon serves: checked whole, then told to each
// part that can change, or to none. docs/operations.md says what takes effect.
//
// Thread: one at a time.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "config/base/metrics.h"
#include "config/daemon_config.h"
#include "server/admin.h"
#include "server/admin_auth.h"
#include "server/log.h"
#include "server/tenant_auth.h"

namespace holdfast {

class SchedulerGenerationService;  // server/generation_service.h
class SchedulerLoop;               // scheduler/scheduler_loop.h

class ConfigReload final {
 public:
  struct Parts {
    TenantAuth& auth;
    AdminAuth* admin_auth;  // null: there is no port for administrators
    KvAdmin& kv_admin;
    SchedulerGenerationService& service;
    SchedulerLoop& loop;
  };

  // `running`: as it was at start. `read`: null where there is no file. `log` must outlive this.
  ConfigReload(const DaemonConfig& running, std::function<absl::StatusOr<DaemonConfig>()> read,
               Log& log, MetricsRegistry& metrics);

  // kInvalidArgument: the file's faults, one a line. kFailedPrecondition: there is no file.
  // Logs and counts what came of it.
  absl::StatusOr<ReloadView> Run(const Parts& parts);

 private:
  absl::StatusOr<ReloadView> Apply(const Parts& parts);

  DaemonConfig running_;  // with what was reloaded
  const std::function<absl::StatusOr<DaemonConfig>()> read_;
  Log& log_;
  Counter applied_, refused_;
};

}  // namespace holdfast
