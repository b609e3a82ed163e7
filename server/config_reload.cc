#include "server/config_reload.h"

#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/config_changes.h"
#include "scheduler/scheduler_loop.h"
#include "server/background_service.h"
#include "server/generation_service.h"
#include "server/usage_service.h"

namespace holdfast {
namespace {

// As much as a line of the log takes, and how many more there are.
std::string ListForLog(std::span<const std::string> names) {
  constexpr size_t kBytesMax = 900;
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (list.size() + names[i].size() > kBytesMax) {
      return Concat(list, " and ", names.size() - i, " more");
    }
    list += Concat(i == 0 ? "" : ", ", names[i]);
  }
  return list;
}

Counter ReloadCounter(MetricsRegistry& registry, const char* result) {
  return registry.AddCounter("holdfast_server_reloads_total",
                             "Times that the settings were read again while serving.",
                             {{"result", result}});
}

}  // namespace

ConfigReload::ConfigReload(const DaemonConfig& running,
                           std::function<absl::StatusOr<DaemonConfig>()> read, Log& log,
                           MetricsRegistry& metrics)
    : running_(running),
      read_(std::move(read)),
      log_(log),
      applied_(ReloadCounter(metrics, "ok")),
      refused_(ReloadCounter(metrics, "refused")) {}

absl::StatusOr<ReloadView> ConfigReload::Run(const Parts& parts) {
  absl::StatusOr<ReloadView> view = Apply(parts);
  if (view.ok()) {
    applied_.Add();
    log_.Info("reloaded", {{"applied", ListForLog(view->applied)},
                           {"wait_for_restart", ListForLog(view->waiting)}});
    return view;
  }
  refused_.Add();
  std::istringstream faults{Concat(view.status().message())};
  for (std::string fault; std::getline(faults, fault);) {
    log_.Error("reload_refused", {{"what", fault}});
  }
  return view;
}

absl::StatusOr<ReloadView> ConfigReload::Apply(const Parts& parts) {
  if (!read_) {
    return absl::FailedPreconditionError("started without --config: there is no file to read");
  }
  ASSIGN_OR_RETURN(const DaemonConfig wanted, read_());
  ASSIGN_OR_RETURN(ConfigChanges changes, ChangesOf(running_, wanted));
  const std::vector<TenantConfig>& tenants = changes.config.tenants;
  // What can fail comes first: hashes have been checked with the file.
  ASSIGN_OR_RETURN(std::vector<TenantShares> shares, parts.shares_of(tenants));
  if (parts.admin_auth != nullptr) {
    RETURN_IF_ERROR(parts.admin_auth->SetKeys(changes.config.admin.keys));
  }
  if (!tenants.empty()) Tell(tenants, std::move(shares), parts);
  log_.SetLevel(LogLevelOf(changes.config.log.level));
  running_ = std::move(changes.config);
  return ReloadView{.applied = std::move(changes.applied), .waiting = std::move(changes.waiting)};
}

// Whoever is known by a key is known to everybody behind.
void ConfigReload::Tell(const std::vector<TenantConfig>& tenants, std::vector<TenantShares> shares,
                        const Parts& parts) {
  parts.kv_admin.SetTenants(tenants);
  parts.service.SetTenants(tenants);
  if (parts.usage != nullptr) parts.usage->SetTenants(NamesOf(tenants));
  parts.loop.SetTenants(tenants, std::move(shares));
  // Begins with what a tenant has left of batches, without a key: the scheduler knows it by now.
  if (parts.background != nullptr) parts.background->AddTenants(NamesOf(tenants));
  CHECK(parts.auth.SetKeys(tenants).ok());  // the hashes have been checked with the file
}

}  // namespace holdfast
