#include "config/config_changes.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/functional/function_ref.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "config/daemon_config_table.h"

namespace holdfast {
namespace {

// Whether they differ; if so and it may, `running` becomes `wanted`. The slots are of one setting.
bool Differs(const Setting& setting, const SettingSlot& running, const SettingSlot& wanted) {
  return std::visit(
      [&](auto* value) {
        const auto& other = *std::get<decltype(value)>(wanted);
        if (*value == other) return false;
        if (setting.reloads) *value = other;
        return true;
      },
      running);
}

class Comparison final {
 public:
  explicit Comparison(const DaemonConfig& running, DaemonConfig wanted)
      : changes_{.config = running, .applied = {}, .waiting = {}}, wanted_(std::move(wanted)) {}

  absl::StatusOr<ConfigChanges> Make() && {
    DaemonConfig& config = changes_.config;
    // With keys there is a port for them, without there is none.
    if (config.admin.keys.empty() && !wanted_.admin.keys.empty()) {
      wanted_.admin.keys.clear();
      changes_.waiting.push_back("admin.keys");
    }
    const auto is_daemons = [](const Setting& setting) {
      return !IsTenantSetting(setting) && setting.section != "listen.tls";
    };
    CompareSettings(is_daemons, {.daemon = &config}, {.daemon = &wanted_}, "");
    if (config.listen.tls.has_value() != wanted_.listen.tls.has_value()) {
      changes_.waiting.push_back("listen.tls");
    } else if (config.listen.tls) {
      CompareSettings([](const Setting& setting) { return setting.section == "listen.tls"; },
                      {.tls = &*config.listen.tls}, {.tls = &*wanted_.listen.tls}, "");
    }
    RETURN_IF_ERROR(CompareTenants());
    return std::move(changes_);
  }

 private:
  void CompareSettings(absl::FunctionRef<bool(const Setting&)> includes,
                       const SettingOwner& running, const SettingOwner& wanted,
                       std::string_view of) {
    for (const Setting& setting : Settings()) {
      if (!includes(setting)) continue;
      if (!Differs(setting, setting.slot(running), setting.slot(wanted))) continue;
      std::string name = Concat(setting.section, ".", setting.key);
      if (!of.empty()) name = Concat(name, " of `", of, "`");
      (setting.reloads ? changes_.applied : changes_.waiting).push_back(std::move(name));
    }
  }

  absl::Status CompareTenants() {
    std::vector<TenantConfig>& tenants = changes_.config.tenants;
    // With tenants a key is needed, without it is not: that is another daemon.
    if (tenants.empty() != wanted_.tenants.empty()) {
      changes_.waiting.push_back("tenants");
      return absl::OkStatus();
    }
    const auto find = [](std::vector<TenantConfig>& in, const std::string& name) {
      return std::find_if(in.begin(), in.end(),
                          [&](const TenantConfig& tenant) { return tenant.name == name; });
    };
    for (TenantConfig& tenant : tenants) {
      const auto wanted = find(wanted_.tenants, tenant.name);
      if (wanted != wanted_.tenants.end()) {
        CompareSettings(IsTenantSetting, {.tenant = &tenant}, {.tenant = &*wanted}, tenant.name);
      } else if (!tenant.keys.empty()) {
        tenant.keys.clear();
        tenant.kv = {};
        changes_.applied.push_back(Concat("tenant `", tenant.name, "`"));
      }
    }
    for (const TenantConfig& tenant : wanted_.tenants) {
      if (find(tenants, tenant.name) == tenants.end()) {
        changes_.applied.push_back(Concat("tenant `", tenant.name, "`"));
        tenants.push_back(tenant);
      }
    }
    if (tenants.size() <= kTenantsMax) return absl::OkStatus();
    return absl::InvalidArgumentError(
        AbslView(Concat("with the new tenants there have been ", tenants.size(),
                        " since the start; at most ", kTenantsMax,
                        " can be told apart until a restart; restart to forget those that are "
                        "gone")));
  }

  ConfigChanges changes_;
  DaemonConfig wanted_;
};

}  // namespace

absl::StatusOr<ConfigChanges> ChangesOf(const DaemonConfig& running, const DaemonConfig& wanted) {
  return Comparison(running, wanted).Make();
}

}  // namespace holdfast
