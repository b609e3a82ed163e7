// Reading the configuration file again while the daemon serves: checked whole, then told to each
// part that can change, or to none. docs/operations.md says what takes effect.
//
// Thread: one at a time.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/metrics.h"
#include "config/daemon_config.h"
#include "server/admin.h"
#include "server/admin_auth.h"
#include "server/log.h"
#include "server/tenant_auth.h"

namespace holdfast {

class BackgroundService;           // server/background_service.h
class SchedulerGenerationService;  // server/generation_service.h
class SchedulerLoop;               // scheduler/scheduler_loop.h
class UsageService;                // server/usage_service.h
struct TenantShares;               // kvstore/kv_store_options.h

class ConfigReload final {
 public:
  struct Parts {
    TenantAuth& auth;
    AdminAuth* admin_auth;  // null: there is no port for administrators
    KvAdmin& kv_admin;
    SchedulerGenerationService& service;
    BackgroundService* background;  // null: there is none, as the next
    UsageService* usage;
    SchedulerLoop& loop;
    // Their parts of the KV cache; not OK: the file wants more of it than there is.
    std::function<absl::StatusOr<std::vector<TenantShares>>(const std::vector<TenantConfig>&)>
        shares_of;
  };

  // `running`: as it was at start. `read`: null where there is no file. `log` must outlive this.
  ConfigReload(const DaemonConfig& running, std::function<absl::StatusOr<DaemonConfig>()> read,
               Log& log, MetricsRegistry& metrics);

  // kInvalidArgument: the file's faults, one a line. kFailedPrecondition: there is no file.
  // Logs and counts what came of it.
  absl::StatusOr<ReloadView> Run(const Parts& parts);

 private:
  absl::StatusOr<ReloadView> Apply(const Parts& parts);
  static void Tell(const std::vector<TenantConfig>& tenants, std::vector<TenantShares> shares,
                   const Parts& parts);

  DaemonConfig running_;  // with what was reloaded
  const std::function<absl::StatusOr<DaemonConfig>()> read_;
  Log& log_;
  Counter applied_, refused_;
};

}  // namespace holdfast
